"""Where jobs run: `bilevel.executors.local` runs them on this machine."""

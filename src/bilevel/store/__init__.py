"""Where the records of runs are kept: `bilevel.store.sqlite` keeps them in one file."""

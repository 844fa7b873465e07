"""What a mechanism's source must pass before it joins a run."""

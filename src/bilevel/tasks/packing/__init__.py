"""Online bin packing: the candidate is the source of a priority function; README.md says more."""

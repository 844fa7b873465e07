"""A landscape fitted to the paper's twelve runs, for quick studies; README.md says what for."""

"""Studies: arms by repeats on rules written beforehand, their statistics and their report."""

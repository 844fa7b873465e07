"""Runs as people see them in a terminal: tables, panels, and a line a trial."""

"""Runs served to a coding agent over the Model Context Protocol; `server.py` lists the tools."""

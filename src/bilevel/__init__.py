"""Autoresearch that researches itself."""

__version__ = "0.1.0"

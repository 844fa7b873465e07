"""Calls and outcomes that were recorded, found again and shared between runs."""

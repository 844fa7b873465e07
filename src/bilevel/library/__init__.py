"""Mechanisms over runs: where they come from, what they did, and who is given them."""

"""Level 2: sessions with the LLM in which new mechanisms are written."""

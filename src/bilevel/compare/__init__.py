"""Many strategies on one task and one budget: made, worked out, shown."""

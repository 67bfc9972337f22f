"""A run on disk: what it was made of, what was measured, the best so far."""

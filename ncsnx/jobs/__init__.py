"""A training from start to end, of one run."""

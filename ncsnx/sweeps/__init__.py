"""Parameter sweeps: a run for each combination of values, and their comparison."""

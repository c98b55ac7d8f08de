"""Parameter sweeps: one run for each combination of values, trained, scored and compared."""

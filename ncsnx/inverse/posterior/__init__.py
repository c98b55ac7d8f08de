"""What the alternatives of a task say together: maps of the posterior, distances to the truth, calibration."""

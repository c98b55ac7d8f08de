"""What alternatives say: maps of them, distances to the truth, calibration."""

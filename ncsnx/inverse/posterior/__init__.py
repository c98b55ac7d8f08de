"""Posteriors from the alternatives of a task: maps, distances to the truth, calibration."""

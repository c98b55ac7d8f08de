"""Trainings as `ncsnx train` and `ncsnx sweep` carry them out: of one run, and of several that are compared."""

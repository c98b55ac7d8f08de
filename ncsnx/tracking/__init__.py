"""Experiment trackers: copies of a run's numbers, images and scores, kept up by one process per tracker."""

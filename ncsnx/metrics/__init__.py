"""Metrics of sets of generated images against real ones, one file each."""

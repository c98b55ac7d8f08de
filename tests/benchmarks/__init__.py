"""Benchmarks: ratios between two things in one run, alternating, never a test."""

"""Benchmarks: ratios of two alternately timed actions. They aren't tests."""

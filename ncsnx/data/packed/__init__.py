"""Packed data sets: decoded images in one memory-mapped file."""

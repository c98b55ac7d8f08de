"""Packed data sets: decoded images in one file that is memory-mapped."""

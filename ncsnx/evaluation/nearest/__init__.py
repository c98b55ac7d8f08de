"""Nearest training images of samples, and whether the samples are copies."""

"""Nearest training images of samples, and whether samples are copies of them."""

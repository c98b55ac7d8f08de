"""Noise levels: the numbers behind a schedule. Nothing here imports torch."""

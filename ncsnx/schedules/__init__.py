"""Noise levels and step sizes. Nothing here imports torch."""

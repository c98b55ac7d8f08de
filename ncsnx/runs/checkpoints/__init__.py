"""Checkpoints of a run: their files, their manifests, and retention."""

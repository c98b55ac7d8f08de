"""Checkpoints of a run: their files, their manifest, which of them stay."""

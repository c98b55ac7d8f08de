"""Evaluation: sweeps over the checkpoints of a run, references, compared samplers, nearest images."""

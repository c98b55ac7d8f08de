"""Evaluation: features, distances, references, and sweeps over the checkpoints of a run."""

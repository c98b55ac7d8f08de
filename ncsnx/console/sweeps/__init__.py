"""Views of sweeps, over the checkpoints of a run and over values of an experiment."""

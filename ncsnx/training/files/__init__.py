"""The files of a training: checkpoints, metrics, grids of samples, events for TensorBoard."""

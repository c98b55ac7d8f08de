"""Published checkpoints become checkpoints of a run: read, compared with an experiment, converted, written."""

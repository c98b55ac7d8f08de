"""The run folder: names, durable files, one writer at a time, checkpoints that are checked by hash."""

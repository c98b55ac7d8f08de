"""Run folders (names, durable files, one writer at a time, checkpoints checked by hash) and exported models."""

"""Published checkpoints in, portable models out."""

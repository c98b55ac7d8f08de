"""Import of published checkpoints and export of portable models."""

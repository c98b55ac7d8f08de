"""Sweeps over checkpoints: distances to real images, held-out losses, likelihoods."""

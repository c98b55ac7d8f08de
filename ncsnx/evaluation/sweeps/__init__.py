"""What is measured of checkpoints: distances to real images, held-out losses, likelihoods."""

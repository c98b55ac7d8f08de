"""References: statistics of the real images that generated images are compared with."""

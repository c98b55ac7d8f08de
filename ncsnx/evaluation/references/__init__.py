"""References: statistics of real images that generated ones are compared with."""

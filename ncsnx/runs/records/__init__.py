"""What commands leave in a run's folder beside its training, as documents that need no torch to be read."""

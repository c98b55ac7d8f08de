"""Rules that turn a measurement map into a likelihood score of noisy images."""

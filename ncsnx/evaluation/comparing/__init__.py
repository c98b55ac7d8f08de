"""Samplers compared on one checkpoint: quality against function evaluations."""

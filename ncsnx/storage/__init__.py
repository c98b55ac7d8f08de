"""Durable files: written whole or not at all, read within limits, strict JSON. Knows nothing of runs."""

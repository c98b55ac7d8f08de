"""Durable files: atomic writes, bounded reads, strict JSON. Independent of runs."""

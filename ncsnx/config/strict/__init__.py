"""Strict conversion between JSON values and frozen attrs classes, for experiments and for every other document."""

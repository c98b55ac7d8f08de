"""Compilation of a training: the decision, and the check before the first step."""

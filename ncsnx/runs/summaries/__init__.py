"""Summaries of runs, read quickly: without torch, and from the ends of the logs."""

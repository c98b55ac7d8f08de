"""Imports published checkpoints into a run: reads them, compares them with an experiment, converts and writes them."""

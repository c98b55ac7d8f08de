"""Downloading of data sets: the command for it, the transfer, and unpacking."""

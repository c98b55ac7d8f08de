"""Volumes: files of slices, which a data set reads one by one."""

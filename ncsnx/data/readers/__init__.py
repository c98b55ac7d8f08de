"""Readers, one for each kind of data set: from a configuration to images by index."""

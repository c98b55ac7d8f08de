"""Untrusted files of named arrays in the formats of science: HDF5, MATLAB and NIfTI."""

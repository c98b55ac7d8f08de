"""The sampling algorithms and their grids of noise levels, one file for each family."""

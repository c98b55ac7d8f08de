"""Measurements by functions of images: A and its adjoint, for operators whose SVD doesn't fit in memory."""

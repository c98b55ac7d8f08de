"""Rewrites of modules: the same function of the same tensors, computed in another order or with less memory."""

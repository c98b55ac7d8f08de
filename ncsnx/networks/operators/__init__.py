"""Operators that compiled code calls as a whole."""

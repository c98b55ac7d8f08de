"""File locks on shared file systems: whether they exist, and whether they reach other machines."""

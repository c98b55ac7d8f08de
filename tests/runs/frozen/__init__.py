"""Runs as each schema version wrote them, kept to show that they can still be used; see `__main__`."""

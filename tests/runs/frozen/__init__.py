"""Runs as each schema version wrote them, to test that they can still be used; see `__main__`."""

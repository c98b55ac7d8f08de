"""How objects show themselves in notebooks."""

"""The version of ncsnx: the one place that says it (the package's metadata are read from here)."""

__version__ = "0.1.0"

"""ncsnx: noise-conditional score networks (NCSN, NCSNv2), from typed experiments to images and numbers."""

__version__ = "0.1.0"

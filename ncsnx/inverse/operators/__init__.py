"""What measurements do to images: maps, linear ones, and those with singular values."""

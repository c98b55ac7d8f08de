"""One engine for all that is measured: what a measurement is, and what carries it out."""

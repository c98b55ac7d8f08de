"""Forms of files that models come in, one module each."""

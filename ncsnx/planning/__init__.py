"""Planning of experiments: noise levels from images, costs on this machine, and experiment files."""

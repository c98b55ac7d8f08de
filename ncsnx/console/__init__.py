"""Console output: messages, tables, progress, live views of training and sweeps. Doesn't import torch."""

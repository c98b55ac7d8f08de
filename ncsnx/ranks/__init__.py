"""Ranks: several processes that carry out one command together, usually one per GPU, by torch.distributed."""

"""Several processes that carry out one command together: ranks, as torchrun starts them.

Rank 0 alone writes runs and speaks on the console. Images are shared by index, so that no result depends on the number
of ranks by more than rounding.
"""

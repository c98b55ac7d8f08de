"""A split that stays when images are added or removed: each image is held out or not by the hash of its own name."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

_SCALE = 2**64


def held_out_by_hash(names: Sequence[str], share: float) -> Tensor:
    """(len(names),) bool: which are held out, about `share` of them, by the first 64 bits of the sha256 of each name.

    Where that holds out none of two or more, though a share is wanted, it is the one with the smallest hash.
    """
    hashes = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") for name in names]
    chosen = torch.tensor([value < share * _SCALE for value in hashes], dtype=torch.bool)
    if share > 0 and len(names) > 1 and not bool(chosen.any()):
        chosen[hashes.index(min(hashes))] = True
    return chosen

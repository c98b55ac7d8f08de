"""A split by the hash of each image's name, so that it stays the same when images are added or removed."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

_SCALE = 2**64


def held_out_by_hash(names: Sequence[str], share: float) -> Tensor:
    """(len(names),) bool: held-out images, about `share` of all, by the first 64 bits of the sha256 of each name.

    If that selects none of two or more images although `share` > 0, the image with the smallest hash is held out.
    """
    hashes = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") for name in names]
    chosen = torch.tensor([value < share * _SCALE for value in hashes], dtype=torch.bool)
    if share > 0 and len(names) > 1 and not bool(chosen.any()):
        chosen[hashes.index(min(hashes))] = True
    return chosen

"""The handwritten digits that ship with scikit-learn: 1,797 images of 8×8 pixels, grey levels 0 to 16."""

import numpy as np
import torch

from ncsnx.data import fingerprint
from ncsnx.data.dataset import Images, InMemory
from ncsnx.data.splits import Splits

HELD_OUT_MODULUS, HELD_OUT_REMAINDER = 6, 5
"""Held out is every image whose index is 5 modulo 6."""


def read_digits() -> Splits:
    """The digits, split into training and held-out images."""
    from sklearn.datasets import load_digits  # its import takes a second

    loaded = load_digits()
    values = loaded.images.astype(np.uint8)
    pixels = torch.from_numpy(values).unsqueeze(1)
    labels = torch.from_numpy(loaded.target.astype(np.int64))
    ids = torch.arange(len(pixels))
    whole = InMemory(Images(pixels, labels, ids), value_range=(0, 16))
    held_out = ids % HELD_OUT_MODULUS == HELD_OUT_REMAINDER
    mark = fingerprint.of_bytes("digits", values.tobytes(), labels.numpy().tobytes())
    return Splits(whole.subset(~held_out), whole.subset(held_out), mark)

"""The handwritten digits that ship with scikit-learn: 1,797 images of 8×8 pixels, gray levels 0 to 16."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from ncsnx.config.data_sets import Digits
from ncsnx.config.feature_networks import Classifier
from ncsnx.data.dataset import InMemory, Splits, StoredImages, numbered_classes
from ncsnx.data.places import fingerprint_of_bytes
from ncsnx.data.registry import data_set
from ncsnx.work import SILENT, Work

HELD_OUT_MODULUS, HELD_OUT_REMAINDER = 6, 5
"""Images whose index is 5 modulo 6 are held out."""


@data_set(Digits, features=Classifier())
def read_digits(data: Digits, folder: Path, work: Work = SILENT) -> Splits:
    """The digits, split into training and held-out images."""
    table = _table()
    values = table[:, :-1].reshape(-1, 8, 8).astype(np.uint8)
    pixels = torch.from_numpy(values).unsqueeze(1)
    labels = torch.from_numpy(table[:, -1].astype(np.int64))
    ids = torch.arange(len(pixels))
    whole = InMemory(StoredImages(pixels, labels, ids), value_range=(0, 16))
    held_out = ids % HELD_OUT_MODULUS == HELD_OUT_REMAINDER
    mark = fingerprint_of_bytes("digits", values.tobytes(), labels.numpy().tobytes())
    return Splits(whole.subset(~held_out), whole.subset(held_out), mark, numbered_classes(labels))


def _table() -> np.ndarray:
    """(1797, 65): the pixels of each image, and its label.

    The file is read as scikit-learn does, without importing it, which takes a second.
    """
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    return np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")

"""An opened data set: training images, held-out images and fingerprint."""

from typing import Literal

import attrs

from ncsnx.data.dataset import Dataset

Split = Literal["train", "held-out"]


@attrs.frozen(eq=False)
class Splits:
    """An opened data set."""

    train: Dataset
    held_out: Dataset
    fingerprint: str
    """sha256 (hexadecimal) of names, sizes and a sample of the bytes; no path is in it."""

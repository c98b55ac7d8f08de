"""An opened data set: training images, held-out images and fingerprint."""

from typing import Literal

import attrs

from ncsnx.data.dataset import Dataset
from ncsnx.storage.documents import document

Split = Literal["train", "held-out"]


@document("the magnitudes of a data set", sealed=True)
@attrs.frozen
class Magnitudes:
    """Measured values of training images, from which the scale and the window of unbounded data follow."""

    percentile: float
    """The smallest magnitude that 99 % of all magnitudes don't exceed, to six significant digits."""
    largest: float
    """The largest magnitude."""
    least: float
    """The smallest value; of complex data, of real and imaginary parts."""


@attrs.frozen(eq=False)
class Splits:
    """An opened data set."""

    train: Dataset
    held_out: Dataset
    fingerprint: str
    """sha256 (hexadecimal) of names, sizes and a sample of the bytes; no path is in it."""
    magnitudes: Magnitudes | None = None
    """Magnitudes of the training images; None unless the data is unbounded and leaves its scale or window open."""

"""Summary of a data set: counts, labels, channel statistics, and a contact sheet."""

import math
from collections import Counter
from itertools import chain

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from ncsnx.data.dataset import NO_LABEL, Dataset, Splits
from ncsnx.data.read_ahead import read_all
from ncsnx.errors import NcsnxError
from ncsnx.images import Window, grid, square_columns, to_uint8
from ncsnx.randomness import Purpose, Stream
from ncsnx.space import Space
from ncsnx.work import Work

_CELL_PIXELS = 256
"""Larger images are shrunk until their longer side is this on the contact sheet."""


@attrs.frozen(kw_only=True)
class Summary:
    """Statistics of a data set over both splits, of pixels as the reader returns them."""

    train: int
    held_out: int
    labels: dict[str, int]
    """Number of images by name of the class, or by label where classes have no names; empty for unlabeled data."""
    shape: tuple[int, int, int]
    """(C, H, W)."""
    dtype: str
    value_range: tuple[float, float]
    """The stored values that become 0 and 1: black and white or, in unbounded data, 0 and its scale."""
    least: float
    """Smallest stored value."""
    most: float
    """Largest stored value."""
    mean: tuple[float, ...]
    """Mean of each channel, with black 0 and white 1; of unbounded data in its own values."""
    standard_deviation: tuple[float, ...]
    """Standard deviation of each channel over all pixels, as `mean`."""
    pixel_bytes: int
    """Bytes of all pixels in their stored type."""
    fingerprint: str


def summarize(splits: Splits, space: Space, work: Work, workers: int = 0) -> Summary:
    """Reads every image once.

    Raises NcsnxError for an empty data set and for an image that can't be read.
    """
    low, high = splits.train.value_range if space.bounded else (0, 1)
    count = len(splits.train) + len(splits.held_out)
    if count == 0:
        raise NcsnxError("the data set has no images; check its files")
    sample = (splits.train if len(splits.train) else splits.held_out).read(torch.arange(1)).pixels
    sums = torch.zeros(2, splits.train.shape[0], dtype=torch.float64)  # of values and of their squares
    least, most, labels = math.inf, -math.inf, Counter[int]()
    with work.progress("reading", total=count, unit="images") as advance:
        for images in chain(read_all(splits.train, workers), read_all(splits.held_out, workers)):
            work.check_stop()
            values = images.pixels.to(torch.float64)
            least, most = min(least, float(values.min())), max(most, float(values.max()))
            unit = (values - low) / (high - low)
            sums += torch.stack([power.sum(dim=(0, 2, 3)) for power in (unit, unit * unit)])
            labels.update(label for label in images.labels.tolist() if label != NO_LABEL)
            advance(len(values))
    mean, mean_square = sums / (count * math.prod(splits.train.shape[1:]))
    # rounding can make the variance of a constant channel negative
    deviation = (mean_square - mean * mean).clamp(min=0).sqrt()
    names = splits.class_names
    return Summary(
        train=len(splits.train),
        held_out=len(splits.held_out),
        labels={names[label] if names else str(label): count for label, count in sorted(labels.items())},
        shape=splits.train.shape,
        dtype=str(sample.dtype).removeprefix("torch."),
        value_range=splits.train.value_range if space.bounded else space.own,
        least=least,
        most=most,
        mean=tuple(mean.tolist()),
        standard_deviation=tuple(deviation.tolist()),
        pixel_bytes=count * math.prod(splits.train.shape) * sample.element_size(),
        fingerprint=splits.fingerprint,
    )


def contact_sheet(split: Dataset, n: int, seed: int = 0, window: Window | None = None) -> Tensor:
    """A grid of n images (or all, if fewer) of a split, chosen by the seed: (C, H', W') uint8.

    window: stored values that are shown as black and white; None: as the data set says.
    """
    count = min(n, len(split))
    chosen = Stream(seed, Purpose.SUBSETS).choice(len(split), count, epoch=0).sort().values
    window = Window(*split.value_range) if window is None else window
    values = split.read(chosen).pixels.to(torch.float32)
    if not window.is_complex:
        values = window(values)
    height, width = values.shape[-2:]
    if (long := max(height, width)) > _CELL_PIXELS:
        cell = [max(1, round(side * _CELL_PIXELS / long)) for side in (height, width)]
        values = F.interpolate(values, size=cell, mode="bilinear", antialias=True)
    shown = window.picture(values) if window.is_complex else values
    return grid(to_uint8(shown), square_columns(count))

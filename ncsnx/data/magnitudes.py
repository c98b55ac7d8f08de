"""The scale of unbounded data: the 99th percentile of its magnitudes, exact, in two passes over any number of images.

The bits of a float32 ≥ 0, read as an integer, are in the order of the numbers. The first pass counts magnitudes by
their upper bits, the second those in the percentile's bin by their lower bits.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, TypeVar, cast

import attrs
import torch
from torch import Tensor

from ncsnx.config.data_sets import NumericData
from ncsnx.data.dataset import Dataset
from ncsnx.data.read_ahead import read_all
from ncsnx.data.splits import Magnitudes, Splits
from ncsnx.data.transforms import scale_of
from ncsnx.data.window import window_of
from ncsnx.errors import Hint, NcsnxError
from ncsnx.images import complex_parts
from ncsnx.quantities import counted, them
from ncsnx.storage import findings
from ncsnx.work import Advance, Work

PERCENTILE = 99
"""Percentile of the magnitudes that is the scale of data without a declared one."""
_FOLDER = "magnitudes"
_LOWER_BITS = 16
_DIGITS = 6  # significant digits of a measured scale

D = TypeVar("D", bound=NumericData)


def scaled_splits(splits: Splits, data: NumericData, title: str, key: Any, work: Work) -> Splits:
    """The splits for a reader of numeric data to return: with the value range (0, scale) if `data` is unbounded.

    The first time, the training images are measured for what `data` doesn't declare. splits: of attrs classes with a
    field `value_range`. title: name of the data for messages. key: JSON that tells these training images apart. Raises
    NcsnxError for NaN and infinity, and if the scale would be 0.
    """
    if data.is_bounded:
        return splits
    magnitudes = magnitudes_of(data, splits.train, title, key, work)
    limits = 0.0, scale_of(measured_data(data, magnitudes))
    train, held_out = (
        cast(Dataset, attrs.evolve(cast(Any, split), value_range=limits)) for split in (splits.train, splits.held_out)
    )
    return attrs.evolve(splits, train=train, held_out=held_out, magnitudes=magnitudes)


def magnitudes_of(data: NumericData, train: Dataset, title: str, key: Any, work: Work) -> Magnitudes | None:
    """The magnitudes of the training images, cached; None if `data` leaves nothing open. Raises as `scaled_splits`."""
    is_declared = data.scale is not None and data.window_low is not None and data.window_high is not None
    if data.is_bounded or is_declared:
        return None
    place = findings.finding_place(_FOLDER, [key, data.is_complex])
    find = partial(_measured, data.is_complex, train, title, work)
    found = findings.found(place, Magnitudes, find, f"the scale of {title}", work)
    if data.scale is None and not found.percentile > 0:
        what = f"{PERCENTILE} % of the values of the training images are 0"
        if not found.largest > 0:
            raise NcsnxError(f"{title}: all values of the training images are 0, so there is nothing to learn")
        raise NcsnxError(f"{title}: {what}", Hint("declare the scale", adds=f"data.scale={found.largest:g}"))
    return found


def measured_data(data: D, magnitudes: Magnitudes | None) -> D:
    """The data set with its measured scale and window in place of what it leaves open."""
    if magnitudes is None:
        return data
    scaled = attrs.evolve(data, scale=magnitudes.percentile if data.scale is None else data.scale)
    white = scaled.window_high
    if scaled.window_low is None and magnitudes.least >= 0 and (white is None or white > 0):
        scaled = attrs.evolve(scaled, window_low=0.0)
    window = window_of(scaled)
    return attrs.evolve(scaled, window_low=window.low, window_high=window.high)


def magnitude(values: Tensor, is_complex: bool) -> Tensor:
    """|v| of (N, C, H, W) in the type of the values; of complex data (N, C/2, H, W), from pairs of channels."""
    if not is_complex:
        return values.abs()
    return torch.hypot(*complex_parts(values)).clamp(max=torch.finfo(values.dtype).max)


def _measured(is_complex: bool, train: Dataset, title: str, work: Work) -> Magnitudes:
    with work.progress(f"measuring {title} in two passes", total=2 * len(train), unit="images") as advance:
        upper, least = _coarse(_all_values(train, work, advance), is_complex, title)
        rank = math.ceil(int(upper.sum()) * PERCENTILE / 100)  # of the percentile among all magnitudes, from 1
        chosen = int(torch.searchsorted(upper.cumsum(0), rank))
        lower, largest = _fine(_all_values(train, work, advance), is_complex, chosen)
    within = int(torch.searchsorted(lower.cumsum(0), rank - int(upper[:chosen].sum())))
    percentile = _number(chosen << _LOWER_BITS | within)
    return Magnitudes(float(f"{percentile:.{_DIGITS}g}"), _number(largest), least)


def _coarse(batches: Iterator[Tensor], is_complex: bool, title: str) -> tuple[Tensor, float]:
    """Counts of magnitudes by their upper bits, and the least value. Raises NcsnxError for NaN and infinity."""
    least, no_numbers = math.inf, 0
    counts = torch.zeros(2 ** (31 - _LOWER_BITS), dtype=torch.int64)
    for values in batches:
        no_numbers += int((~torch.isfinite(values)).sum())
        if no_numbers == 0:
            counts += torch.bincount(_bits(values, is_complex) >> _LOWER_BITS, minlength=len(counts))
            least = min(least, float(values.min()))
    if no_numbers:
        found = counted(no_numbers, "NaN or infinite value")
        raise NcsnxError(f"{title}: expected finite values, found {found}; replace {them(no_numbers)}")
    return counts, least


def _fine(batches: Iterator[Tensor], is_complex: bool, chosen: int) -> tuple[Tensor, int]:
    """Counts by their lower bits of magnitudes whose upper bits are `chosen`, and the bits of the largest one."""
    largest = 0
    counts = torch.zeros(2**_LOWER_BITS, dtype=torch.int64)
    for values in batches:
        bits = _bits(values, is_complex)
        largest = max(largest, int(bits.max()))
        counts += torch.bincount(bits[bits >> _LOWER_BITS == chosen] & (2**_LOWER_BITS - 1), minlength=len(counts))
    return counts, largest


def _all_values(train: Dataset, work: Work, advance: Advance) -> Iterator[Tensor]:
    """The values of all images, (n, C, H, W) float32."""
    for images in read_all(train):
        work.check_stop()
        yield images.pixels.float()
        advance(len(images.pixels))


def _bits(values: Tensor, is_complex: bool) -> Tensor:
    """The bits of the magnitudes, (M,) int64."""
    return magnitude(values, is_complex).flatten().contiguous().view(torch.int32).long()


def _number(bits: int) -> float:
    return float(torch.tensor(bits, dtype=torch.int32).view(torch.float32))

"""Values of arrays that are checked block by block: finite ones, within the range that is declared."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import attrs
import numpy as np
import torch
from torch import Tensor

from ncsnx.config.data_sets import Arrays, Volumes
from ncsnx.data.transforms import real_parts
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted, them
from ncsnx.storage.cache import cached, finding_place
from ncsnx.storage.documents import document
from ncsnx.work import SILENT, Work

_FOLDER = "ranges"
_BLOCK_VALUES = 2**22  # values that are scanned at once
_USED_SHARE = 0.02  # of the declared range; if the values use less, the range is probably wrong


class ScannedArray(Protocol):
    """Values that are checked block by block."""

    @property
    def path(self) -> Path:
        """The file or folder."""

    @property
    def name(self) -> str | None:
        """Name that tells these values apart from others in the file."""

    @property
    def title(self) -> str:
        """File and array name, for messages."""

    @property
    def shape(self) -> tuple[int, ...]:
        """All axes, images first."""

    def block(self, start: int, stop: int) -> Tensor:
        """(stop − start, …): consecutive entries along the first axis."""

    def place(self, index: int) -> str:
        """The image at an index, for messages."""


@document("the statistics of an array", sealed=True)
@attrs.frozen
class Values:
    """Statistics of an array's values."""

    count: int
    no_numbers: int
    """Number of NaN or infinite values."""
    least: float
    """Smallest finite value; 0 if there is none."""
    most: float
    """Largest finite value; 0 if there is none."""
    whole: bool
    """Whether the type is an integer type."""


def values_of(array: ScannedArray, mark: str, work: Work) -> Values:
    """Statistics of the array's values, cached. mark: the fingerprint of its file."""
    place = finding_place(_FOLDER, array_key(array, mark))
    return cached(place, Values, partial(_scanned, array, work), f"the scan of {array.title}", work)


def array_key(array: ScannedArray, mark: str) -> list[Any]:
    """JSON that identifies the values of an array. mark: the fingerprint of its file."""
    # the modification time is in it: a changed value may be outside the fingerprint's sample
    return [mark, array.path.stat().st_mtime_ns, array.name]


def usual_range(array: ScannedArray, values: Values) -> tuple[float, float] | None:
    """(black, white) for an array without a declared range: a usual range that contains its values.

    Integers: [0, 1], or [0, 2^bits − 1] with 8, 10, 12, 14 or 16 bits, else their own range. Floating-point numbers:
    [0, 1], [−1, 1] or [0, 255], else None: they are unbounded. Raises NcsnxError for NaN or infinity, and if all values
    are equal.
    """
    _check_numbers(array, values)
    whole = tuple((0.0, float(most)) for most in (1, 255, 1023, 4095, 16383, 65535))
    for low, high in whole if values.whole else ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        if low <= values.least and values.most <= high:
            return low, high
    if values.least == values.most:
        raise NcsnxError(f"{array.title}: expected different values, found only {values.least:g}")
    return (values.least, values.most) if values.whole else None


def check_values(array: ScannedArray, data: Arrays | Volumes, mark: str, work: Work) -> None:
    """Raises NcsnxError unless all values are finite and, if `data` is bounded, in the declared range.

    Warns if they hardly use it.
    """
    values = values_of(array, mark, work)
    _check_numbers(array, values, work)
    if not data.is_bounded:
        return
    span = f"from {values.least:.9g} to {values.most:.9g}"
    declare = f"data.low={values.least:.9g} data.high={values.most:.9g}"
    # bounds are rounded like values: a float32 may be slightly beyond the declared double
    low, high = (float(np.float32(bound)) if not values.whole else bound for bound in (data.low, data.high))
    if values.least < low or values.most > high:
        outside = sum(int(((block < low) | (block > high)).sum()) for block in _blocks(array, work))
        raise NcsnxError(
            f"{array.title}: found {outside:,} of {counted(values.count, 'value')} outside the declared range, "
            f"low={data.low:.9g} to high={data.high:.9g}; the values are {span}; declare {declare}, or a wider range; "
            "or keep values that have no bounds as they are, with data.range=unbounded"
        )
    if 0 < values.most - values.least < _USED_SHARE * (data.high - data.low):
        work.warning(
            f"{array.title}: its values, {span}, use a small part of the declared range, low={data.low:.9g} to "
            f"high={data.high:.9g}; should it be {declare}?"
        )


def _check_numbers(array: ScannedArray, values: Values, work: Work = SILENT) -> None:
    if not values.no_numbers:
        return
    found, images = counted(values.no_numbers, "NaN or infinite value"), 0
    for block in _blocks(array, work):
        wrong = (~torch.isfinite(block)).flatten(1).any(dim=1).nonzero()
        if len(wrong):
            found += f", the first in {array.place(images + int(wrong[0]))}"
            break
        images += len(block)
    raise NcsnxError(f"{array.title}: expected finite values, found {found}; replace {them(values.no_numbers)}")


def _scanned(array: ScannedArray, work: Work) -> Values:
    count = no_numbers = 0
    least, most, whole = math.inf, -math.inf, False
    for block in _blocks(array, work):
        numbers = block[torch.isfinite(block)].double()
        whole = not block.is_floating_point()
        count += block.numel()
        no_numbers += block.numel() - len(numbers)
        if len(numbers):
            least, most = min(least, float(numbers.min())), max(most, float(numbers.max()))
    if no_numbers == count:
        least = most = 0.0
    return Values(count, no_numbers, least, most, whole)


def _blocks(array: ScannedArray, work: Work) -> Iterator[Tensor]:
    """The whole array in blocks of images, with progress."""
    count, each = array.shape[0], math.prod(array.shape[1:])
    step = max(1, _BLOCK_VALUES // max(1, each))
    with work.progress(f"scanning {array.path.name}", total=count, unit="images") as advance:
        for start in range(0, count, step):
            work.check_stop()
            values = array.block(start, min(start + step, count))
            yield real_parts(values)
            advance(len(values))

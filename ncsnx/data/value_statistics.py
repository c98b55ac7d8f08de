"""Statistics of numeric data, cached: whether its values are finite and in their declared range, and their scale.

All values are checked, block by block. The scale of unbounded data is the 99th percentile of the magnitudes of a seeded
sample of its training images.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import attrs
import numpy as np
import torch
from torch import Tensor

from ncsnx.config.data_sets import Arrays, NumericData, Volumes
from ncsnx.config.variants import OMITTED
from ncsnx.data.dataset import Dataset, Magnitudes, Splits
from ncsnx.data.transforms import real_parts, scale_of, window_of
from ncsnx.errors import Hint, NcsnxError
from ncsnx.images import complex_parts
from ncsnx.quantities import counted, them
from ncsnx.randomness import Purpose, Stream
from ncsnx.storage.cache import cached, finding_place
from ncsnx.storage.documents import document
from ncsnx.work import Work

PERCENTILE = 99
"""Percentile of the magnitudes that is the scale of data without a declared one."""

_BLOCK_VALUES = 2**22  # values that are scanned at once
_USED_SHARE = 0.02  # of the declared range; if the values use less, the range is probably wrong
_MOST_VALUES, _FEWEST_IMAGES = 2**25, 64  # that are measured
_DIGITS = 6  # significant digits of a measured scale

D = TypeVar("D", bound=NumericData)


@attrs.frozen(eq=False, kw_only=True)
class ValueBlocks:
    """The values of a whole data set, to be checked block by block."""

    path: Path
    """The file or folder."""
    title: str
    """Name for messages."""
    key: list[Any]
    """JSON that tells these values apart. It has times of modification: a changed value may be outside the sample of
    the fingerprint."""
    shape: tuple[int, ...]
    """All axes, images first."""
    block: Callable[[int, int], Tensor]
    """(start, stop) → (stop − start, …): consecutive images."""
    place: Callable[[int], str]
    """Index of an image → its name for messages."""

    def read(self, work: Work) -> Iterator[Tensor]:
        """All values in blocks of images, with progress; complex ones with their parts in a further, last axis."""
        count, per_image = self.shape[0], math.prod(self.shape[1:])
        step = max(1, _BLOCK_VALUES // max(1, per_image))
        with work.progress(f"scanning {self.path.name}", total=count, unit="images") as advance:
            for start in range(0, count, step):
                work.check_stop()
                values = self.block(start, min(start + step, count))
                yield real_parts(values)
                advance(len(values))


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
    first_wrong: int | None = attrs.field(default=None, metadata=OMITTED)
    """Index of the first image with NaN or infinity."""


def values_of(blocks: ValueBlocks, work: Work) -> Values:
    """Statistics of the values, cached. Raises NcsnxError for NaN and infinity."""
    place = finding_place("ranges", blocks.key)
    values = cached(place, Values, partial(_scanned, blocks, work), f"the scan of {blocks.title}", work)
    if values.no_numbers:
        found = counted(values.no_numbers, "NaN or infinite value")
        first = "" if values.first_wrong is None else f", the first in {blocks.place(values.first_wrong)}"
        advice = f"replace {them(values.no_numbers)}"
        raise NcsnxError(f"{blocks.title}: expected finite values, found {found}{first}; {advice}")
    return values


def usual_range(title: str, values: Values) -> tuple[float, float] | None:
    """(black, white) for an array without a declared range: a usual range that contains its values.

    Integers: [0, 1], or [0, 2^bits − 1] with 8, 10, 12, 14 or 16 bits, else their own range. Floating-point numbers:
    [0, 1], [−1, 1] or [0, 255], else None: they are unbounded. Raises NcsnxError if all values are equal.
    """
    whole = tuple((0.0, float(most)) for most in (1, 255, 1023, 4095, 16383, 65535))
    for low, high in whole if values.whole else ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        if low <= values.least and values.most <= high:
            return low, high
    if values.least == values.most:
        raise NcsnxError(f"{title}: expected different values, found only {values.least:g}")
    return (values.least, values.most) if values.whole else None


def check_values(blocks: ValueBlocks, data: Arrays | Volumes, work: Work) -> None:
    """Raises NcsnxError unless all values are finite and, if `data` is bounded, in the declared range.

    Warns if they hardly use it.
    """
    values = values_of(blocks, work)
    if not data.is_bounded:
        return
    span = f"from {values.least:.9g} to {values.most:.9g}"
    declare = f"data.low={values.least:.9g} data.high={values.most:.9g}"
    declared = f"low={data.low:.9g} to high={data.high:.9g}"
    # bounds are rounded like values: a float32 may be slightly beyond the declared double
    low, high = (float(np.float32(bound)) if not values.whole else bound for bound in (data.low, data.high))
    if values.least < low or values.most > high:
        outside = sum(int(((block < low) | (block > high)).sum()) for block in blocks.read(work))
        raise NcsnxError(
            f"{blocks.title}: found {outside:,} of {counted(values.count, 'value')} outside the declared range, "
            f"{declared}; the values are {span}; declare {declare}, or a wider range; or keep values that have no "
            "bounds as they are, with data.range=unbounded"
        )
    if 0 < values.most - values.least < _USED_SHARE * (data.high - data.low):
        work.warning(
            f"{blocks.title}: its values, {span}, use a small part of the declared range, {declared}; should it be "
            f"{declare}?"
        )


def _scanned(blocks: ValueBlocks, work: Work) -> Values:
    count = no_numbers = images = 0
    least, most, whole, first_wrong = math.inf, -math.inf, False, None
    for block in blocks.read(work):
        finite = torch.isfinite(block)
        numbers = block[finite].double()
        whole = not block.is_floating_point()
        if len(numbers) < block.numel() and first_wrong is None:
            first_wrong = images + int((~finite).flatten(1).any(dim=1).nonzero()[0])
        count += block.numel()
        images += len(block)
        no_numbers += block.numel() - len(numbers)
        if len(numbers):
            least, most = min(least, float(numbers.min())), max(most, float(numbers.max()))
    if no_numbers == count:
        least = most = 0.0
    return Values(count, no_numbers, least, most, whole, first_wrong)


def scaled_splits(splits: Splits, data: NumericData, title: str, key: Any, work: Work) -> Splits:
    """The splits for a reader of numeric data to return: with the value range (0, scale) if `data` is unbounded.

    The first time, a sample of the training images is measured for what `data` doesn't declare. splits: of attrs
    classes with a field `value_range`. title: name of the data for messages. key: JSON that tells these training images
    apart. Raises NcsnxError if the scale would be 0.
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
    """Magnitudes of training images, cached; None if `data` leaves nothing open. Raises as `scaled_splits`."""
    is_declared = data.scale is not None and data.window_low is not None and data.window_high is not None
    if data.is_bounded or is_declared:
        return None
    place = finding_place("magnitudes", [key, data.is_complex])
    measure = partial(_measured, data.is_complex, train, title, work)
    magnitudes = cached(place, Magnitudes, measure, f"the scale of {title}", work)
    if data.scale is None and not magnitudes.percentile > 0:
        if not magnitudes.largest > 0:
            raise NcsnxError(f"{title}: all values of the training images are 0, so there is nothing to learn")
        raise NcsnxError(
            f"{title}: {PERCENTILE} % of the values of the training images are 0",
            Hint("declare the scale", adds=f"data.scale={magnitudes.largest:g}"),
        )
    return magnitudes


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


def _measured(is_complex: bool, train: Dataset, title: str, work: Work) -> Magnitudes:
    """Magnitudes of all images, if they have at most 2^25 values, else of a random sample."""
    most = max(_FEWEST_IMAGES, _MOST_VALUES // math.prod(train.shape))
    chosen = Stream(0, Purpose.SUBSETS).permutation(len(train), 0)[:most].sort().values
    magnitudes, least = [], math.inf
    with work.progress(f"measuring {title}", total=len(chosen), unit="images") as advance:
        for indices in torch.split(chosen, 16):
            work.check_stop()
            values = train.read(indices).pixels.float()
            least = min(least, float(values.min()))
            magnitudes.append(_magnitude(values, is_complex).flatten())
            advance(len(indices))
    joined = torch.cat(magnitudes)
    percentile = float(joined.kthvalue(math.ceil(len(joined) * PERCENTILE / 100)).values)
    return Magnitudes(float(f"{percentile:.{_DIGITS}g}"), float(joined.max()), least)


def _magnitude(values: Tensor, is_complex: bool) -> Tensor:
    """|v| of (N, C, H, W) in the type of the values; of complex data (N, C/2, H, W), from pairs of channels."""
    if not is_complex:
        return values.abs()
    return torch.hypot(*complex_parts(values)).clamp(max=torch.finfo(values.dtype).max)

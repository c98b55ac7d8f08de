"""The scale of unbounded data: the 99th percentile of the magnitudes of a seeded sample of its training images."""

import math
from functools import partial
from typing import Any, TypeVar, cast

import attrs
import torch
from torch import Tensor

from ncsnx.config.data_sets import NumericData
from ncsnx.data.dataset import Dataset
from ncsnx.data.splits import Magnitudes, Splits
from ncsnx.data.transforms import scale_of
from ncsnx.data.window import window_of
from ncsnx.errors import Hint, NcsnxError
from ncsnx.images import complex_parts
from ncsnx.quantities import counted, them
from ncsnx.randomness import Purpose, Stream
from ncsnx.storage import findings
from ncsnx.work import Work

PERCENTILE = 99
"""Percentile of the magnitudes that is the scale of data without a declared one."""
_FOLDER = "magnitudes"
_MOST_VALUES, _FEWEST_IMAGES = 2**25, 64
_DIGITS = 6  # significant digits of a measured scale

D = TypeVar("D", bound=NumericData)


def scaled_splits(splits: Splits, data: NumericData, title: str, key: Any, work: Work) -> Splits:
    """The splits for a reader of numeric data to return: with the value range (0, scale) if `data` is unbounded.

    The first time, a sample of the training images is measured for what `data` doesn't declare. splits: of attrs
    classes with a field `value_range`. title: name of the data for messages. key: JSON that tells these training images
    apart. Raises NcsnxError for NaN and infinity, and if the scale would be 0.
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
    place = findings.finding_place(_FOLDER, [key, data.is_complex])
    measure = partial(_measured, data.is_complex, train, title, work)
    magnitudes = findings.found(place, Magnitudes, measure, f"the scale of {title}", work)
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
    magnitudes, least, no_numbers = [], math.inf, 0
    with work.progress(f"measuring {title}", total=len(chosen), unit="images") as advance:
        for indices in torch.split(chosen, 16):
            work.check_stop()
            values = train.read(indices).pixels.float()
            no_numbers += int((~torch.isfinite(values)).sum())
            least = min(least, float(values.min()))
            magnitudes.append(_magnitude(values, is_complex).flatten())
            advance(len(indices))
    if no_numbers:
        found = counted(no_numbers, "NaN or infinite value")
        raise NcsnxError(f"{title}: expected finite values, found {found}; replace {them(no_numbers)}")
    joined = torch.cat(magnitudes)
    percentile = float(joined.kthvalue(math.ceil(len(joined) * PERCENTILE / 100)).values)
    return Magnitudes(float(f"{percentile:.{_DIGITS}g}"), float(joined.max()), least)


def _magnitude(values: Tensor, is_complex: bool) -> Tensor:
    """|v| of (N, C, H, W) in the type of the values; of complex data (N, C/2, H, W), from pairs of channels."""
    if not is_complex:
        return values.abs()
    return torch.hypot(*complex_parts(values)).clamp(max=torch.finfo(values.dtype).max)

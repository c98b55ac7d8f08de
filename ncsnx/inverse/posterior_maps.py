"""posterior.safetensors: mean, deviation and quantiles of the alternatives of each picture, pixel by pixel.

Tensors (P, C, H, W) float32 in the data's own values: `mean`; `deviation`, the standard deviation with n − 1 in the
denominator (NaN for a single alternative); and `quantile_2.5` … `quantile_97.5`, in per cent. The quantiles bound the
central 50, 80 and 95 % and include the median. The quantile p of n sorted values is the value at rank p (n + 1),
interpolated ("weibull" in NumPy, Hyndman & Fan 1996, type 6): another draw from the same distribution is below the
value of rank k with probability k / (n + 1). Ranks below 1 and above n give the smallest and the largest value, so with
fewer than 39 alternatives the outermost quantiles are these.

For complex data the channels are real and imaginary parts, and the same summaries of the magnitudes follow, (P, C/2, H,
W): `magnitude_mean`, `magnitude_deviation`, and `magnitude_quantile_2.5` … `magnitude_quantile_97.5`. The mean of the
magnitudes is larger than the magnitude of the mean where the phase is uncertain.

The one entry of metadata, `posterior`, is JSON that says so: number of alternatives, own values of black and white,
and the sha256 of the samples.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ncsnx.config.codec import canonical
from ncsnx.errors import NcsnxError
from ncsnx.inverse.alternatives import Alternatives
from ncsnx.inverse.values import ValueRange
from ncsnx.runs.checkpoint import header_bytes
from ncsnx.storage.atomic import replacement

POSTERIOR_FILE = "posterior.safetensors"
QUANTILES = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
_MAGNITUDE = "magnitude_"
_PART_BYTES = 2**23
"""Values of pixels that are summarized at once; several times that is in memory."""

Sorted = NDArray[np.float32]
"""Values (V, n) of V pixels in n alternatives, as sampled, ascending along the second axis."""
PartWatch = Callable[[slice, Sorted], None]
"""Gets places in the flattened image of a picture, and the sorted values there."""


@attrs.frozen(kw_only=True, eq=False)
class PosteriorMaps:
    """Summaries of the alternatives of P pictures; tensors (P, C, H, W) float32 in the data's own values."""

    mean: Tensor
    deviation: Tensor
    """Standard deviation, with n − 1 in the denominator; NaN for a single alternative."""
    quantiles: dict[float, Tensor]
    """Quantiles by probability: 0.025, 0.1, 0.25, 0.5, 0.75, 0.9 and 0.975."""
    alternatives: int
    """n, the number of alternatives per picture."""
    low: float
    """Own value of black."""
    high: float
    """Own value of white."""
    magnitude: "MagnitudeMaps | None" = None
    """The same maps of the magnitudes; None unless the data is complex."""


@attrs.frozen(kw_only=True, eq=False)
class MagnitudeMaps:
    """Summaries of the magnitudes of complex alternatives; tensors (P, C/2, H, W) float32 in the data's own values."""

    mean: Tensor
    deviation: Tensor
    """Standard deviation, with n − 1 in the denominator; NaN for a single alternative."""
    quantiles: dict[float, Tensor]
    """Quantiles by probability, as in `PosteriorMaps`."""


def read_posterior(path: Path) -> PosteriorMaps:
    """The maps of a posterior.safetensors, on the CPU. Raises NcsnxError."""
    try:
        with safe_open(path, "pt") as file:
            said = json.loads(file.metadata()["posterior"])
            return PosteriorMaps(
                **_tensors(file, ""),
                magnitude=MagnitudeMaps(**_tensors(file, _MAGNITUDE)) if said["complex"] else None,
                alternatives=said["alternatives"],
                low=said["low"],
                high=said["high"],
            )
    except (OSError, SafetensorError, ValueError, TypeError, LookupError) as error:
        raise NcsnxError(f"cannot read {path} as maps of a posterior: {error}; restore the pictures again") from error


def _tensors(file: Any, prefix: str) -> dict[str, Any]:
    """Mean, deviation and quantiles whose names begin so."""
    return {
        "mean": file.get_tensor(f"{prefix}mean"),
        "deviation": file.get_tensor(f"{prefix}deviation"),
        "quantiles": {share: file.get_tensor(f"{prefix}{_name(share)}") for share in QUANTILES},
    }


def write_posterior(
    path: Path,
    images: Sequence[Alternatives],
    own: ValueRange,
    samples_sha256: str,
    *,
    watch: Callable[[int], PartWatch] = lambda picture: lambda pixels, ordered: None,
    check_stop: Callable[[], None] = lambda: None,
) -> str:
    """Writes the file for the alternatives of each picture, part by part, and returns its sha256.

    watch: gets the index of a picture, and returns what sees each part of it. check_stop: called before each part;
    raises to stop, which leaves an earlier file as it was. Raises NcsnxError.
    """
    channels, *size = images[0].shape
    names = ["mean", "deviation", *map(_name, QUANTILES)]
    shapes = {name: [len(images), channels, *size] for name in names}
    if own.is_complex:
        shapes |= {f"{_MAGNITUDE}{name}": [len(images), channels // 2, *size] for name in names}
    header = _header(shapes, _facts(images[0].count, own, samples_sha256))
    start = len(header)
    with replacement(path, start + sum(map(_bytes_of, shapes.values()))) as file:

        def write(summaries: Sequence[NDArray[np.float64]], begin: int, apart: int) -> None:
            for number, row in enumerate(summaries):
                file.seek(begin + number * apart)
                file.write(row.astype("<f4").tobytes())

        file.write(header)
        each = math.prod(images[0].shape)
        apart = 4 * len(images) * each
        for picture, alternatives in enumerate(images):
            seen = watch(picture)
            for pixels, values in alternatives.by_pixel(_PART_BYTES):
                check_stop()
                ordered = np.sort(values.numpy().T, axis=1)
                seen(pixels, ordered)
                write(_summaries(ordered, own), start + 4 * (picture * each + pixels.start), apart)
            for pixels, values in alternatives.magnitudes(_PART_BYTES) if own.is_complex else ():
                check_stop()
                begin = start + len(names) * apart + 4 * (picture * each // 2 + pixels.start)
                write(_summaries(np.sort(values.numpy().T, axis=1), own), begin, apart // 2)
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _summaries(ordered: Sorted, own: ValueRange) -> list[NDArray[np.float64]]:
    """Mean, deviation and quantiles in own values, each (V,)."""
    values = ordered.astype(np.float64)
    count = values.shape[1]
    slope, start = (own.high - own.low, own.low) if own.is_bounded else (1.0, 0.0)
    mean = values.mean(axis=1)
    squares = np.square(values - mean[:, None]).sum(axis=1)
    deviation = np.sqrt(squares / (count - 1)) if count > 1 else np.full_like(mean, np.nan)
    quantiles = [start + slope * _quantile(values, share) for share in QUANTILES]
    return [start + slope * mean, slope * deviation, *quantiles]


def _quantile(values: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    count = values.shape[1]
    place = min(max(share * (count + 1) - 1, 0.0), count - 1.0)
    below = min(int(place), max(count - 2, 0))
    above = min(below + 1, count - 1)
    found: NDArray[np.float64] = values[:, below] + (place - below) * (values[:, above] - values[:, below])
    return found


def _name(share: float) -> str:
    return f"quantile_{100 * share:g}"


def _facts(count: int, own: ValueRange, samples_sha256: str) -> dict[str, Any]:
    return {
        "alternatives": count,
        "bounded": own.is_bounded,
        "complex": own.is_complex,
        "deviation_ddof": 1,
        "high": own.high,
        "low": own.low,
        "quantile_method": "weibull",
        "quantiles": {_name(share): share for share in QUANTILES},
        "samples_sha256": samples_sha256,
    }


def _bytes_of(shape: Sequence[int]) -> int:
    return 4 * math.prod(shape)


def _header(shapes: dict[str, list[int]], facts: dict[str, Any]) -> bytes:
    """Length and header of the file, with one entry of metadata, so that equal contents give equal files."""
    entries: dict[str, dict[str, Any]] = {"__metadata__": {"posterior": canonical(facts).decode()}}
    begin = 0
    for name, shape in shapes.items():
        end = begin + _bytes_of(shape)
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
        begin = end
    return header_bytes(entries)

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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ncsnx.config.codec import canonical
from ncsnx.errors import NcsnxError
from ncsnx.images import complex_parts
from ncsnx.inverse.values import LazyStack, ValueRange
from ncsnx.runs.checkpoint import header_bytes
from ncsnx.storage.atomic import replacement

POSTERIOR_FILE = "posterior.safetensors"
QUANTILES = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
_MAGNITUDE = "magnitude_"
_PART_BYTES = 2**23
"""Values of pixels that are sorted and summarized at once; several times that is in memory."""


@attrs.frozen(kw_only=True, eq=False)
class PixelMaps:
    """Summaries of alternatives, pixel by pixel; tensors (P, C, H, W) float32 in the data's own values."""

    mean: Tensor
    deviation: Tensor
    """Standard deviation, with n − 1 in the denominator; NaN for a single alternative."""
    quantiles: dict[float, Tensor]
    """Quantiles by probability: 0.025, 0.1, 0.25, 0.5, 0.75, 0.9 and 0.975."""


@attrs.frozen(kw_only=True, eq=False)
class PosteriorMaps(PixelMaps):
    """The maps in the posterior.safetensors of P pictures."""

    alternatives: int
    """n, the number of alternatives per picture."""
    low: float
    """Own value of black."""
    high: float
    """Own value of white."""
    magnitude: PixelMaps | None = None
    """The maps of the magnitudes, (P, C/2, H, W); None unless the data is complex."""


def read_posterior(path: Path) -> PosteriorMaps:
    """The maps of a posterior.safetensors, on the CPU. Raises NcsnxError."""
    try:
        with safe_open(path, "pt") as file:
            said = json.loads(file.metadata()["posterior"])
            return PosteriorMaps(
                **_tensors(file, ""),
                magnitude=PixelMaps(**_tensors(file, _MAGNITUDE)) if said["complex"] else None,
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


def read_alternatives(samples: Path, pictures: int) -> LazyStack:
    """The images of each picture in a samples.safetensors, (P, n, C, H, W) float32, read one picture at a time."""
    with safe_open(samples, "pt") as file:
        count = file.get_slice("samples").get_shape()[0] // pictures

    def of_picture(picture: int) -> Tensor:
        with safe_open(samples, "pt") as file:  # opened each time, so that pages of earlier pictures are let go
            images: Tensor = file.get_slice("samples")[picture * count : (picture + 1) * count]
            return images

    return LazyStack(pictures, of_picture)


def sorted_pixels(images: Tensor) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Places in the flattened image, and the values there in all images, (V, n), ascending along the second axis."""
    values = images.flatten(1).numpy()
    step = max(1, _PART_BYTES // (values.itemsize * len(values)))
    for begin in range(0, values.shape[1], step):
        pixels = slice(begin, begin + step)
        yield pixels, np.sort(values[:, pixels].T, axis=1)


def write_posterior(
    path: Path,
    alternatives: LazyStack,
    own: ValueRange,
    samples_sha256: str,
    check_stop: Callable[[], None] = lambda: None,
) -> str:
    """Writes the file for the alternatives of each picture, (P, n, C, H, W), and returns its sha256.

    check_stop: called before each part of a picture; raises to stop, which leaves an earlier file as it was. Raises
    NcsnxError.
    """
    pictures, count, channels, *size = alternatives.shape
    names = ["mean", "deviation", *map(_name, QUANTILES)]
    shapes = {name: [pictures, channels, *size] for name in names}
    if own.is_complex:
        shapes |= {f"{_MAGNITUDE}{name}": [pictures, channels // 2, *size] for name in names}
    header = _header(shapes, _facts(count, own, samples_sha256))
    with replacement(path, len(header) + sum(map(_bytes_of, shapes.values()))) as file:
        file.write(header)
        for picture in range(pictures):
            images = alternatives.make(picture)
            start = len(header)
            for values in (images, torch.hypot(*complex_parts(images))) if own.is_complex else (images,):
                maps = _summaries(values, own, check_stop)
                for number, row in enumerate(maps):
                    file.seek(start + row.nbytes * (number * pictures + picture))
                    file.write(row.tobytes())
                start += pictures * maps.nbytes
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _summaries(images: Tensor, own: ValueRange, check_stop: Callable[[], None]) -> NDArray[np.float32]:
    """Mean, deviation and quantiles of images (n, C, H, W) in own values, (2 + Q, C·H·W)."""
    slope, start = (own.high - own.low, own.low) if own.is_bounded else (1.0, 0.0)
    parts = []
    for _, ordered in sorted_pixels(images):
        check_stop()
        values = ordered.astype(np.float64)
        count = values.shape[1]
        mean = values.mean(axis=1)
        squares = np.square(values - mean[:, None]).sum(axis=1)
        deviation = np.sqrt(squares / (count - 1)) if count > 1 else np.full_like(mean, np.nan)
        quantiles = [start + slope * _quantile(values, share) for share in QUANTILES]
        parts.append(np.stack([start + slope * mean, slope * deviation, *quantiles]).astype("<f4"))
    return np.concatenate(parts, axis=1)


def _quantile(values: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    count = values.shape[1]
    place = min(max(share * (count + 1) - 1, 0.0), count - 1.0)
    below = min(int(place), max(count - 2, 0))
    above = min(below + 1, count - 1)
    quantile: NDArray[np.float64] = values[:, below] + (place - below) * (values[:, above] - values[:, below])
    return quantile


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


def _bytes_of(shape: list[int]) -> int:
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

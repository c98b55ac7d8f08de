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

The one entry of metadata, `posterior`, is JSON that says so: number of alternatives, own values of black and white, the
sha256 of the samples, and whether `mean` is that of the alternatives or, of noisy pictures, the denoised picture.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ncsnx import bounded_reads
from ncsnx.config.codec import canonical
from ncsnx.errors import NcsnxError
from ncsnx.images import complex_parts
from ncsnx.runs.checkpoint import TensorFile
from ncsnx.space import Space
from ncsnx.stopping import check_stop
from ncsnx.storage.atomic import replacing, write_pieces

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


def sorted_pixels(images: Tensor) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Places in the flattened image, and the values there in all images, (V, n), ascending along the second axis."""
    values = images.flatten(1).numpy()
    step = max(1, _PART_BYTES // (values.itemsize * len(values)))
    for begin in range(0, values.shape[1], step):
        check_stop()
        pixels = slice(begin, begin + step)
        yield pixels, np.sort(values[:, pixels].T, axis=1)


def pixel_maps(images: Tensor, space: Space) -> dict[str, Tensor]:
    """The maps of a picture's alternatives (n, C, H, W) by name, (C, H, W) float32; of magnitudes (C/2, H, W)."""
    magnitudes = _summaries(torch.hypot(*complex_parts(images)), space, _MAGNITUDE) if space.complex else {}
    return _summaries(images, space, "") | magnitudes


def write_posterior(
    path: Path,
    maps: Sequence[Mapping[str, Tensor]],
    space: Space,
    alternatives: int,
    samples_sha256: str,
    *,
    mean: str = "alternatives",
) -> str:
    """Writes the `pixel_maps` of each picture, and returns the sha256 of the file. Raises NcsnxError.

    alternatives: n, the same for all pictures. mean: 'alternatives', or 'denoised' for D(y, σ) in place of their mean.
    """
    facts = {
        "alternatives": alternatives,
        "bounded": space.bounded,
        "complex": space.complex,
        "deviation_ddof": 1,
        "high": space.own[1],
        "low": space.own[0],
        "mean": mean,
        "quantile_method": "weibull",
        "quantiles": {_name(share): share for share in QUANTILES},
        "samples_sha256": samples_sha256,
    }
    tensors = {name: _stacked([of_picture[name] for of_picture in maps]) for name in maps[0]}
    content = TensorFile(tensors, {"posterior": canonical(facts).decode()})
    with replacing(path, len(content)) as temporary:
        write_pieces(temporary, _checked(content), len(content), path)
    return bounded_reads.sha256_of(path, lambda count: check_stop())


def _checked(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The pieces, with a look for a stop before each: one has a map of all pictures."""
    for piece in pieces:
        check_stop()
        yield piece


def _stacked(rows: Sequence[Tensor]) -> Tensor:
    """Rows as one tensor; of a single one without a copy, which may take gigabytes."""
    return torch.stack(list(rows)) if len(rows) > 1 else rows[0][None]


def _summaries(images: Tensor, space: Space, prefix: str) -> dict[str, Tensor]:
    """Mean, deviation and quantiles of images (n, C, H, W) in own values by name, (C, H, W) float32."""
    slope, start = (space.own[1] - space.own[0], space.own[0]) if space.bounded else (1.0, 0.0)
    names = ["mean", "deviation", *map(_name, QUANTILES)]
    rows = np.empty((len(names), images[0].numel()), dtype=np.float32)
    for pixels, ordered in sorted_pixels(images):
        values = ordered.astype(np.float64)
        deviation = values.std(axis=1, ddof=1) if len(images) > 1 else np.full(len(values), np.nan)
        if len(images) > 1:
            quantiles = start + slope * np.quantile(values, QUANTILES, axis=1, method="weibull")
        else:
            quantiles = start + slope * np.tile(values[:, 0], (len(QUANTILES), 1))
        rows[:, pixels] = [start + slope * values.mean(axis=1), slope * deviation, *quantiles]
    maps = torch.from_numpy(rows).view(-1, *images.shape[1:])
    return {f"{prefix}{name}": row for name, row in zip(names, maps, strict=True)}


def _name(share: float) -> str:
    return f"quantile_{100 * share:g}"

"""Statistics of numeric data: whether its values are finite and in their declared range, and their scale.

They are measured on a seeded sample of the images, which is all of them in small sets. Readers check every image again
when they read it.
"""

import math
from collections.abc import Callable, Iterator

import attrs
import numpy as np
import torch
from torch import Tensor

from ncsnx.config.data_sets import Arrays, Data, NumericData, Volumes
from ncsnx.config.experiment import Experiment
from ncsnx.data.dataset import Dataset, Splits
from ncsnx.data.transforms import Preprocessing
from ncsnx.errors import Hint, NcsnxError
from ncsnx.images import complex_parts
from ncsnx.randomness import Purpose, Stream
from ncsnx.space import Space
from ncsnx.work import Work

PERCENTILE = 99
"""Percentile of the magnitudes that is the scale of data without a declared one."""
MEASURED_VALUES, CHECKED_VALUES = 2**25, 2**22
"""Most values of a sample from which scale or range are measured, and of one that is only checked."""

_USED_SHARE = 0.02  # of the declared range; if the values use less, the range is probably wrong
_FEWEST_IMAGES = 64  # of a sample, if there are as many
_DIGITS = 6  # significant digits of a measured scale
MOST_IMAGES, _CHUNK = 1_024, 64
"""Number of images whose mean and size are measured at most, and of those read at a time."""
_LARGEST_NOISE = 6.0
"""Largest of the values of noise, in standard deviations."""
_PATCH, _FEWEST_PATCHES, _MOST_PATCHES = 5, 2_500, 2**14
"""Side of the patches by which declared noise is checked; fewest that check it, and about the most of a chunk."""
_KNOWN = 0.9
"""Share of the declared noise that images have at least, since people know it to one digit or two."""
MOST_MEAN_VALUES = 3 * 64 * 64
"""Most values of a mean image that is kept."""


def sample_of(count: int, values: int, most: int) -> Tensor:
    """(n,) int64, sorted: a random sample of `count` images of `values` values, with `most` values or 64 images."""
    return Stream(0, Purpose.SUBSETS).choice(count, max(_FEWEST_IMAGES, most // max(1, values)), 0).sort().values


def _sampled(split: Dataset, most: int, name: str, work: Work) -> Iterator[Tensor]:
    """Pixels of a sample of the images in a few pieces, with progress."""
    chosen = sample_of(len(split), math.prod(split.shape), most)
    with work.progress(name, total=len(chosen), unit="images") as advance:
        for indices in torch.split(chosen, 16):
            work.check_stop()
            yield split.read(indices).pixels
            advance(len(indices))


def require_valid(pixels: Tensor, ids: Tensor, data: Arrays | Volumes, place: Callable[[int], str]) -> None:
    """Raises NcsnxError for NaN and infinity and, in bounded data, for values outside the declared range.

    pixels: (n, …), of the images `ids`, (n,). place: an id → the image's name for messages.
    """
    if len(pixels) == 0:
        return
    low, high = (data.low, data.high) if data.is_bounded else (-math.inf, math.inf)
    if pixels.is_floating_point():
        # bounds are rounded like values: a float32 may be slightly beyond the declared double
        limit = torch.finfo(pixels.dtype).max
        low, high = max(-limit, float(np.float32(low))), min(limit, float(np.float32(high)))
    least, most = (float(value) for value in pixels.aminmax())
    if low <= least and most <= high:
        return
    wrong = ~((pixels >= low) & (pixels <= high)).flatten(1).all(dim=1)
    title = place(int(ids[wrong][0]))
    if not (math.isfinite(least) and math.isfinite(most)):
        raise NcsnxError(f"{title}: found NaN or infinite values; replace them")
    raise NcsnxError(
        f"{title}: found values outside the declared range, low={data.low:.9g} to high={data.high:.9g}; the values are "
        f"from {least:.9g} to {most:.9g}; declare data.low={least:.9g} data.high={most:.9g}, or a wider range; or keep "
        "values that have no bounds as they are, with data.range=unbounded"
    )


def usual_range(title: str, values: Tensor) -> tuple[float, float] | None:
    """(black, white) for an array without a declared range: a usual range that contains a sample of its values.

    Integers: [0, 1], or [0, 2^bits − 1] with 8, 10, 12, 14 or 16 bits, else their own range. Floating-point numbers:
    [0, 1], [−1, 1] or [0, 255], else None: they are unbounded. Raises NcsnxError if all values are equal.
    """
    least, most = (float(value) for value in values.aminmax())
    if not (math.isfinite(least) and math.isfinite(most)):
        raise NcsnxError(f"{title}: found NaN or infinite values; replace them")
    is_whole = not values.is_floating_point()
    whole = tuple((0.0, float(most)) for most in (1, 255, 1023, 4095, 16383, 65535))
    for low, high in whole if is_whole else ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        if low <= least and most <= high:
            return low, high
    if least == most:
        raise NcsnxError(f"{title}: expected different values, found only {least:g}")
    return (least, most) if is_whole else None


def check_values(whole: Dataset, data: Arrays | Volumes, title: str, work: Work) -> None:
    """Reads a sample of both splits together. Warns if bounded values hardly use their range. Raises as the reader."""
    pieces = _sampled(whole, CHECKED_VALUES, f"checking {title}", work)
    limits = [[float(value) for value in piece.aminmax()] for piece in pieces]
    least, most = min(low for low, _ in limits), max(high for _, high in limits)
    if data.is_bounded and 0 < most - least < _USED_SHARE * (data.high - data.low):
        work.warning(
            f"{title}: its values, from {least:.9g} to {most:.9g}, use a small part of the declared range, "
            f"low={data.low:.9g} to high={data.high:.9g}; should it be data.low={least:.9g} data.high={most:.9g}?"
        )


def values_space(data: Data, splits: Splits, title: str, work: Work) -> Space:
    """The space of a data set's images, whose scale and window are measured on a sample where it declares none.

    title: name of the data for messages. Raises NcsnxError if the scale would be 0.
    """
    if not isinstance(data, NumericData):
        return Space.of(data)
    if data.is_bounded:
        if data.gain and splits.train.value_range[0] != 0:
            raise NcsnxError(
                f"{title}: data.gain counts from 0, and black is {splits.train.value_range[0]:g}",
                Hint("pack the numbers without bounds", adds="data.range=unbounded"),
            )
        return Space.of(data, own=splits.train.value_range)
    sizes, least = [], math.inf
    for pixels in _sampled(splits.train, MEASURED_VALUES, f"measuring {title}", work):
        values = pixels.float()
        least = min(least, float(values.min()))
        sizes.append(_magnitude(values, data.is_complex).flatten())
    joined = torch.cat(sizes)
    scale = float(joined.kthvalue(math.ceil(len(joined) * PERCENTILE / 100)).values)
    if data.scale is None and not scale > 0:
        if not (largest := float(joined.max())) > 0:
            raise NcsnxError(f"{title}: all values of the training images are 0, so there is nothing to learn")
        raise NcsnxError(
            f"{title}: {PERCENTILE} % of the values of the training images are 0",
            Hint("declare the scale", adds=f"data.scale={largest:g}"),
        )
    # noise alone makes no value negative
    space = Space.of(data, scale=float(f"{scale:.{_DIGITS}g}"), signed=least < -_LARGEST_NOISE * data.noise)
    if space.shot is not None and not space.shot.explains(least / space.span):
        raise NcsnxError(
            f"{title}: values down to {least:.3g} would have a negative variance with {data.noise_as_typed}; subtract "
            "the offset of the detector, so that no light is 0"
        )
    return space


def measured_space(experiment: Experiment, splits: Splits, title: str, work: Work) -> Space:
    """The space of an experiment's images: as `values_space`, with mean and size of at most 1,024 training images.

    The mean image is measured where it has at most 64×64 pixels of three channels and is the same in every crop. All to
    four significant digits, so that no rounding of a sum shows. The size is that without the noise of the data. Raises
    NcsnxError if the scale or a needed σ_data would be 0, and for images that can't have the declared noise.
    """
    data, train = experiment.data, splits.train
    space = values_space(data, splits, title, work)
    total, square, count = torch.zeros(space.shape, dtype=torch.float64), 0.0, min(len(train), MOST_IMAGES)
    preprocessing, patches = Preprocessing(data, space, train.value_range, seed=0), _Patches()
    for chunk in torch.split(torch.arange(count) * (len(train) - 1) // max(1, count - 1), _CHUNK):
        x = preprocessing.measured(train.read(chunk).pixels, chunk).double()
        total += x.sum(dim=0)
        square += float((x - space.center).square().mean(dim=(1, 2, 3)).sum())
        if space.noise:
            patches.add(x)
    patches.require_noise(data, space, title)
    mean = total / count
    if data.random_flip:
        mean = (mean + mean.flip(-1)) / 2
    size = float(_rounded(math.sqrt(max(0.0, square / count - space.noise**2))))
    if size == 0 and data.sigma_data is None and experiment.uses_sigma_data:
        raise NcsnxError("all images are equal and have one value", Hint("give it a size", adds="data.sigma_data=0.5"))
    is_same = data.stored_size == data.shape[1:] and not train.cuts_anew
    is_kept = is_same and mean.numel() <= MOST_MEAN_VALUES
    return attrs.evolve(
        space,
        mean=tuple(float(_rounded(value)) for value in mean.mean(dim=(1, 2)).tolist()),
        mean_image=" ".join(map(_rounded, mean.flatten().tolist())) if is_kept else None,
        sigma_data=space.sigma_data or size or None,
        class_names=splits.class_names if experiment.model.classes else (),
    )


def _rounded(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def _magnitude(values: Tensor, is_complex: bool) -> Tensor:
    """|v| of (N, C, H, W) in the type of the values; of complex data (N, C/2, H, W), from pairs of channels."""
    if not is_complex:
        return values.abs()
    return torch.hypot(*complex_parts(values)).clamp(max=torch.finfo(values.dtype).max)


@attrs.define
class _Patches:
    """The covariance of patches of images, of each channel by itself, whose least eigenvalue no white noise exceeds."""

    count: int = 0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, x: Tensor) -> None:
        """Adds patches of images (B, C, H, W) float64."""
        side = min(_PATCH, *x.shape[2:])
        step = max(1, math.isqrt(x.numel() // _MOST_PATCHES))
        patches = x.unfold(2, side, step).unfold(3, side, step).reshape(-1, side**2)
        self.count += len(patches)
        self.total, self.squares = self.total + patches.sum(dim=0), self.squares + patches.T @ patches

    def require_noise(self, data: Data, space: Space, title: str) -> None:
        """Raises NcsnxError if the images can't have the noise that is declared: they are too smooth."""
        if self.count < _FEWEST_PATCHES:
            return
        mean = torch.as_tensor(self.total) / self.count
        covariance = torch.as_tensor(self.squares) / self.count - mean[:, None] * mean
        least = math.sqrt(max(0.0, float(torch.linalg.eigvalsh(covariance)[0])))
        # of so many patches of white noise: Marchenko and Pastur 1967
        expected = space.noise * (1 - math.sqrt(len(mean) / self.count))
        if least < _KNOWN * expected:
            share = least / space.noise
            most = f"{data.gain * share**2:.2g}" if data.gain else f"{data.noise * share:.2g}"
            raise NcsnxError(
                f"{title}: {data.noise_as_typed} is more than the images have, at most {most}: they are clean, or were "
                "resized, smoothed or clipped",
                Hint("leave it out for clean images", adds="data.noise=0 data.gain=0"),
            )

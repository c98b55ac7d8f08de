"""The noise of a data set that is noisy itself, estimated from its images."""

import math
from pathlib import Path
from statistics import fmean, stdev

import attrs
import torch
from torch import Tensor

from ncsnx.config.data_sets import Data, NumericData
from ncsnx.data import open_data
from ncsnx.errors import Hint, UsageError
from ncsnx.inverse.noisy_pictures.noise_level import estimated_noise, estimated_shot_noise
from ncsnx.quantities import counted
from ncsnx.spelling import argument
from ncsnx.work import Work

_PICTURES, _SIDE = 64, 64
"""Most pictures whose noise is estimated, and their least height and width in pixels: smaller images are joined."""
_GROUPS = 4
"""Groups of pictures whose shot noise is estimated: one picture has too few levels of brightness."""
_SEEN = 0.02
"""Share of the values' standard deviation below which noise isn't told from texture: photographs have half of it."""


@attrs.frozen
class EstimatedNoise:
    """Noise of images, in the units of `data.noise`."""

    noise: float
    """Standard deviation of white noise; with a gain that of the read noise."""
    gain: float
    """Variance per value, of shot noise; 0 for white noise."""
    how: str
    """How it was found, with its standard error if several estimates tell it."""

    @property
    def in_words(self) -> str:
        """'0.1', or 'variance 1 · value + 0.5²'."""
        if not self.gain:
            return f"{self.noise:g}"
        return f"variance {self.gain:g} · value" + (f" + {self.noise:g}²" if self.noise else "")

    @property
    def given(self) -> dict[str, float]:
        """What to declare."""
        return {name: value for name, value in (("gain", self.gain), ("noise", self.noise)) if value}


def noise_of_images(data: Data, folder: Path, work: Work) -> EstimatedNoise:
    """The noise of a data set: shot noise where it is clear in each of `_GROUPS` groups of pictures, else white.

    Raises UsageError where no noise is seen.
    """
    pictures = _joined_pictures(data, folder, work)
    images = pictures.numel() // math.prod(data.shape)
    groups = [pictures[first::_GROUPS].flatten(0, 1).numpy() for first in range(min(_GROUPS, len(pictures)))]
    shots = [shot for group in groups if (shot := estimated_shot_noise(group)) is not None]
    if len(shots) == len(groups) and not data.is_complex:
        gains = [shot.gain for shot in shots]
        read = _mean([shot.read for shot in shots])
        return EstimatedNoise(read, _mean(gains), _in_words(images, gains))
    noises = [estimated_noise(one.numpy()) for one in pictures]
    noise = _mean(noises)
    if noise < _SEEN * float(pictures.std()):
        raise UsageError(
            "no noise is seen in the images, so there is none to learn from",
            Hint("if they have some, say how much", adds=argument("noise", "STD")),
            Hint("of clean images, leave it out"),
        )
    return EstimatedNoise(noise, 0.0, _in_words(images, noises))


def _joined_pictures(data: Data, folder: Path, work: Work) -> Tensor:
    """Some training images, small ones side by side: (P, C, H, W) float64 in the units of `data.noise`."""
    train, (channels, height, width) = open_data(data, folder, work).train, data.shape
    down, across = math.ceil(_SIDE / height), math.ceil(_SIDE / width)
    pictures = max(1, min(_PICTURES, len(train) // (down * across)))
    indices = torch.linspace(0, len(train) - 1, min(len(train), pictures * down * across)).long()
    pixels = train.read(indices).pixels[..., :height, :width].double()
    if len(pixels) < down * across:
        down, across = 1, len(pixels)
    if not isinstance(data, NumericData):
        low, high = train.value_range
        pixels = (pixels - low) / (high - low)
    joined = pixels.view(-1, down, across, channels, height, width).permute(0, 3, 1, 4, 2, 5)
    return joined.reshape(-1, channels, down * height, across * width)


def _mean(estimates: list[float]) -> float:
    """The mean to three digits."""
    return float(f"{fmean(estimates):.3g}")


def _in_words(images: int, estimates: list[float]) -> str:
    found = f"estimated from {counted(images, 'image')}"
    if len(estimates) == 1:
        return found
    return f"{found}, with a standard error of {stdev(estimates) / math.sqrt(len(estimates)):.1g}"

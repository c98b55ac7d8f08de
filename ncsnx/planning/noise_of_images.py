"""The noise of a data set that is noisy itself, estimated from its images."""

import math
from pathlib import Path

import torch

from ncsnx.config.data_sets import Data, NumericData
from ncsnx.data import open_data
from ncsnx.errors import Hint, UsageError
from ncsnx.inverse.noise_level import estimated_noise
from ncsnx.quantities import counted
from ncsnx.spelling import argument
from ncsnx.work import Work

_PICTURES, _SIDE = 64, 64
"""Most pictures whose noise is estimated, and their least height and width in pixels: smaller images are joined."""
_SEEN = 0.02
"""Share of the values' standard deviation below which noise isn't told from texture: photographs have half of it."""


def noise_of_images(data: Data, folder: Path, work: Work) -> tuple[float, str]:
    """(standard deviation of the noise, in the units of `data.noise`; how it was found, with its standard error).

    Raises UsageError where no noise is seen.
    """
    train, (channels, height, width) = open_data(data, folder, work).train, data.shape
    down, across = math.ceil(_SIDE / height), math.ceil(_SIDE / width)
    pictures = max(1, min(_PICTURES, len(train) // (down * across)))
    indices = torch.linspace(0, len(train) - 1, min(len(train), pictures * down * across)).long()
    pixels = train.read(indices).pixels[..., :height, :width].double()
    if len(pixels) < down * across:
        down, across = 1, len(pixels)
    joined = pixels.view(-1, down, across, channels, height, width).permute(0, 3, 1, 4, 2, 5)
    joined = joined.reshape(-1, channels, down * height, across * width)
    low, high = (0.0, 1.0) if isinstance(data, NumericData) else train.value_range
    found = torch.tensor([estimated_noise(one.numpy()) for one in joined]) / (high - low)
    noise = float(f"{float(found.mean()):.3g}")
    if noise < _SEEN * float(pixels.std()) / (high - low):
        raise UsageError(
            "no noise is seen in the images, so there is none to learn from",
            Hint("if they have some, say how much", adds=argument("noise", "STD")),
            Hint("of clean images, leave it out"),
        )
    error = float(found.std()) / math.sqrt(len(found)) if len(found) > 1 else math.inf
    return noise, f"estimated from {counted(len(found), 'picture')}, with a standard error of {error:.1g}"

"""Mean of each channel of a data set, around which samplers start from noise.

σ_1 is only about the largest distance between two images, so that noise of σ_1 does not hide where it is centred: a
deterministic solver keeps a share of the offset between the start and the data.
"""

import torch

from ncsnx.config.data_sets import Data
from ncsnx.data.splits import Splits
from ncsnx.data.transforms import Preprocessing, from_unit

MOST_IMAGES, _CHUNK = 1_024, 64
"""Number of images that are measured at most, and of those read at a time."""


def measured_mean(data: Data, splits: Splits) -> tuple[float, ...]:
    """Mean of each channel in the network's range, over at most 1,024 training images, evenly spread over the set.

    To four significant digits, so that no rounding of a sum shows.
    """
    images = torch.linspace(0, len(splits.train) - 1, min(len(splits.train), MOST_IMAGES)).long()
    preprocessing = Preprocessing(data, splits.train.value_range, seed=0)
    total = torch.zeros(data.channels, dtype=torch.float64)
    for chunk in torch.split(images, _CHUNK):
        total += preprocessing.measured(splits.train.read(chunk).pixels, chunk).double().mean(dim=(2, 3)).sum(dim=0)
    return tuple(float(f"{value:.4g}") for value in total / len(images))


def start_mean(data: Data) -> torch.Tensor:
    """(C, 1, 1): the recorded mean of each channel; without one, the middle of the network's range."""
    if data.mean is None:
        return from_unit(torch.full((data.channels, 1, 1), 0.5), data)
    return torch.tensor(data.mean).view(-1, 1, 1)

"""Random pixels in place of a data set, at any size."""

import math

import attrs
import torch

from ncsnx.config.data_sets import Data
from ncsnx.config.experiment import Experiment
from ncsnx.config.image_sizes import ImageSize
from ncsnx.data.dataset import InMemory, StoredImages

_IMAGES = 256


@attrs.frozen(kw_only=True)
class RandomPixels(Data):
    """Random pixels of a size. It isn't registered, so that no experiment can have it."""

    image_size: ImageSize
    channels: int


def with_random_pixels(experiment: Experiment, image_size: ImageSize) -> tuple[Experiment, InMemory]:
    """The experiment at another image size, and random images for it. The way of the images stays the same."""
    data = experiment.data
    random = RandomPixels(
        image_size=image_size,
        channels=data.channels,
        random_flip=data.random_flip,
        dequantization=data.dequantization,
        transform=data.transform,
    )
    shape = (_IMAGES, *random.shape)
    # a fixed sequence, without any generator of random numbers
    pixels = torch.arange(math.prod(shape)).mul_(2_654_435_761).bitwise_right_shift_(13).remainder_(256)
    numbers = torch.arange(_IMAGES)
    stored = StoredImages(pixels.to(torch.uint8).reshape(shape), torch.full((_IMAGES,), -1), numbers)
    return attrs.evolve(experiment, data=random), InMemory(stored, (0, 255))

"""Images read by index: pixels in their stored type with a declared range, labels and ids."""

from typing import Protocol

import attrs
import torch
from torch import Tensor

NO_LABEL = -1


@attrs.frozen(eq=False)
class StoredImages:
    """A batch of images of a data set."""

    pixels: Tensor
    """(n, C, H, W), in the stored type, within the data set's `value_range`."""
    labels: Tensor
    """(n,) int64; NO_LABEL for unlabelled images."""
    ids: Tensor
    """(n,) int64: each image's index in the whole data set, whatever the split."""


class Dataset(Protocol):
    """One split of a data set."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""

    @property
    def value_range(self) -> tuple[float, float]:
        """The stored values that become 0 and 1: black and white or, in unbounded data, 0 and its scale."""

    def __len__(self) -> int: ...

    def read(self, indices: Tensor) -> StoredImages:
        """The images at `indices`, (n,) int64 in [0, len), on the CPU."""


@attrs.frozen(eq=False)
class InMemory:
    """A split that is entirely in memory."""

    images: StoredImages
    value_range: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        _, channels, height, width = self.images.pixels.shape
        return channels, height, width

    def __len__(self) -> int:
        return len(self.images.pixels)

    def read(self, indices: Tensor) -> StoredImages:
        """The images at `indices`."""
        return StoredImages(self.images.pixels[indices], self.images.labels[indices], self.images.ids[indices])

    def subset(self, chosen: Tensor) -> "InMemory":
        """The images selected by `chosen`, (N,) bool."""
        return InMemory(self.read(torch.nonzero(chosen).flatten()), self.value_range)

"""Data sets of encoded pictures, which are decoded and transformed when they are read.

As published, pictures are converted to RGB by Pillow, and EXIF is ignored. (None of these sets has pictures to rotate.)
"""

from typing import Protocol

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ncsnx.data.dataset import NO_LABEL, StoredImages
from ncsnx.data.decoding import opened_picture


class Encoded(Protocol):
    """The encoded pictures of a data set by index. Must be picklable."""

    def read(self, place: int) -> bytes:
        """The bytes of one picture."""

    def name(self, place: int) -> str:
        """The picture's name, for messages."""


class PictureTransform(Protocol):
    """An RGB picture of any size → one of the data set's size. Raises ValueError for one that it can't transform."""

    def __call__(self, image: Image.Image) -> Image.Image: ...


@attrs.frozen(eq=False)
class EncodedPictures:
    """One split of a data set of encoded pictures."""

    encoded: Encoded
    places: Tensor
    """(N,) int64: index in the data set of each picture of this split."""
    transform: PictureTransform
    image_size: tuple[int, int]
    """(height, width)."""
    first_id: int = 0
    """Added to the places, gives the ids."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return 3, *self.image_size

    @property
    def value_range(self) -> tuple[float, float]:
        """The stored values that mean black and white."""
        return 0, 255

    def __len__(self) -> int:
        return len(self.places)

    def read(self, indices: Tensor) -> StoredImages:
        """The images at `indices`. Raises BrokenImageError, which names the picture."""
        places = self.places[indices]
        pixels = torch.empty((len(places), *self.shape), dtype=torch.uint8)
        for image, place in zip(pixels, places.tolist(), strict=True):
            image.copy_(self._decoded(place))
        return StoredImages(pixels, torch.full_like(places, NO_LABEL), self.first_id + places)

    def _decoded(self, place: int) -> Tensor:
        with opened_picture(self.encoded.read(place), self.encoded.name(place)) as picture:
            image = self.transform(picture.convert("RGB"))
            return torch.from_numpy(np.array(image)).permute(2, 0, 1)

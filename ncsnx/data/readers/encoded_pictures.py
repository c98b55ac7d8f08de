"""What the published sets have in common: encoded pictures that are decoded and transformed when they are read.

Decoded is as published: to RGB as Pillow converts, whatever EXIF says. (None of these sets has pictures to be turned.)
"""

from typing import Protocol

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ncsnx.data.dataset import NO_LABEL, StoredImages
from ncsnx.data.pictures.decoding import opened_picture


class Encoded(Protocol):
    """The encoded pictures of a set, by their place in it. It can be sent to another process."""

    def read(self, place: int) -> bytes:
        """The bytes of one picture."""

    def name(self, place: int) -> str:
        """Its name for a person."""


class PictureTransform(Protocol):
    """A picture in RGB, of any size → a square one. Raises ValueError for one that it isn't meant for."""

    def __call__(self, image: Image.Image) -> Image.Image: ...


@attrs.frozen(eq=False)
class EncodedPictures:
    """One split of a set of encoded pictures."""

    encoded: Encoded
    places: Tensor
    """(N,) int64: the place in the set of each picture of this split."""
    transform: PictureTransform
    image_size: int
    first_id: int = 0
    """Added to the places, this gives the ids."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return 3, self.image_size, self.image_size

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

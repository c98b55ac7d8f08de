"""Data sets of encoded pictures, which are decoded and transformed when they are read.

As published, pictures are converted to RGB by Pillow, and EXIF is ignored. (None of these sets has pictures to rotate.)
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ncsnx.data.dataset import NO_LABEL, StoredImages
from ncsnx.data.decoding import opened_picture
from ncsnx.data.image_files import ImageFiles
from ncsnx.data.lmdb_store import LmdbStore, damaged

PictureTransform: TypeAlias = Callable[[Image.Image], Image.Image]
"""An RGB picture of any size → one of the data set's size. Raises ValueError for one that it can't transform. Must be
picklable."""


@attrs.frozen(eq=False)
class FilePictures:
    """The pictures of a folder or zip in the order of `names`."""

    files: ImageFiles
    names: Sequence[str]

    def read(self, place: int) -> bytes:
        """The bytes of one picture. Raises BrokenImageError."""
        return self.files.read(self.names[place])

    def name(self, place: int) -> str:
        """The picture's name, for messages."""
        return f"{self.files.root}: {self.names[place]}"


@attrs.frozen(eq=False)
class LmdbPictures:
    """The pictures of an LMDB in the order of `keys`."""

    store: LmdbStore
    keys: NDArray[np.bytes_]

    def read(self, place: int) -> bytes:
        """The bytes of one picture. Raises NcsnxError for a damaged file."""
        content = self.store.get(bytes(self.keys[place]))
        if content is None:
            raise damaged(self.store.path, f"no entry {self._key(place)}")
        return content

    def name(self, place: int) -> str:
        """The picture's name, for messages."""
        return f"{self.store.path}: {self._key(place)}"

    def _key(self, place: int) -> str:
        return bytes(self.keys[place]).decode("ascii", "backslashreplace")


@attrs.frozen(eq=False)
class EncodedPictures:
    """One split of a data set of encoded pictures."""

    encoded: FilePictures | LmdbPictures
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

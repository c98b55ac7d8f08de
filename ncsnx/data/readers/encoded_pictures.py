"""Data sets of encoded pictures, which are decoded and transformed when they are read.

As published, pictures of published sets are converted to RGB by Pillow, and EXIF is ignored. (None of them has pictures
to rotate.)
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, TypeAlias

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ncsnx.data.dataset import NO_LABEL, Dataset, StoredImages
from ncsnx.data.decoding import BrokenImageError, opened_picture
from ncsnx.data.image_files import ImageFiles
from ncsnx.data.lmdb_store import LmdbStore, damaged

PictureTransform: TypeAlias = Callable[[Image.Image], Image.Image]
"""An RGB picture of any size → one of the data set's size. Raises ValueError for one that it can't transform. Must be
picklable."""
Decode: TypeAlias = Callable[[bytes, str], NDArray[np.uint8]]
"""(content, name for messages) → the picture as (C, H, W). Raises BrokenImageError. Must be picklable."""


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
        return f"{self.files.root}: {self.short_name(place)}"

    def short_name(self, place: int) -> str:
        """The picture's path below the folder."""
        return self.names[place]


@attrs.frozen(eq=False)
class LmdbPictures:
    """The pictures of an LMDB in the order of `keys`."""

    store: LmdbStore
    keys: NDArray[np.bytes_]

    def read(self, place: int) -> bytes:
        """The bytes of one picture. Raises NcsnxError for a damaged file."""
        content = self.store.get(bytes(self.keys[place]))
        if content is None:
            raise damaged(self.store.path, f"no entry {self.short_name(place)}")
        return content

    def name(self, place: int) -> str:
        """The picture's name, for messages."""
        return f"{self.store.path}: {self.short_name(place)}"

    def short_name(self, place: int) -> str:
        """The picture's key."""
        return bytes(self.keys[place]).decode("ascii", "backslashreplace")


@attrs.frozen(eq=False)
class ArrowPictures:
    """The pictures of a split of the package `datasets`, mapped into memory."""

    title: str
    """Name of the split, for messages."""
    split: Any
    """A `datasets.Dataset` of one column, undecoded."""

    def read(self, place: int) -> bytes:
        """The bytes of one picture. Raises BrokenImageError."""
        (picture,) = self.split[place].values()
        if picture is None or picture["bytes"] is None:
            raise BrokenImageError(self.name(place), "is not in the file itself, but elsewhere or missing")
        return bytes(picture["bytes"])

    def name(self, place: int) -> str:
        """The picture's name, for messages."""
        return f"{self.title}: {self.short_name(place)}"

    def short_name(self, place: int) -> str:
        """The picture's number in the split."""
        return f"picture {place:,}"


@attrs.frozen(eq=False)
class EncodedPictures(Dataset):
    """One split of a data set of encoded pictures."""

    encoded: FilePictures | LmdbPictures | ArrowPictures
    places: Tensor
    """(N,) int64: places of this split's pictures in `encoded`."""
    decode: Decode
    shape: tuple[int, int, int]
    """(C, H, W) of every image."""
    ids: Tensor
    """(N,) int64."""
    labels: Tensor
    """(N,) int64."""

    value_range: ClassVar[tuple[float, float]] = (0, 255)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def image_files(self) -> ImageFiles | None:
        """The files of a folder or zip."""
        return self.encoded.files if isinstance(self.encoded, FilePictures) else None

    def image_name(self, image: int) -> str:
        """File or key of the image with this id."""
        return self.encoded.short_name(int(self.places[self.ids.tolist().index(image)]))

    def read(self, indices: Tensor) -> StoredImages:
        """The images at `indices`, uint8. Raises BrokenImageError, which names the picture."""
        pixels = torch.empty((len(indices), *self.shape), dtype=torch.uint8)
        for image, place in zip(pixels, self.places[indices].tolist(), strict=True):
            image.copy_(torch.from_numpy(self.decode(self.encoded.read(place), self.encoded.name(place))))
        return StoredImages(pixels, self.labels[indices], self.ids[indices])


def published_split(
    encoded: FilePictures | LmdbPictures,
    places: Tensor,
    transform: PictureTransform,
    size: tuple[int, int],
    first_id: int = 0,
) -> EncodedPictures:
    """A split without labels, in RGB. size: (height, width). first_id: added to the places, gives the ids."""
    labels = torch.full_like(places, NO_LABEL)
    return EncodedPictures(encoded, places, partial(_rgb, transform=transform), (3, *size), first_id + places, labels)


def _rgb(content: bytes, name: str, transform: PictureTransform) -> NDArray[np.uint8]:
    with opened_picture(content, name) as picture:
        return np.array(transform(picture.convert("RGB"))).transpose(2, 0, 1)

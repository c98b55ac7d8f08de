"""Images read by index, in their stored type with a declared range; an opened data set with its two splits."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import attrs
import torch
from torch import Tensor

from ncsnx.errors import Hint, NcsnxError, UsageError, quoted
from ncsnx.quantities import counted

NO_LABEL = -1
MOST_CLASSES = 1_000
"""Labels from there on are numbers of another kind, such as years; `new` proposes no network of more classes."""

if TYPE_CHECKING:
    from ncsnx.data.image_files import ImageFiles


@attrs.frozen(eq=False)
class StoredImages:
    """A batch of images of a data set."""

    pixels: Tensor
    """(n, C, H, W), in the stored type, within the data set's `value_range`."""
    labels: Tensor
    """(n,) int64; NO_LABEL for unlabeled images."""
    ids: Tensor
    """(n,) int64: each image's index in the whole data set, whatever the split."""


class Dataset(Protocol):
    """One split of a data set. Classes derive from it for what they leave as it is by default."""

    cuts_anew: ClassVar[bool] = False
    """Whether training sees another part of a picture each time: see `cut`."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""

    @property
    def value_range(self) -> tuple[float, float]:
        """The stored values of black and white in bounded data; without meaning in unbounded data."""

    def __len__(self) -> int: ...

    def read(self, indices: Tensor) -> StoredImages:
        """The images at `indices`, (n,) int64 on the CPU, in [0, len). The images may be on another device."""

    def cut(self, indices: Tensor, positions: Tensor, seed: int) -> StoredImages:
        """The images at `indices` for training, (n,) int64, at these positions of the training stream."""
        return self.read(indices)

    @property
    def image_files(self) -> "ImageFiles | None":
        """The files that the images are read from, if each is a file."""
        return None

    def image_name(self, image: int) -> str:
        """Name of an image: its file's name, else its index in the whole data set."""
        return f"image {image}"


@attrs.frozen(eq=False)
class InMemory(Dataset):
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


Split = Literal["train", "held-out"]


@attrs.frozen(eq=False)
class Splits:
    """An opened data set."""

    train: Dataset
    held_out: Dataset
    fingerprint: str
    """sha256 (hexadecimal) of names, sizes and a sample of the bytes; no path is in it."""
    class_names: tuple[str, ...] = ()
    """Names of the labels 0 … K − 1, as untrusted text; () for data without a label for every image."""

    def require_classes(self, count: int, names: Sequence[str] = (), *hints: Hint) -> None:
        """Raises UsageError if the data hasn't the classes of a network: so many, and of these names if known."""
        if count and count != len(self.class_names):
            found = counted(len(self.class_names), "class") if self.class_names else "no classes"
            raise UsageError(f"the network knows {counted(count, 'class')}, and the data has {found}", *hints)
        if count and names and tuple(names) != self.class_names:
            pairs = enumerate(zip(names, self.class_names, strict=True))
            first, (theirs, ours) = next((place, pair) for place, pair in pairs if pair[0] != pair[1])
            raise UsageError(f"class {first} is {quoted(theirs)} in the network, and {quoted(ours)} in the data")


def numbered_classes(labels: Tensor) -> tuple[str, ...]:
    """The numbers as names of labels without a gap from 0, at most MOST_CLASSES of them; () for other labels."""
    least, most = labels.aminmax()
    if least < 0 or most >= MOST_CLASSES or not torch.bincount(labels).all():
        return ()
    return tuple(str(label) for label in range(int(most) + 1))


_SCALE = 2**64


def held_out_by_hash(names: Sequence[str], share: float) -> Tensor:
    """(len(names),) bool: held-out images, about `share` of all, by the first 64 bits of the sha256 of each name.

    If that selects none of two or more images although `share` > 0, the image with the smallest hash is held out; if it
    selects all although `share` < 1, the image with the largest hash is not.
    """
    hashes = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") for name in names]
    chosen = torch.tensor([value < share * _SCALE for value in hashes], dtype=torch.bool)
    if share > 0 and len(names) > 1 and not bool(chosen.any()):
        chosen[hashes.index(min(hashes))] = True
    if share < 1 and bool(chosen.all()):
        chosen[hashes.index(max(hashes))] = False
    return chosen


def require_training_images(title: str, held_out: Tensor, what: str = "image") -> None:
    """Raises NcsnxError if every image is held out. held_out: (N,) bool. what: an image, for messages."""
    if bool(held_out.all()):
        count = counted(len(held_out), what)
        raise NcsnxError(f"{title}: all of its {count} are held out, and none is left to train on")

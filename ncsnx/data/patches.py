"""Images cut from pictures of any sizes, at the pictures' own resolution or a reduced one.

All pictures are decoded once, into a file in the cache: 8-bit values of one picture after the other, at each scale. It
is mapped into memory, so that processes share what the system keeps of it there, and pictures beyond the memory's size
cost only time.

The picture is divided into a grid of as many cells as patches fit side by side at its largest scale. An image of the
data set is a cell: the corner of its patch lies in it, at a place and a scale that are drawn. So each picture counts by
its area, and an epoch covers all of it.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ncsnx.config.data_sets import Images
from ncsnx.data.dataset import Dataset, StoredImages
from ncsnx.data.decoding import decode, flattened, rgb
from ncsnx.data.image_files import ImageFiles
from ncsnx.errors import Hint, NcsnxError
from ncsnx.quantities import byte_size
from ncsnx.randomness import Purpose, Stream
from ncsnx.storage import atomic
from ncsnx.storage.cache import cache_path, cached
from ncsnx.storage.documents import document
from ncsnx.work import Work

_VERSION = 1
"""Increased when pictures are decoded or stored in another way."""
_PIXELS = "pixels"


@document("the sizes of decoded pictures", sealed=True)
@attrs.frozen
class DecodedSizes:
    """Sizes of decoded pictures, which say where the values of each are in the file beside this document."""

    sizes: tuple[tuple[int, int], ...]
    """(height, width) of each picture at full size."""


@attrs.frozen(eq=False, slots=False)
class DecodedPictures:
    """Pictures as 8-bit values at several scales, in a file that is mapped into memory."""

    path: Path
    channels: int
    sizes: NDArray[np.int64]
    """(n, scales, 2): height and width of each picture at each scale."""

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """(n · scales + 1,): places in the file where the values of each picture and scale begin, and the end."""
        return np.concatenate([[0], np.cumsum(self.sizes.prod(axis=2).ravel() * self.channels)])

    @cached_property
    def _bytes(self) -> NDArray[np.uint8]:
        return np.memmap(self.path, np.uint8, mode="r")

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        return int(self._starts[-1])

    def at(self, picture: int, scale: int) -> NDArray[np.uint8]:
        """(H, W, C): a picture at the scale of this index."""
        height, width = self.sizes[picture, scale]
        start = self._starts[picture * self.sizes.shape[1] + scale]
        return self._bytes[start : start + height * width * self.channels].reshape(height, width, self.channels)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_bytes"}  # it is copied otherwise


def decoded_pictures(
    files: ImageFiles, data: Images, full: Sequence[tuple[int, int, int]], work: Work
) -> DecodedPictures:
    """The pictures at the scales of `data`, cached. full: (width, height, number) of the pictures by size.

    Raises NcsnxError if the cache can't be written or has no room, and BrokenImageError.
    """
    key = {"pillow": PIL.__version__, "version": _VERSION, "files": files.fingerprint, "scales": list(data.scales)}
    place = cache_path("pictures", {**key, "channels": data.channels, "background": data.background})

    def pictures(sizes: Sequence[tuple[int, int]]) -> DecodedPictures:
        return DecodedPictures(place.with_name(_PIXELS), data.channels, _at_scales(sizes, data.scales))

    def find() -> DecodedSizes:
        expected = pictures([(height, width) for width, height, number in full for _ in range(number)])
        free = shutil.disk_usage(place.parent).free
        if expected.nbytes > free:
            raise NcsnxError(
                f"{files.root}: the decoded pictures take {byte_size(expected.nbytes)}, and {place.parent} has room "
                f"for {byte_size(free)}",
                Hint("choose a folder with more room by the variable NCSNX_CACHE"),
            )
        sizes = list[tuple[int, int]]()
        with atomic.replacing(expected.path, expected.nbytes) as temporary:
            pieces = _decoded(files, data, sizes, work)
            atomic.write_pieces(temporary, pieces, expected.nbytes, shown=expected.path)
        return DecodedSizes(tuple(sizes))

    def is_whole(found: DecodedSizes) -> bool:
        expected = pictures(found.sizes)
        return expected.path.is_file() and expected.path.stat().st_size == expected.nbytes

    return pictures(cached(place, DecodedSizes, find, f"the decoded pictures of {files.root}", work, is_whole).sizes)


def _decoded(files: ImageFiles, data: Images, sizes: list[tuple[int, int]], work: Work) -> Iterator[memoryview]:
    """The values of each picture at each scale; its size is appended to `sizes`."""
    with work.progress(f"decoding {files.root.name}", total=len(files), unit="pictures") as advance:
        for name in files.names:
            work.check_stop()
            picture = flattened(decode(files.read(name), name), data.channels, rgb(data.background))
            sizes.append((picture.height, picture.width))
            for height, width in _at_scales(sizes[-1:], data.scales)[0].tolist():
                reduced = picture.resize((width, height), Image.Resampling.LANCZOS)
                yield np.ascontiguousarray(reduced).reshape(-1).data
            advance(1)


def _at_scales(sizes: Sequence[tuple[int, int]], scales: Sequence[float]) -> NDArray[np.int64]:
    """(n, scales, 2): heights and widths (n, 2) of pictures at each scale."""
    reduced = np.rint(np.array(sizes, np.float64).reshape(-1, 1, 2) * np.array(scales)[:, None])
    whole: NDArray[np.int64] = np.maximum(reduced, 1).astype(np.int64)
    return whole


@attrs.frozen(eq=False)
class Patches(Dataset):
    """One split of the patches of pictures."""

    decoded: DecodedPictures
    files: ImageFiles
    """The n decoded pictures."""
    members: Tensor
    """(m,) int64: the pictures of this split among them."""
    labels: Tensor
    """(m,) int64: labels of the pictures of this split."""
    size: tuple[int, int]
    """(height, width) of a patch."""
    grids: Tensor = attrs.field(init=False)
    """(n, 2) int64: rows and columns of the cells of each picture."""
    firsts: Tensor = attrs.field(init=False)
    """(n,) int64: id of the first cell of each picture."""
    ends: Tensor = attrs.field(init=False)
    """(m,) int64: number of images of this split up to the end of each of its pictures."""

    value_range: ClassVar[tuple[float, float]] = (0, 255)
    cuts_anew: ClassVar[bool] = True

    @grids.default
    def _grids(self) -> Tensor:
        return torch.from_numpy(self.decoded.sizes.max(axis=1)) // torch.tensor(self.size)

    @firsts.default
    def _firsts(self) -> Tensor:
        cells = self.grids.prod(dim=1)
        return cells.cumsum(0) - cells

    @ends.default
    def _ends(self) -> Tensor:
        return self.grids[self.members].prod(dim=1).cumsum(0)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self.decoded.channels, *self.size

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def image_files(self) -> ImageFiles:
        """The pictures."""
        return self.files

    def image_name(self, image: int) -> str:
        """File of the picture that the image with this id is cut from."""
        return self.files.names[int(torch.searchsorted(self.firsts, image, right=True)) - 1]

    def read(self, indices: Tensor) -> StoredImages:
        """The images at `indices`: patches at fixed places and scales."""
        # step 0 of this purpose belongs to training
        return self._cut(indices, lambda ids: Stream(0, Purpose.CROP).uniform(ids, (3,), step=1))

    def cut(self, indices: Tensor, positions: Tensor, seed: int) -> StoredImages:
        """Patches of the cells at `indices`, at places and scales drawn by position in the training stream, (B,)."""
        return self._cut(indices, lambda _: Stream(seed, Purpose.CROP).uniform(positions, (3,)))

    def _cut(self, indices: Tensor, draw: Callable[[Tensor], Tensor]) -> StoredImages:
        """draw: ids → (B, 3) in [0, 1): the place in the cell, down and to the right, and the scale."""
        members = torch.searchsorted(self.ends, indices, right=True)
        pictures = self.members[members]
        grids = self.grids[pictures]
        cells = indices - self.ends[members] + grids.prod(dim=1)  # of the picture, row by row
        ids = self.firsts[pictures] + cells
        drawn = draw(ids).double()
        scales = (drawn[:, 2] * self.decoded.sizes.shape[1]).long()
        shares = (torch.stack([cells // grids[:, 1], cells % grids[:, 1]], dim=1) + drawn[:, :2]) / grids

        height, width = self.size
        patches = np.empty((len(indices), height, width, self.decoded.channels), np.uint8)
        places = zip(pictures.tolist(), scales.tolist(), shares.tolist(), strict=True)
        for patch, (picture, scale, (down, right)) in zip(patches, places, strict=True):
            whole = self.decoded.at(picture, scale)
            top, left = int(down * (whole.shape[0] - height + 1)), int(right * (whole.shape[1] - width + 1))
            patch[:] = whole[top : top + height, left : left + width]
        pixels = torch.from_numpy(patches).permute(0, 3, 1, 2).contiguous()
        return StoredImages(pixels, self.labels[members], ids)

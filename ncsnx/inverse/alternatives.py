"""The alternatives of a task's pictures, read from the file of samples as they are needed."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.storage import reading

_READ_BYTES = 2**25
_TYPE = np.dtype("<f4")


@attrs.frozen(eq=False)
class Alternatives:
    """The images of one picture, (count, C, H, W) float32 as sampled, of which at most 32 MiB are in memory at once."""

    path: Path
    descriptor: int
    start: int
    """Offset of the first image in the file."""
    count: int
    shape: tuple[int, ...]
    """(C, H, W)"""

    def first(self, most: int) -> Tensor:
        """The first `most` images, or all if there are fewer."""
        return self._read(range(min(most, self.count)), slice(0, self._size)).view(-1, *self.shape)

    def batches(self) -> Iterator[Tensor]:
        """All images, in order."""
        step = max(1, _READ_BYTES // (_TYPE.itemsize * self._size))
        for begin in range(0, self.count, step):
            which = range(begin, min(begin + step, self.count))
            yield self._read(which, slice(0, self._size)).view(-1, *self.shape)

    def reduced(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """(C, H, W): a function of the values of a pixel in all images, (count, V) → (V,) for V pixels."""
        return torch.cat([function(values) for _, values in self.by_pixel()]).view(self.shape)

    def by_pixel(self, most_bytes: int = _READ_BYTES) -> Iterator[tuple[slice, Tensor]]:
        """Places in the flattened image and the values there in all images, (count, V), of at most `most_bytes`."""
        step = max(1, most_bytes // (_TYPE.itemsize * self.count))
        for begin in range(0, self._size, step):
            pixels = slice(begin, min(begin + step, self._size))
            yield pixels, self._read(range(self.count), pixels)

    def magnitudes(self, most_bytes: int = _READ_BYTES) -> Iterator[tuple[slice, Tensor]]:
        """Magnitudes (C/2, H, W) of pairs of channels, real and imaginary part, by pixel: see `by_pixel`."""
        plane = math.prod(self.shape[1:])
        step = max(1, most_bytes // (2 * _TYPE.itemsize * self.count))
        for channel in range(self.shape[0] // 2):
            for begin in range(0, plane, step):
                end = min(begin + step, plane)
                real, imaginary = (
                    self._read(range(self.count), slice(part * plane + begin, part * plane + end))
                    for part in (2 * channel, 2 * channel + 1)
                )
                yield slice(channel * plane + begin, channel * plane + end), torch.hypot(real, imaginary)

    @property
    def _size(self) -> int:
        return math.prod(self.shape)

    def _read(self, which: range, pixels: slice) -> Tensor:
        """Values (images, pixels) of some images."""
        found = np.empty((len(which), pixels.stop - pixels.start), _TYPE)
        for row, image in zip(found, which, strict=True):
            place = self.start + _TYPE.itemsize * (image * self._size + pixels.start)
            if os.preadv(self.descriptor, [row], place) < row.nbytes:
                raise NcsnxError(f"{self.path} was changed while it was read; repeat the command")
        return torch.from_numpy(found.astype(np.float32, copy=False))


@contextmanager
def open_alternatives(samples: Path, pictures: int) -> Iterator[list[Alternatives]]:
    """The alternatives of each picture in a samples.safetensors of pictures · n images. Raises NcsnxError."""
    with safe_open(samples, "pt") as tensors:
        images, *shape = tensors.get_slice("samples").get_shape()
    size = _TYPE.itemsize * math.prod(shape)
    each = images // pictures
    with reading.opened(samples) as file:
        first = os.fstat(file.fileno()).st_size - size * images  # the tensor is the only one, so it ends the file
        yield [
            Alternatives(samples, file.fileno(), first + size * each * place, each, tuple(shape))
            for place in range(pictures)
        ]

"""Slices of volumes as images, read where they are needed: cropped or padded around the centre."""

from collections import OrderedDict
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncsnx.data.dataset import NO_LABEL, StoredImages
from ncsnx.data.readers.complex_values import as_channels
from ncsnx.data.volumes.volume_files import Volume
from ncsnx.storage.array_files import LazyArray, open_array_file
from ncsnx.storage.mapped import require_whole

_MOST_OPEN, _MOST_UNPACKED = 64, 1


class OpenVolumes:
    """Volumes that are read slice by slice. Picklable; each process opens the files itself.

    volumes: the volumes, which slices are counted through. Of those that are unpacked in memory, only the last is kept.
    """

    def __init__(self, volumes: tuple[Volume, ...]) -> None:
        self.volumes = volumes
        self._first = np.cumsum([0, *(volume.count for volume in volumes)])
        self._opened: OrderedDict[int, tuple[LazyArray, int]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": OrderedDict()}

    def __len__(self) -> int:
        return int(self._first[-1])

    def place(self, index: int) -> tuple[Volume, int]:
        """The volume of a slice, and the slice's number in it."""
        place, along = self._located(index)
        return self.volumes[place], along

    def slice(self, index: int) -> NDArray[Any]:
        """A slice, in the shape and type of its volume. Raises NcsnxError if it can't be read."""
        place, along = self._located(index)
        volume, values = self.volumes[place], self._values(place)
        key = tuple(along if axis == volume.axis else slice(None) for axis in range(len(volume.shape)))
        return np.asarray(values[key])

    def _located(self, index: int) -> tuple[int, int]:
        """The index of a slice's volume, and the slice's number in it."""
        place = int(np.searchsorted(self._first, index, side="right")) - 1
        return place, index - int(self._first[place])

    def _values(self, place: int) -> LazyArray:
        volume = self.volumes[place]
        if place not in self._opened:
            values = open_array_file(volume.path).mapped(volume.name)
            self._opened[place] = values, 0 if volume.is_packed else volume.path.stat().st_size
            unpacked = [other for other, (_, size) in self._opened.items() if size == 0]
            for other in unpacked[:-_MOST_UNPACKED]:
                del self._opened[other]
            if len(self._opened) > _MOST_OPEN:
                self._opened.popitem(last=False)
        values, size = self._opened[place]
        require_whole(volume.path, size)
        return values


@attrs.frozen(eq=False)
class VolumeSlices:
    """One split of volumes."""

    source: OpenVolumes
    shape: tuple[int, int, int]
    value_range: tuple[float, float]
    fill: float
    """Value around slices that are smaller."""
    ids: Tensor
    """(n,) int64: indices of the slices, counted through all volumes."""

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, indices: Tensor) -> StoredImages:
        """The slices at `indices`, float32. Raises NcsnxError for a file that has changed."""
        ids = self.ids[indices]
        pixels = torch.empty((len(ids), *self.shape), dtype=torch.float32)
        for place in torch.argsort(ids).tolist():  # file by file
            pixels[place] = self._image(int(ids[place]))
        return StoredImages(pixels, torch.full((len(ids),), NO_LABEL), ids)

    def _image(self, index: int) -> Tensor:
        values = self.source.slice(index)
        is_complex = values.dtype.kind == "c"
        planes = np.array(values, np.complex64 if is_complex else np.float32)
        channels = self.shape[0] // 2 if is_complex else self.shape[0]
        image = as_channels(torch.from_numpy(channels_first(planes, channels))[None])[0]
        return centred(image, self.shape[1:], self.fill)


def channels_first(plane: NDArray[Any], channels: int) -> NDArray[Any]:
    """H×W, C×H×W or H×W×C → C×H×W."""
    if plane.ndim == 2:
        return plane[None]
    return plane if plane.shape[0] == channels else np.ascontiguousarray(plane.transpose(2, 0, 1))


def centred(image: Tensor, size: tuple[int, int], fill: float) -> Tensor:
    """(C, h, w) → (C, *size): each axis cropped around its centre, or padded with `fill`."""
    for axis, wanted in enumerate(size, start=1):
        found = image.shape[axis]
        if found > wanted:
            image = image.narrow(axis, (found - wanted) // 2, wanted)
        elif found < wanted:
            before = (wanted - found) // 2
            larger = image.new_full((*image.shape[:axis], wanted, *image.shape[axis + 1 :]), fill)
            larger.narrow(axis, before, found).copy_(image)
            image = larger
    return image

"""Images cached in memory: decoded at the first read, then kept, on the device if it has room."""

import attrs
import torch
from torch import Tensor

from ncsnx.config.data_sets import Packed
from ncsnx.data.batches import to_device
from ncsnx.data.dataset import Dataset, InMemory, Splits, StoredImages
from ncsnx.data.readers.arrays import ArrayImages
from ncsnx.storage.process import SHARE, available_memory


def _is_in_memory(dataset: Dataset) -> bool:
    """Whether a split is in the CPU's memory or, mapped as packed sets are, in the page cache."""
    return isinstance(dataset, InMemory) or (isinstance(dataset, ArrayImages) and isinstance(dataset.data, Packed))


def cache_in_memory(
    splits: Splits, device: torch.device, budget_bytes: int | None = None, *, processes: int = 1
) -> Splits:
    """The same images, each split cached in memory from its first read if it fits.

    device: where images are used. If a CUDA device has room, `read` returns pixels on it; labels and ids stay on the
    CPU. budget_bytes: limit for each memory, by default a quarter of what is available in it. processes: how many on
    this machine cache the same images; each takes an equal part of what main memory has. The training images come
    first. A split that fits nowhere, or that the CPU reads without decoding, is returned unchanged. Read a cached split
    in this process alone.
    """
    available = {device: torch.cuda.mem_get_info(device)[0]} if device.type == "cuda" else {}
    available[torch.device("cpu")] = available_memory() // processes
    budgets = {memory: free // SHARE if budget_bytes is None else budget_bytes for memory, free in available.items()}
    return attrs.evolve(splits, train=_cached(splits.train, budgets), held_out=_cached(splits.held_out, budgets))


def _cached(dataset: Dataset, budgets: dict[torch.device, int]) -> Dataset:
    """The data set, cached in the first memory with room for it; its size is taken from that budget."""
    if len(dataset) == 0 or dataset.cuts_anew:  # and mapped into memory
        return dataset
    sample = dataset.read(torch.arange(1)).pixels
    size = len(dataset) * sample[0].numel() * sample.element_size()
    for device, budget in budgets.items():
        if device.type == "cpu" and _is_in_memory(dataset):
            break
        if size <= budget:
            budgets[device] -= size
            return CachedImages(dataset, sample, device)
    return dataset


class CachedImages(Dataset):
    """A split whose pixels are kept on a device after the first read."""

    def __init__(self, source: Dataset, sample: Tensor, device: torch.device) -> None:
        """sample: one image of the split, (1, C, H, W), which gives shape and stored type."""
        count = len(source)
        self.source = source
        self._pixels = torch.empty((count, *sample.shape[1:]), dtype=sample.dtype, device=device)
        self._labels, self._ids = (torch.empty(count, dtype=torch.int64) for _ in range(2))
        self._filled = torch.zeros(count, dtype=torch.bool)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self.source.shape

    @property
    def value_range(self) -> tuple[float, float]:
        """The stored values that mean black and white."""
        return self.source.value_range

    def __len__(self) -> int:
        return len(self.source)

    def read(self, indices: Tensor) -> StoredImages:
        """The images at `indices`, their pixels on the device."""
        missing = torch.unique(indices[~self._filled[indices]])
        if len(missing):
            self._fill(missing)
        pixels = self._pixels[to_device(indices, self._pixels.device)]
        return StoredImages(pixels, self._labels[indices], self._ids[indices])

    def _fill(self, indices: Tensor) -> None:
        images = self.source.read(indices)
        device = self._pixels.device
        self._pixels[to_device(indices, device)] = to_device(images.pixels, device)
        self._labels[indices], self._ids[indices] = images.labels, images.ids
        self._filled[indices] = True

"""The training stream: position p = step · batch + j holds an image of epoch p // N, in that epoch's shuffled order.

The batch of a step is a pure function of (seed, step). Resuming therefore needs no replay, and a batch may span the end
of an epoch without dropping an image.
"""

from collections.abc import Iterable, Iterator

import attrs
import torch
from torch import Tensor

from ncsnx.data.dataset import Dataset, StoredImages
from ncsnx.data.read_ahead import read_ahead
from ncsnx.errors import NcsnxError
from ncsnx.randomness import Purpose, Stream
from ncsnx.ranks.rank_group import ALONE, RankGroup


@attrs.frozen(eq=False)
class Batch:
    """The images of one step."""

    images: StoredImages
    positions: Tensor
    """(B,) int64: positions in the training stream."""


class TrainingBatches:
    """The batches of a data set under one seed, or one rank's share of each."""

    def __init__(self, dataset: Dataset, batch_size: int, seed: int, ranks: RankGroup = ALONE) -> None:
        """batch_size: images of a whole batch. ranks: those that share it. Raises NcsnxError for an empty data set."""
        if len(dataset) == 0:
            raise NcsnxError("the data set has no training images; hold out a smaller share")
        self.dataset = dataset
        self.batch_size = batch_size
        self._ranks = ranks
        self._stream = Stream(seed, Purpose.DATA_ORDER)
        self._orders: dict[int, Tensor] = {}

    def positions(self, step: int) -> Tensor:
        """(B,) int64: positions of a step's images in the training stream."""
        shared = self._ranks.share(range(step * self.batch_size, (step + 1) * self.batch_size))
        return torch.arange(shared[0], shared[-1] + 1)

    def indices(self, step: int) -> Tensor:
        """(B,) int64: indices of a step's images in the data set."""
        positions, size = self.positions(step), len(self.dataset)
        epochs = positions // size
        return torch.cat(
            [
                self._order(int(epoch))[positions[epochs == epoch] % size]
                for epoch in range(int(epochs[0]), int(epochs[-1]) + 1)
            ]
        )

    def at(self, step: int) -> Batch:
        """The batch of a step."""
        indices, positions = self.indices(step), self.positions(step)
        return Batch(self.dataset.cut(indices, positions, self._stream.seed), positions)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            # the previous epoch's order is kept too: a batch may span two epochs
            kept = list(self._orders.items())[-1:]
            self._orders = dict([*kept, (epoch, self._stream.permutation(len(self.dataset), epoch))])
        return self._orders[epoch]

    def between(self, start: int, stop: int, workers: int = 0) -> Iterator[Batch]:
        """The batches of steps start … stop − 1. workers: number of processes that read ahead; 0 reads in this one."""
        yield from read_ahead(self.at, range(start, stop), workers)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device. From the CPU to CUDA it is copied through pinned memory, and the process continues.

    Elsewhere the process waits: MPS would read memory that may be freed before (pytorch #189690).
    """
    is_cuda = device.type == "cuda"
    if is_cuda and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=is_cuda)


def prefetched(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches, with pixels, labels and positions on the device.

    On CUDA a batch is read and copied, on a stream of its own, while the step before it is computed. The process then
    waits for the end of the step before that one, so that it holds two batches at most and the device always has work.
    """
    if device.type != "cuda":
        for batch in batches:
            yield _moved(batch, device)
        return
    copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    earlier: torch.cuda.Event | None = None
    for batch in batches:
        computing = torch.cuda.current_stream(device)
        queued = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        queued.record(computing)
        if earlier is not None:
            earlier.synchronize()
        earlier = queued
        with torch.cuda.stream(copying):
            moved = _moved(batch, device)
        computing.wait_stream(copying)
        for tensor in (moved.images.pixels, moved.images.labels, moved.positions):
            tensor.record_stream(computing)  # its memory was allocated for the copying stream
        yield moved


def _moved(batch: Batch, device: torch.device) -> Batch:
    pixels, labels = (to_device(tensor, device) for tensor in (batch.images.pixels, batch.images.labels))
    return Batch(attrs.evolve(batch.images, pixels=pixels, labels=labels), to_device(batch.positions, device))

"""Asynchronous copies to a device."""

from collections.abc import Iterable, Iterator

import attrs
import torch
from torch import Tensor

from ncsnx.data.batches import Batch


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device. From the CPU to CUDA it is copied through pinned memory, and the process continues."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def prefetched(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches, with pixels and positions on the device.

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
        for tensor in (moved.images.pixels, moved.positions):
            tensor.record_stream(computing)  # its memory was allocated for the copying stream
        yield moved


def _moved(batch: Batch, device: torch.device) -> Batch:
    images = attrs.evolve(batch.images, pixels=to_device(batch.images.pixels, device))
    return Batch(images, to_device(batch.positions, device))

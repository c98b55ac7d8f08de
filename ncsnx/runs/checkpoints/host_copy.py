"""A copy of the training state in main memory, from which a checkpoint is written in the background."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ncsnx.runs.checkpoints.checkpoint import Tensors


class HostCopy:
    """Copies tensors into main memory, and keeps that memory for the next copy, since new memory takes longer to get.

    From CUDA, tensors are copied to pinned memory, and only `wait` waits for them.
    """

    def __init__(self) -> None:
        self._memory: dict[tuple[str, str], Tensor] = {}
        self._copied: list[torch.cuda.Event] = []

    @torch.no_grad()
    def take(self, parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensors]:
        """Copies of all tensors by part and name, as they are now; complete after `wait`, valid until the next call.

        They keep their memory format, since a copy into another one takes ten times as long.
        """
        copies = {
            part: {name: self._copy((part, name), tensor) for name, tensor in tensors.items()}
            for part, tensors in parts.items()
        }
        devices = {tensor.device for tensors in parts.values() for tensor in tensors.values() if tensor.is_cuda}
        self._copied = [torch.cuda.current_stream(device).record_event() for device in devices]
        return copies

    def wait(self) -> None:
        """Waits until the copies are complete. May be called in another thread."""
        for event in self._copied:
            event.synchronize()

    def _copy(self, key: tuple[str, str], tensor: Tensor) -> Tensor:
        memory = self._memory.get(key)
        if memory is None or (memory.shape, memory.dtype) != (tensor.shape, tensor.dtype):
            memory = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda, requires_grad=False)
            self._memory[key] = memory
        return memory.copy_(tensor, non_blocking=tensor.is_cuda)

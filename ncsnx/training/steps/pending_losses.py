"""Losses on their way from the device to the record.

A GPU works some steps behind the process that queues them. Reading a loss at once would leave it without work, so an
interval's losses are copied when it ends and read when the next one does.
"""

from collections import deque
from collections.abc import Callable, Iterator

import attrs
import torch
from torch import Tensor


@attrs.frozen(eq=False)
class _Interval:
    """The losses of consecutive steps."""

    last: int
    losses: Tensor
    """(steps,) on the CPU; complete after `copied`."""
    copied: "torch.cuda.Event | None"


class PendingLosses:
    """The losses of the steps since those that were read."""

    def __init__(
        self, device: torch.device, delay: int | None = None, total: Callable[[Tensor], Tensor] = lambda losses: losses
    ) -> None:
        """delay: number of ended intervals that stay unread; by default 1 on CUDA, else 0. total: sums losses, (n,),
        over all ranks."""
        self._total = total
        self._delay = int(device.type == "cuda") if delay is None else delay
        self._open: list[Tensor] = []
        self._ended: deque[_Interval] = deque()

    def add(self, loss: Tensor) -> None:
        """The loss of the next step, a 0-dim tensor on the device."""
        self._open.append(loss)

    def end_interval(self, step: int) -> None:
        """Ends the interval after `step`, and begins to copy its losses."""
        if self._open:
            losses, self._open = self._total(torch.stack(self._open)), []
            self._ended.append(_Interval(step, *_copied(losses)))

    def read(self, *, all: bool) -> Iterator[tuple[int, list[float]]]:
        """Yields (last step, loss of each step) of the ended intervals, oldest first, but for the delayed ones.

        all: the delayed ones too, which waits for the device.
        """
        while len(self._ended) > (0 if all else self._delay):
            interval = self._ended.popleft()
            if interval.copied is not None:
                interval.copied.synchronize()
            yield interval.last, interval.losses.tolist()


def _copied(losses: Tensor) -> tuple[Tensor, "torch.cuda.Event | None"]:
    """The losses on the CPU, and the event after which they are there."""
    if losses.device.type != "cuda":
        return losses.cpu(), None
    pinned = torch.empty(losses.shape, dtype=losses.dtype, pin_memory=True)
    pinned.copy_(losses, non_blocking=True)
    event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(losses.device))
    return pinned, event

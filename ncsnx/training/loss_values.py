"""The values of losses that training reports: of a held-out batch, and of its own steps."""

from collections import deque
from collections.abc import Callable, Iterator

import attrs
import torch
from torch import Tensor

from ncsnx.config.experiment import Experiment
from ncsnx.data import Dataset, Preprocessing
from ncsnx.networks import Network
from ncsnx.randomness import Purpose, Stream
from ncsnx.ranks.rank_group import ALONE, RankGroup
from ncsnx.space import Space
from ncsnx.training.losses import build_loss


@attrs.frozen
class HeldOutLoss:
    """The mean loss on held-out images, overall and per level."""

    mean: float
    levels: dict[int, float]
    """Level (0 is the largest σ) → mean loss of its images."""


class HeldOutBatch:
    """One batch of held-out images at evenly spread levels, whose images the ranks share. The split must not be
    empty."""

    def __init__(
        self, dataset: Dataset, experiment: Experiment, space: Space, device: torch.device, ranks: RankGroup = ALONE
    ) -> None:
        size, levels = min(len(dataset), experiment.batch_size), experiment.schedule.levels
        self._ranks = ranks
        shared = torch.tensor(ranks.share(range(size)), dtype=torch.int64)
        self._is_empty = not len(shared)
        if self._is_empty:  # fewer images than ranks
            return
        positions = shared.to(device)
        images = dataset.read(shared)
        preprocessing = Preprocessing(experiment.data, space, dataset.value_range, experiment.seed)
        self._loss = build_loss(experiment, space)
        self._x = preprocessing.held_out(images.pixels.to(device), positions)
        self._labels = images.labels.to(device)
        self._noise = Stream(experiment.seed, Purpose.HELD_OUT_NOISE).normal(positions, experiment.data.shape)
        # image j is at level j mod L or, with fewer images than levels, at evenly spaced levels from first to last
        self._levels = positions % levels if size >= levels else positions * (levels - 1) // max(1, size - 1)

    @torch.no_grad()
    def loss(self, network: Network) -> HeldOutLoss:
        """The loss of a network in evaluation mode, the same on all ranks."""
        shares = self._ranks.gather(lambda: self._share(network))
        losses, levels = (torch.cat(parts) for parts in zip(*shares, strict=True))
        by_level = {level: float(losses[levels == level].mean()) for level in sorted(set(levels.tolist()))}
        return HeldOutLoss(float(losses.mean()), by_level)

    def _share(self, network: Network) -> tuple[Tensor, Tensor]:
        """(losses, levels) of this rank's images, on the CPU."""
        if self._is_empty:
            return torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.int64)
        sigma, cond = network.sigmas[self._levels], network.class_cond(self._labels)
        losses = self._loss(network, self._x, sigma, self._noise, cond)
        return losses.cpu().double(), self._levels.cpu()


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
        self._ended = deque[tuple[int, Tensor, torch.cuda.Event | None]]()  # last step, losses, when they are copied

    def add(self, loss: Tensor) -> None:
        """The loss of the next step, a 0-dim tensor on the device."""
        self._open.append(loss)

    def end_interval(self, step: int) -> None:
        """Ends the interval after `step`, and begins to copy its losses."""
        if self._open:
            losses, self._open = self._total(torch.stack(self._open)), []
            self._ended.append((step, *_copied(losses)))

    def read(self, *, all: bool) -> Iterator[tuple[int, list[float]]]:
        """Yields (last step, loss of each step) of the ended intervals, oldest first, but for the delayed ones.

        all: the delayed ones too, which waits for the device.
        """
        while len(self._ended) > (0 if all else self._delay):
            last, losses, copied = self._ended.popleft()
            if copied is not None:
                copied.synchronize()
            yield last, losses.tolist()


def _copied(losses: Tensor) -> tuple[Tensor, "torch.cuda.Event | None"]:
    """The losses on the CPU, and the event after which they are there."""
    if losses.device.type != "cuda":
        return losses.cpu(), None
    pinned = torch.empty(losses.shape, dtype=losses.dtype, pin_memory=True)
    pinned.copy_(losses, non_blocking=True)
    event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(losses.device))
    return pinned, event

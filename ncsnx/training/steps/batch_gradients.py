"""Gradients of a batch whose parts are computed one after another, and side by side on several ranks.

With several ranks it is torch's DistributedDataParallel, which sums while the backward pass still runs, unless graphs
repeat the steps (see `ncsnx.training.steps.shared_step`). The loss of a part is a share of the batch's mean, so
gradients are added up, not averaged: ranks may have parts of different sizes.
"""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from ncsnx.config.experiment import Experiment
from ncsnx.errors import Hint, UsageError
from ncsnx.networks import ScoreFunction
from ncsnx.quantities import counted
from ncsnx.ranks.rank_group import RankGroup
from ncsnx.training.score_matching import add_gradients

BUCKET_BYTES = 25 * 2**20
"""Gradients that DistributedDataParallel sums at once by default, but for a first MiB, in bytes."""

PartLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(clean images, levels, noise) → their contribution to the batch's mean loss, 0-dim."""


class BatchGradients:
    """Adds the gradients of a batch to those of the network's weights."""

    def __init__(
        self, network: ScoreFunction, loss: PartLoss, ranks: RankGroup, passes: int = 1, *, sums: bool = True
    ) -> None:
        """ranks: those that share the batch; if there are several, `process_group` must be open on all of them. passes:
        parts of a rank's share. sums: whether the gradients of all ranks are summed; otherwise they stay this rank's.
        """
        self._network, self._ranks = network, ranks
        self._loss: PartLoss = loss
        self._parallel: DistributedDataParallel | None = None
        if sums and ranks.world > 1:
            self._parallel = _parallel(_LossModule(network, loss), passes)
            self._loss = self._parallel

    def add(self, x: Tensor, levels: Tensor, noise: Tensor, *, is_last: bool) -> Tensor:
        """Adds the gradients of a part's loss, and with the last part those of all ranks. Returns its loss, detached.

        is_last: whether this is the rank's last part of its batch.
        """
        with nullcontext() if is_last else self._not_summed():
            loss = self._loss(x, levels, noise)
            add_gradients(self._network, loss)
        return loss.detach()

    def total(self, losses: Tensor) -> Tensor:
        """The sum over all ranks of losses, (n,) on the device; all ranks call it after the same step."""
        if self._ranks.world > 1:
            dist.all_reduce(losses)
        return losses

    def _not_summed(self) -> AbstractContextManager[None]:
        return nullcontext() if self._parallel is None else self._parallel.no_sync()


def require_shareable(network: nn.Module, experiment: Experiment, world: int) -> None:
    """Raises UsageError if `world` ranks can't train on parts of one batch: it is too small, or each image's loss
    depends on the whole batch."""
    if world == 1:
        return
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise UsageError(
            "batch normalization takes its statistics over the whole batch, so one process trains this network",
            Hint("train it in one process, without a launcher"),
        )
    require_enough_images(experiment, world)


def most_ranks(experiment: Experiment) -> int:
    """The largest number of ranks of which each has an image in each pass."""
    return experiment.batch_size // experiment.accumulation


def require_enough_images(experiment: Experiment, world: int) -> None:
    """Raises UsageError unless each of `world` ranks has an image in each pass."""
    if world > most_ranks(experiment):
        raise UsageError(
            f"batch_size={experiment.batch_size} with accumulation={experiment.accumulation} cannot be shared by "
            f"{counted(world, 'rank')}: at most {counted(most_ranks(experiment), 'rank')} can have an image in each "
            "pass",
            Hint("take a larger batch", adds=f"batch_size={world * experiment.accumulation}"),
        )


class _LossModule(nn.Module):
    """The loss of a part as a module, which is what DistributedDataParallel takes."""

    def __init__(self, network: ScoreFunction, loss: PartLoss) -> None:
        super().__init__()
        self.network = network
        self._loss = loss

    def forward(self, x: Tensor, levels: Tensor, noise: Tensor) -> Tensor:
        return self._loss(x, levels, noise)


def _parallel(module: _LossModule, passes: int) -> DistributedDataParallel:
    # the code that a compiler makes of the network stays one piece, which is the one that was checked
    torch._dynamo.config.optimize_ddp = False
    # kernels with one input channel have two equivalent strides
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides", UserWarning)
    device = next(module.parameters()).device
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of torch 2.13, about newer names
        parallel = DistributedDataParallel(
            module,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,  # those that change do so equally on all ranks, or are refused
            gradient_as_bucket_view=True,
            # weights without a gradient are found either way; with a static graph torch 2.13 fails an assertion if a
            # first pass isn't summed
            static_graph=passes == 1,
            find_unused_parameters=passes > 1,
        )
    parallel.register_comm_hook(None, _summed)
    return parallel


def _summed(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    """Sums a bucket of gradients over all ranks; without this hook they would be averaged."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    summed: torch.futures.Future[Tensor] = work.get_future().then(lambda future: future.value()[0])
    return summed

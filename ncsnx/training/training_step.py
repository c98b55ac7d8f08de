"""One step of training: gradients of a batch, clipping, optimizer, moving average.

Nothing in it waits for the device. Before compiled training, one gradient is compared with eager execution: compilers
have silently given wrong gradients (see `ncsnx.networks.resampling` and `layers`), which a training would not show.
"""

import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from ncsnx.config.experiment import Experiment
from ncsnx.data import Preprocessing
from ncsnx.data.augmentation import WORDS as AUGMENTATION_WORDS
from ncsnx.data.augmentation import augmented
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.model_spec import NO_CLASS
from ncsnx.networks import Cond, Network
from ncsnx.networks.contract import NO_COND
from ncsnx.quantities import counted
from ncsnx.randomness import Purpose, Stream, drawn_together
from ncsnx.ranks.rank_group import ALONE, RankGroup
from ncsnx.spelling import parameter
from ncsnx.training.ema import WeightAverage
from ncsnx.training.losses import add_gradients, build_loss, draw_sigmas
from ncsnx.training.optimizers import learning_rate
from ncsnx.training.training_state import TrainingState


class TrainingStep:
    """The steps of one training, which change its state."""

    def __init__(
        self,
        state: TrainingState,
        value_range: tuple[float, float],
        *,
        compiled: bool = False,
        ranks: RankGroup = ALONE,
    ) -> None:
        """value_range: the stored values that mean black and white. compiled: whether one compiled kernel draws the
        noise. ranks: those that share each batch."""
        experiment = state.experiment
        self._state, self._experiment = state, experiment
        self._preprocessing = Preprocessing(experiment.data, state.space, value_range, experiment.seed)
        self._compiled_noise = Stream(experiment.seed, Purpose.TRAINING_NOISE, compiled=True) if compiled else None
        self._loss = build_loss(experiment, state.space)
        self._gradients = BatchGradients(state.network, self.loss_at, ranks, experiment.accumulation)
        self.total_loss = self._gradients.total

    def __call__(
        self, pixels: Tensor, positions: Tensor, classes: Tensor, stopped: Callable[[], bool]
    ) -> Tensor | None:
        """Takes a step on one batch, on the device. Returns its mean loss, 0-dim on the device.

        With several ranks each gives its share of the batch, and gets the share of the loss.

        pixels: (B, C, H, W) as stored. positions: (B,) int64 in the training stream. classes: (B,) int64. stopped:
        whether a stop was requested, asked before each forward pass; then the result is None and nothing is changed.
        """
        total = self._accumulated(pixels, positions, classes, stopped)
        if total is not None:
            self.update()
            self._state.step += 1
        return total

    def loss(self, pixels: Tensor, positions: Tensor, classes: Tensor) -> Tensor:
        """The contribution of these images to the batch's mean loss."""
        return self.loss_at(*self.inputs(pixels, positions, classes))

    def inputs(self, pixels: Tensor, positions: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor, Cond]:
        """Arguments of `loss_at`."""
        experiment, network = self._experiment, self._state.network
        streams = self._streams(positions)
        x, labels = self._preprocessing.training(pixels, positions, streams), None
        if experiment.augmentation is not None:
            x, labels = augmented(x, positions, streams(Purpose.AUGMENTATION), experiment.augmentation.probability)
        stream, least = streams(Purpose.NOISE_LEVEL), self._state.space.noise
        sigma = draw_sigmas(experiment.schedule, network.sigmas, stream, positions, least)
        noise = (self._compiled_noise or streams(Purpose.TRAINING_NOISE)).normal(positions, experiment.data.shape)
        cond = {**network.training_cond(positions, labels), **self._class_cond(classes, positions, streams)}
        return x, sigma, noise, cond

    def _class_cond(self, classes: Tensor, positions: Tensor, streams: Callable[[Purpose], Stream]) -> Cond:
        """The classes of the images, a share of which are withheld, so that the network learns images of any class."""
        if not self._state.network.classes:
            return NO_COND
        drawn = streams(Purpose.CLASS_DROPOUT).uniform(positions, (1,))[:, 0]
        withheld = drawn < self._experiment.model.class_dropout
        return self._state.network.class_cond(torch.where(withheld, NO_CLASS, classes))

    def _streams(self, positions: Tensor) -> Callable[[Purpose], Stream]:
        """The streams of a batch, with all draws of `inputs` but those of dequantization, dropout, and compiled
        noise."""
        counts = {(Purpose.FLIP, 0): 1, (Purpose.CROP, 0): 2, (Purpose.NOISE_LEVEL, 0): 2}
        if self._experiment.augmentation is not None:
            counts |= AUGMENTATION_WORDS
        if self._state.network.classes:
            counts[Purpose.CLASS_DROPOUT, 0] = 1
        if self._compiled_noise is None:
            counts[Purpose.TRAINING_NOISE, 0] = math.prod(self._experiment.data.shape)
        return drawn_together(self._experiment.seed, positions, counts)

    def loss_at(self, x: Tensor, sigma: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        """The contribution of clean images in the network's range, (B, C, H, W) float32, to the batch's mean loss, with
        their σ, noise, and what else the network gets in training."""
        losses = self._loss(self._state.network, x, sigma, noise, cond, self._state.step)
        return losses.sum() / self._experiment.batch_size

    def update(self) -> None:
        """Updates the weights and their average by the gradients, which are dropped. The step is not counted."""
        state = self._state
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(self._experiment, state.step)
        update_weights(state.network, state.optimizer, state.average, self._experiment.clip_norm)
        state.optimizer.zero_grad(set_to_none=True)

    def _accumulated(
        self, pixels: Tensor, positions: Tensor, classes: Tensor, stopped: Callable[[], bool]
    ) -> Tensor | None:
        """Computes the batch's gradients in `accumulation` passes. Returns its mean loss, or this rank's share of it;
        None after a stop."""
        passes = self._experiment.accumulation
        # with one pass a stop comes before it, when nothing is to be restored
        buffers = self._state.saved_buffers() if passes > 1 else []
        before = [buffer.clone() for buffer in buffers]
        total = torch.zeros((), device=pixels.device)
        parts = zip(*(whole.tensor_split(passes) for whole in (pixels, positions, classes)), strict=True)
        for number, part in enumerate(parts, start=1):
            if stopped():
                self._state.take_back(buffers, before)
                return None
            total += self._gradients.add(*self.inputs(*part), is_last=number == passes)
        return total


def update_weights(
    network: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None, clip_norm: float | None
) -> None:
    """Clips the norm of the gradients, updates the weights by them, and then the average of the weights."""
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
    optimizer.step()
    if average is not None:
        average.update()


PartLoss = Callable[..., Tensor]
"""(clean images, σ, noise, cond) → their contribution to the batch's mean loss, 0-dim."""


class BatchGradients:
    """Adds the gradients of a batch to those of the network's weights."""

    def __init__(self, network: Network, loss: PartLoss, ranks: RankGroup, passes: int = 1) -> None:
        """ranks: those that share the batch. passes: parts of a rank's share."""
        self._network, self._ranks = network, ranks
        self._loss: PartLoss = loss
        self._parallel: DistributedDataParallel | None = None
        if ranks.world > 1:
            self._parallel = _parallel(_LossModule(network, loss), passes)
            self._loss = self._parallel

    def add(self, *inputs: Tensor | Cond, is_last: bool) -> Tensor:
        """Adds the gradients of a part's loss, and with the last part those of all ranks. Returns its loss, detached.

        inputs: arguments of the loss. is_last: whether this is the rank's last part of its batch.
        """
        with nullcontext() if is_last else self._not_summed():
            loss = self._loss(*inputs)
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

    def __init__(self, network: Network, loss: PartLoss) -> None:
        super().__init__()
        self.network = network
        self._loss = loss

    def forward(self, *inputs: Tensor | Cond) -> Tensor:
        return self._loss(*inputs)


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


TOLERANCE = {"fp32": 1e-3, "tf32": 2e-2, "bf16": 0.1}
"""Largest ‖compiled − eager‖ / ‖eager‖ that rounding explains.

At width 128 rounding gave 8e-5 in fp32 and 1e-2 in bf16; a wrong gradient was off by 0.3.
"""


def require_equal_gradient(state: TrainingState, loss: Callable[[], Tensor]) -> float:
    """‖compiled − eager‖ / ‖eager‖ for the gradient of `loss()` by all weights. The state stays unchanged.

    Compiles the network for training. Raises NcsnxError if the difference exceeds what rounding explains.
    """
    compiled = _gradient(state, loss)
    with torch.compiler.set_stance("force_eager"):
        eager = _gradient(state, loss)
    difference = float((compiled - eager).norm() / eager.norm())
    if not difference <= TOLERANCE[state.experiment.precision]:
        raise NcsnxError(
            f"the compiled gradient differs from the eager one by {difference:.2g} of its norm, "
            f"which rounding does not explain (torch {torch.__version__})",
            Hint(f"leave out {parameter('compile')}"),
        )
    return difference


def _gradient(state: TrainingState, loss: Callable[[], Tensor]) -> Tensor:
    """The gradient in one vector, in float64 on the CPU."""
    buffers = list(state.network.buffers())
    before = [buffer.clone() for buffer in buffers]
    add_gradients(state.network, loss())
    parts = [p.grad.detach().flatten().cpu().double() for p in state.network.parameters() if p.grad is not None]
    state.take_back(buffers, before)
    return torch.cat(parts)

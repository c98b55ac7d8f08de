"""One step of training: gradients of a batch, clipping, optimizer, moving average.

Nothing in it waits for the device, and all that changes from step to step comes as a tensor. So it can be recorded as
one CUDA graph, or as two if several ranks share it.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ncsnx.capturing import CapturedFunction
from ncsnx.data import Preprocessing
from ncsnx.randomness import Purpose, Stream
from ncsnx.ranks.rank_group import ALONE, RankGroup
from ncsnx.training.ema import WeightAverage
from ncsnx.training.optimizers import is_capturable, learning_rate, set_learning_rate
from ncsnx.training.score_matching import score_matching_loss
from ncsnx.training.steps.batch_gradients import BatchGradients
from ncsnx.training.steps.shared_step import SharedStep
from ncsnx.training.training_state import TrainingState


class TrainingStep:
    """The steps of one training, which change its state."""

    def __init__(
        self,
        state: TrainingState,
        value_range: tuple[float, float],
        *,
        graphs: bool,
        report: Callable[[str], None],
        compiled: bool = False,
        ranks: RankGroup = ALONE,
    ) -> None:
        """value_range: the stored values that mean black and white. graphs: whether steps are replayed as CUDA graphs,
        if the optimizer can be captured. report: called with one line if they can't. compiled: whether one compiled
        kernel draws the noise. ranks: those that share each batch."""
        experiment = state.experiment
        self._state, self._experiment = state, experiment
        self._preprocessing = Preprocessing(experiment.data, value_range, experiment.seed)
        self._levels = Stream(experiment.seed, Purpose.NOISE_LEVEL)
        self._noise = Stream(experiment.seed, Purpose.TRAINING_NOISE, compiled)
        is_captured = graphs and is_capturable(state.optimizer)
        self._gradients = BatchGradients(
            state.network, self.loss_at, ranks, experiment.accumulation, sums=not is_captured
        )
        self.total_loss = self._gradients.total
        self._captured: Callable[[Tensor, Tensor, float], Tensor] | None = None
        if is_captured and ranks.world == 1:
            self._captured = CapturedFunction(self._whole, "a training step", changes=self._changes, report=report)
        elif is_captured:
            self._captured = SharedStep(
                state.network, self._without_stops, self._updated, changes=self._changes, report=report
            )

    def __call__(self, pixels: Tensor, positions: Tensor, stopped: Callable[[], bool]) -> Tensor | None:
        """Takes a step on one batch, on the device. Returns its mean loss, 0-dim on the device.

        With several ranks each gives its share of the batch, and gets the share of the loss.

        pixels: (B, C, H, W) as stored. positions: (B,) int64 in the training stream. stopped: whether a stop was
        requested, asked before each forward pass, but only once before a graph; then the result is None and nothing is
        changed.
        """
        if self._captured is None:
            total = self._accumulated(pixels, positions, stopped)
            if total is None:
                return None
            self.update(self.learning_rate)
        elif stopped():
            return None
        else:
            total = self._captured(pixels, positions, self.learning_rate)
        self._state.step += 1
        return total

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next update."""
        return learning_rate(self._experiment.optimizer, self._state.step, self._experiment.warmup_steps)

    def loss(self, pixels: Tensor, positions: Tensor) -> Tensor:
        """The contribution of these images to the batch's mean loss."""
        return self.loss_at(self.images(pixels, positions), *self.noise(positions))

    def images(self, pixels: Tensor, positions: Tensor) -> Tensor:
        """Clean images in the network's range, (B, C, H, W) float32."""
        return self._preprocessing.training(pixels, positions)

    def noise(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Levels (B,) int64, 0 is the largest σ, and standard normal noise (B, C, H, W) float32."""
        levels = self._levels.integers(positions, self._experiment.schedule.levels)
        return levels, self._noise.normal(positions, self._experiment.data.shape)

    def loss_at(self, x: Tensor, levels: Tensor, noise: Tensor) -> Tensor:
        """The contribution of clean images to the batch's mean loss, with their levels and noise."""
        losses = score_matching_loss(self._state.network, x, levels, noise, self._experiment.loss.power)
        return losses.sum() / self._experiment.batch_size

    def update(self, lr: float | Tensor) -> None:
        """Updates the weights and their average by the gradients, which are dropped. The step is not counted."""
        self._updated(lr)
        self._state.optimizer.zero_grad(set_to_none=True)

    def _updated(self, lr: float | Tensor) -> None:
        """Updates the weights and their average. lr: a number, or a tensor that a graph reads."""
        state = self._state
        set_learning_rate(state.optimizer, lr)
        update_weights(state.network, state.optimizer, state.average, self._experiment.clip_norm)

    def _whole(self, pixels: Tensor, positions: Tensor, lr: float | Tensor) -> Tensor:
        """A step without stops. lr: a number, or a tensor that a graph reads."""
        self._state.optimizer.zero_grad(set_to_none=True)  # what a failed recording may have left
        total = self._without_stops(pixels, positions)
        self.update(lr)
        return total

    def _without_stops(self, pixels: Tensor, positions: Tensor) -> Tensor:
        """Computes the batch's gradients; returns its mean loss, or this rank's share of it."""
        total = self._accumulated(pixels, positions, lambda: False)
        assert total is not None
        return total

    def _accumulated(self, pixels: Tensor, positions: Tensor, stopped: Callable[[], bool]) -> Tensor | None:
        """Computes the batch's gradients in `accumulation` passes. Returns its mean loss, or this rank's share of it;
        None after a stop."""
        passes = self._experiment.accumulation
        # with one pass a stop comes before it, when nothing is to be restored
        buffers = self._state.saved_buffers() if passes > 1 else []
        before = [buffer.clone() for buffer in buffers]
        total = torch.zeros((), device=pixels.device)
        parts = zip(pixels.tensor_split(passes), positions.tensor_split(passes), strict=True)
        for number, (part, places) in enumerate(parts, start=1):
            if stopped():
                self._state.take_back(buffers, before)
                return None
            images, noise = self.images(part, places), self.noise(places)
            total += self._gradients.add(images, *noise, is_last=number == passes)
        return total

    def _changes(self) -> Iterator[Tensor]:
        """The tensors that a step changes."""
        yield from self._state.network.parameters()
        yield from self._state.network.buffers()
        for moments in self._state.optimizer.state.values():
            yield from (tensor for tensor in moments.values() if isinstance(tensor, Tensor))
        if self._state.average is not None:
            yield from self._state.average.averages()


def update_weights(
    network: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None, clip_norm: float | None
) -> None:
    """Clips the norm of the gradients, updates the weights by them, and then the average of the weights."""
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
    optimizer.step()
    if average is not None:
        average.update()

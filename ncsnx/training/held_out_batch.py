"""The held-out loss: always the same images, noise and levels, so that its curve shows the weights, not the draws."""

import attrs
import torch

from ncsnx.config.experiment import Experiment
from ncsnx.data import Dataset, Preprocessing
from ncsnx.networks import ScoreFunction
from ncsnx.randomness import Purpose, Stream
from ncsnx.training.score_matching import score_matching_loss


@attrs.frozen
class HeldOutLoss:
    """The loss on held-out images, and at each of the levels that were looked at."""

    mean: float
    levels: dict[int, float]
    """Level (0 the largest σ) → mean loss of its images."""


class HeldOutBatch:
    """One batch of held-out images, at levels spread evenly over all: with fewer images than levels, over some.

    The split must not be empty.
    """

    def __init__(self, dataset: Dataset, experiment: Experiment, device: torch.device) -> None:
        size, levels = min(len(dataset), experiment.batch_size), experiment.schedule.levels
        positions = torch.arange(size, device=device)
        pixels = dataset.read(torch.arange(size)).pixels.to(device)
        preprocessing = Preprocessing(experiment.data, dataset.value_range, experiment.seed)
        self._power = experiment.loss.power
        self._x = preprocessing.held_out(pixels, positions)
        self._noise = Stream(experiment.seed, Purpose.HELD_OUT_NOISE).normal(positions, experiment.data.shape)
        # image j at level j mod L, or, with fewer images than levels, at evenly spaced ones from the first to the last
        self._levels = positions % levels if size >= levels else positions * (levels - 1) // max(1, size - 1)

    @torch.no_grad()
    def loss(self, network: ScoreFunction) -> HeldOutLoss:
        """The loss of a network in evaluation mode; one evaluation."""
        losses = score_matching_loss(network, self._x, self._levels, self._noise, self._power).cpu().double()
        levels = self._levels.cpu()
        by_level = {level: float(losses[levels == level].mean()) for level in sorted(set(levels.tolist()))}
        return HeldOutLoss(float(losses.mean()), by_level)

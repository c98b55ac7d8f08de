"""The held-out loss. Images, noise and levels are always the same, so its curve reflects the weights alone."""

import attrs
import torch
from torch import Tensor

from ncsnx.config.experiment import Experiment
from ncsnx.data import Dataset, Preprocessing
from ncsnx.networks import ScoreFunction
from ncsnx.randomness import Purpose, Stream
from ncsnx.ranks.rank_group import ALONE, RankGroup
from ncsnx.training.score_matching import score_matching_loss


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
        self, dataset: Dataset, experiment: Experiment, device: torch.device, ranks: RankGroup = ALONE
    ) -> None:
        size, levels = min(len(dataset), experiment.batch_size), experiment.schedule.levels
        self._ranks = ranks
        shared = torch.tensor(ranks.share(range(size)), dtype=torch.int64)
        self._is_empty = not len(shared)
        if self._is_empty:  # fewer images than ranks
            return
        positions = shared.to(device)
        pixels = dataset.read(shared).pixels.to(device)
        preprocessing = Preprocessing(experiment.data, dataset.value_range, experiment.seed)
        self._power = experiment.loss.power
        self._x = preprocessing.held_out(pixels, positions)
        self._noise = Stream(experiment.seed, Purpose.HELD_OUT_NOISE).normal(positions, experiment.data.shape)
        # image j is at level j mod L or, with fewer images than levels, at evenly spaced levels from first to last
        self._levels = positions % levels if size >= levels else positions * (levels - 1) // max(1, size - 1)

    @torch.no_grad()
    def loss(self, network: ScoreFunction) -> HeldOutLoss:
        """The loss of a network in evaluation mode, the same on all ranks; takes one evaluation."""
        shares = self._ranks.together(lambda: self._share(network))
        losses, levels = (torch.cat(parts) for parts in zip(*shares, strict=True))
        by_level = {level: float(losses[levels == level].mean()) for level in sorted(set(levels.tolist()))}
        return HeldOutLoss(float(losses.mean()), by_level)

    def _share(self, network: ScoreFunction) -> tuple[Tensor, Tensor]:
        """(losses, levels) of this rank's images, on the CPU."""
        if self._is_empty:
            return torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.int64)
        losses = score_matching_loss(network, self._x, self._levels, self._noise, self._power)
        return losses.cpu().double(), self._levels.cpu()

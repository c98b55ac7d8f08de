"""Exact scores of Gaussian data and mixtures: cheap, and independent of the batch; and recorded noise."""

import math

import attrs
import torch
from torch import Tensor

from ncsnx.config import Geometric
from ncsnx.samplers.state import ScaledScore, Score
from ncsnx.schedules.levels import sigmas
from ncsnx.schedules.techniques import NoisePlan

MEAN = 0.4
DEVIATION = 0.2
SHAPE = (1, 4, 4)
SIGMAS = (1.0, 0.5, 0.25, 0.1, 0.05)
CPU = torch.device("cpu")


def scaled(score: Score) -> ScaledScore:
    """A model as a network gives it, of its score s(x, σ) with σ as a tensor (B, 1, 1, 1)."""

    def model(x: Tensor, sigma: Tensor, cond: object) -> Tensor:
        each = sigma.view(-1, 1, 1, 1)
        return each * score(x, each)

    return model


def gaussian_score(x: Tensor, sigma: float | Tensor) -> Tensor:
    """Score of N(MEAN, DEVIATION²) with noise of σ."""
    return (MEAN - x) / (DEVIATION**2 + sigma**2)


@attrs.frozen
class Mixture:
    """Data with independent pixels from the same mixture of normal distributions."""

    weights: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Score of the data with noise of σ."""
        scores, logits = [], []
        for weight, mean, deviation in zip(self.weights, self.means, self.deviations, strict=True):
            variance = torch.as_tensor(deviation**2 + sigma**2)
            score = (mean - x) / variance
            scores.append(score)
            logits.append(math.log(weight) - 0.5 * variance.log() - 0.5 * variance * score**2)
        return (torch.softmax(torch.stack(logits), dim=0) * torch.stack(scores)).sum(dim=0)

    @property
    def mean(self) -> float:
        """Mean of a pixel."""
        return sum(weight * mean for weight, mean in zip(self.weights, self.means, strict=True))

    @property
    def variance(self) -> float:
        """Variance of a pixel."""
        parts = zip(self.weights, self.means, self.deviations, strict=True)
        return sum(weight * (mean**2 + deviation**2) for weight, mean, deviation in parts) - self.mean**2


def levels_of_plan(plan: NoisePlan) -> tuple[float, ...]:
    """The noise levels of a plan."""
    return sigmas(Geometric(sigma_max=plan.sigma_max, sigma_min=plan.sigma_min, levels=plan.levels))


def unchanged(x: Tensor) -> Tensor:
    """The data transform 'none'."""
    return x


def clamped(x: Tensor) -> Tensor:
    """The inverse of the data transform 'none'."""
    return x.clamp(0, 1)


@attrs.frozen(eq=False)
class RecordedNoise:
    """Replays recorded draws."""

    draws: Tensor
    """(K, B, C, H, W), in the order of use."""

    def __call__(self, k: int) -> Tensor:
        """(B, C, H, W). Raises IndexError past the last draw."""
        return self.draws[k]

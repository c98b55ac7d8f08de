"""The exam of a sampler: whether its images agree with a noisy measurement.

1. It continues from the x that it gets back. A sampler that continues from its own x loses the measurement. Images and
   moments needn't show that, so the exam displaces x between steps, see `continues_from_given_x`.
2. An image doesn't depend on the others of its batch.
3. It draws from the known posterior of Gaussian data: 16 pixels with correlated neighbors, some of them measured with
   low or high noise. The exam checks the mean, as a fraction of the way from the posterior's to the data's, and the
   variance of the measured pixels, unless the sampler draws no noise: the flow alone can't restore a variance.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
import torch
from torch import Tensor

from ncsnx.config.sampler import Exponential, GridSampler, Sampler
from ncsnx.inverse import Masking
from ncsnx.inverse.rules.exact import ExactRule
from ncsnx.samplers.building import run, sampler_levels
from ncsnx.samplers.contract import Definition
from ncsnx.samplers.state import Noise, Rule
from tests.samplers.toy import scaled

STEPS = 60
"""Number of steps of a sampler on a grid."""
NOISES = (0.1, 0.5)
"""Standard deviations of the measurement's noise; the data's is about 0.6."""
LARGEST_MEAN_ERROR = 0.6
"""Largest accepted error of the mean, as a fraction of the way from the posterior's to the data's. A sampler that
ignores the measurement has 1, one that never goes back (see `ncsnx.inverse.rules.exact`) 0.35, a solver of the flow
0.5."""
VARIANCE_BOUNDS = (0.35, 2.0)
"""Accepted variances of the measured pixels, as multiples of the posterior's. `cas` of first order has ½ with any data;
a sampler that ignores a measurement with low noise has 39."""

MeasuredPixels = Callable[[Tensor, Tensor, float, Noise], Rule]
"""(mask of the measured pixels, their values (B, M), standard deviation of the noise, draws) → the measurement."""


def measured_pixels(known: Tensor, values: Tensor, deviation: float, noise: Noise) -> ExactRule:
    """A noisy measurement of some pixels. known: mask (C, H, W) bool; values: (B, M)."""
    return ExactRule(Masking(known), values, noise, deviation)


_SHAPE, _COUNT, _FEW = (1, 4, 4), 400, 12
_PIXEL, _FEW_LEVELS, _MOST_STEPS, _EXACT = (1, 1, 1, 1), 5, 60, 1e-6
_LEVELS = tuple(3.0 * (0.02 / 3.0) ** (number / 59) for number in range(60))
_DEVIATION = 0.6


def fault(
    definition: Definition,
    config: Sampler,
    sigmas: Sequence[float],
    measured: MeasuredPixels,
    largest_mean_error: float = LARGEST_MEAN_ERROR,
) -> str | None:
    """The fault of a sampler, as a clause; None if it passes."""
    if not continues_from_given_x(definition, config):
        return "it continues from its own x instead of the x that yield returns"
    steps, count = (_FEW, _FEW) if definition.adaptive else (STEPS, _COUNT)
    if isinstance(config, GridSampler):
        config, sigmas = attrs.evolve(config, steps=steps, grid=Exponential()), _LEVELS
    levels = sampler_levels(config, sigmas)
    for deviation in NOISES:
        problem = _Problem.of(deviation)
        together, drawn = problem.sample(definition, config, levels, slice(0, count), measured)
        split = [problem.sample(definition, config, levels, rows, measured)[0] for rows in (slice(0, 1), slice(1, 3))]
        if not torch.allclose(torch.cat(split), together[:3], rtol=0, atol=1e-3):
            return "an image depends on the others of its batch"
        error, spread = problem.judge(together)
        where = f"with noise of {deviation:g}, images of Gaussian data have"
        if not error <= largest_mean_error:
            return f"{where} a mean that is {error:.2f} of the way from the posterior's to the prior's"
        if drawn and not VARIANCE_BOUNDS[0] <= spread <= VARIANCE_BOUNDS[1]:
            return f"{where} a variance ratio of {spread:.2f} to the posterior"
    return None


def continues_from_given_x(definition: Definition, config: Sampler) -> bool:
    """Whether a displacement of x by the driver has the same effect as a displacement by the sampler.

    The denoised image and the score are held constant, so that only x carries a displacement. A sampler passes either
    test. First: x and the denoised images are displaced together from some step on; then x stays displaced by the same
    amount. Second: the effect over two steps is the product of the effects over each. A sampler that remembers denoised
    images fails only the first test. One that remembers slopes fails only the second. One that keeps its own x fails
    both.
    """
    small = attrs.evolve(config, steps=_FEW_LEVELS) if isinstance(config, GridSampler) else config
    levels = [1.001**-number for number in range(_FEW_LEVELS)]
    trace = partial(_trace, definition, small, levels)
    plain = trace()
    steps = range(len(plain) - 1)

    def effects(**displacement: Any) -> list[float]:
        return [place - other for place, other in zip(trace(**displacement), plain, strict=True)]

    moves = [effects(x_from=step, denoised_from=step)[step + 1 :] for step in steps]
    if all(abs(effect - 1) < _EXACT for move in moves for effect in move):
        return True
    # row k: effects of a displacement that the sampler itself makes before step k
    own = [effects(start=1.0), *(effects(x_from=step) for step in steps)]
    return all(abs(own[step][step + 1] - own[step][step] * own[step + 1][step + 1]) < _EXACT for step in steps)


def _trace(
    definition: Definition,
    config: Sampler,
    levels: Sequence[float],
    *,
    start: float = 0.0,
    x_from: int | None = None,
    denoised_from: int | None = None,
) -> list[float]:
    """The x at which the steps of one pixel begin (at most _MOST_STEPS), and the result.

    start: displacement of the initial x. x_from: step at which the x that the sampler gets back is displaced by 1.
    denoised_from: step from which on the denoised image is displaced by 1.
    """
    begun: list[float] = []

    def told() -> tuple[Tensor, Tensor]:
        displaced = denoised_from is not None and len(begun) > denoised_from
        return torch.full(_PIXEL, 0.3 + displaced).double(), torch.full(_PIXEL, -0.7).double()

    x = torch.full(_PIXEL, 0.5 + start).double()
    steps = definition.start(config, x, levels, lambda: torch.full(_PIXEL, 0.2).double(), lambda *given: told())
    try:
        x, _ = next(steps)
        while len(begun) < _MOST_STEPS:
            begun.append(float(x))
            x, _ = steps.send((x + (len(begun) - 1 == x_from), *told()))
    except StopIteration as end:
        return [*begun, float(end.value[0] if isinstance(end.value, tuple) else end.value)]
    return begun


@attrs.frozen(eq=False)
class _Problem:
    """Gaussian data, a measurement of some pixels, and the posterior."""

    prior_mean: Tensor
    prior: Tensor
    """Covariance of the data, (16, 16)."""
    known: Tensor
    """Mask of the measured pixels, (16,) bool."""
    values: Tensor
    """Measured values, (M,)."""
    deviation: float
    """Standard deviation of the measurement's noise."""
    mean: Tensor
    """Mean of the posterior, (16,)."""
    covariance: Tensor
    """Covariance of the posterior, (16, 16)."""

    @classmethod
    def of(cls, deviation: float) -> "_Problem":
        """The problem with this noise. Every third pixel is measured, 1.05 to 1.8 deviations above the mean."""
        pixels = math.prod(_SHAPE)
        places = torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij"), dim=-1).view(-1, 2)
        prior = _DEVIATION**2 * torch.exp(-torch.cdist(places, places) / 1.5).double() + 0.02 * torch.eye(pixels)
        mean, known = torch.full((pixels,), 0.5).double(), torch.arange(pixels) % 3 == 0
        values = mean[known] + torch.tensor([1.0, 0.8, 1.2, 0.7, 1.1, 0.9]).double() * 1.5 * _DEVIATION
        gain = prior[:, known] @ torch.linalg.inv(prior[known][:, known] + deviation**2 * torch.eye(len(values)))
        posterior = prior - gain @ prior[known]
        return cls(mean, prior, known, values, deviation, mean + gain @ (values - mean[known]), posterior)

    def sample(
        self, definition: Definition, config: Sampler, levels: Sequence[float], rows: slice, measured: MeasuredPixels
    ) -> tuple[Tensor, int]:
        """(B, 16) images of the rows, and the number of draws of noise."""
        variances, axes = (part.float() for part in torch.linalg.eigh(self.prior))
        middle, drawn = self.prior_mean.float(), 0

        def score(x: Tensor, sigma: float | Tensor) -> Tensor:
            along: Tensor = (x.flatten(1) - middle) @ axes
            level = sigma.view(-1, 1) if isinstance(sigma, Tensor) else sigma
            score: Tensor = -(along / (variances + level**2)) @ axes.T
            return score.view_as(x)

        def normal(seed: int) -> Noise:
            return lambda k: torch.randn(_COUNT, *_SHAPE, generator=torch.Generator().manual_seed(seed + k))[rows]

        def noise(k: int) -> Tensor:
            nonlocal drawn
            drawn += 1
            return normal(10**6)(k)

        count = len(range(_COUNT)[rows])
        rule = measured(self.known.view(_SHAPE), self.values.expand(count, -1).float(), self.deviation, normal(1))
        x = 0.5 + levels[0] * normal(0)(0)
        *_, last = run(definition, config, scaled(score), x, levels, noise=noise, rule=rule)
        return last.x.double().flatten(1), drawn

    def judge(self, images: Tensor) -> tuple[float, float]:
        """Error of the mean, and variance of the measured pixels; units as in the accepted bounds."""
        away = float((images.mean(dim=0) - self.mean).norm() / (self.prior_mean - self.mean).norm())
        found = images.var(dim=0)[self.known] / self.covariance.diagonal()[self.known]
        return away, float(found.mean())

"""Conditioning on a linear measurement: measured coefficients are replaced at each level, with the noise of the level.

With y = A x + γ n and A = U Σ Vᵀ, the measured coefficient i of x has the standard deviation τ_i = γ / s_i, which is 0
for an exact measurement. At the level σ, following Kawar et al. 2021 (SNIPS, arXiv 2105.14951, section 4), where the
noise of the level contains the noise of the measurement:

    σ ≥ τ_i   the coefficient is set to its value + √(σ² − τ_i²) z, with noise of σ in total;
    σ < τ_i   the score gets the likelihood score (value − coefficient) / (τ_i² − σ²) along it.

So the value is the coefficient of the image with noise of τ_i, and the coefficient with less noise lies between it and
the clean one. The reverse Markov chain from a level to the next, and to the denoised image, doesn't use the likelihood
score: given x, the noisier value adds no information. The driver (`ncsnx.samplers.driver`) translates that to other
samplers.

In a result (σ = 0) the coefficients whose τ_i is at most the last level's σ are set to their values.

The other directions are left to the sampler. For known pixels and γ = 0 this is the replacement of Song & Ermon 2019
(arXiv 1907.05600, section 4 and appendix B.3); for other operators the projection of Song et al. 2022 (arXiv
2111.08005, equation 10).

Guarantees: the result satisfies an exact measurement exactly. If it must also lie between black and white, it does so
up to 10⁻⁴ of the range if such an image exists, else as nearly as a limited number of iterations gets. In the limit of
many small Langevin steps at each of many levels (`ald`, or `pc` with many corrector steps) the last x is drawn from
p(x | y) with noise of σ_L, and the result is its denoised mean: its variance is too small by at most σ_L² along any
direction, as for any denoised sample.

Few steps give samples nearer to the prior than the posterior: the sampler never goes back to make earlier draws agree
with the measurement (Lugmayr et al. 2022, arXiv 2201.09865), and treats a noisy measurement as if its noise were that
of the last level above τ_i. Samplers that extrapolate from earlier steps (`cas`, `dpmpp-sde`) also extrapolate the
decreasing product of σ² and the likelihood score, so that guidance is too weak; more steps correct that. Samplers
without noise (`dpmpp`, `ode`, `heun` without churn) can't restore the spread along noisy measurements: their images are
too similar there.
"""

from collections.abc import Sequence
from typing import ClassVar, Self

import attrs
import torch
from torch import Tensor

from ncsnx.config.sampler import Sampler
from ncsnx.inverse.operators import LinearOperator
from ncsnx.samplers.contract import require_noisy
from ncsnx.samplers.state import Noise, Score

_REFLECTIONS = 500
_LIKELY = 4.0
"""Misfit in standard deviations that noise hardly ever exceeds; fitting noise exactly would need an unlikely image."""
_NEAR = 1e-4
"""Tolerance beyond black and white, as a fraction of the range: it vanishes when rounded to 8 bits."""


@attrs.frozen(eq=False)
class Measured:
    """Measurements of images, in the network's range."""

    operator: LinearOperator
    values: Tensor
    """Measured coefficients Σ⁻¹ Uᵀ y, (B, M)."""
    deviation: float = 0.0
    """γ, the standard deviation of the noise in y."""

    @property
    def deviations(self) -> Tensor:
        """τ, the standard deviation of each coefficient, (M,), on the device of the values."""
        return self.deviation / self.operator.placed_singular_values.like(self.values)


@attrs.frozen(eq=False)
class Condition:
    """A measurement as the `constrain` argument of a sampler."""

    measured: Measured
    """Measurements of the batch."""
    noise: Noise
    """Noise source, independent of the sampler's."""
    lowest: float = 0.0
    """σ of the last level. Coefficients with a smaller deviation count as exact in a result."""
    ends: tuple[float, float] | None = None
    """Black and white in the network's range, which limit the values of an image; None: no limits."""
    transports: ClassVar[bool] = True

    def __call__(self, x: Tensor, sigma: float | Tensor, step: int) -> Tensor:
        """x with the measured coefficients replaced, for those whose deviation is at most σ.

        A result (σ = 0) is also brought between black and white, if an image exists that satisfies both.
        """
        tau = self.measured.deviations.to(x)
        if isinstance(sigma, Tensor) or sigma > 0:
            level = _of_coefficients(sigma)
            extra = (level**2 - tau**2).clamp(min=0).sqrt()
            return self._replaced(x, tau <= level, extra * self.measured.operator.coefficients(self.noise(step)))
        fine = tau <= self.lowest
        x = self._replaced(x, fine)
        return x if self.ends is None or not bool(fine.any()) else self._between_ends(x, fine, *self.ends)

    def _between_ends(self, x: Tensor, which: Tensor, black: float, white: float) -> Tensor:
        """x between black and white up to _NEAR, with the coefficients `which` as measured up to _LIKELY times τ.

        Uses averaged reflections: the Douglas–Rachford method for a point in two convex sets (Bauschke, Combettes &
        Luke 2002, JOSA A 19, 1334–1345). Each image stops separately, so that it doesn't depend on its batch.
        """
        slack = _LIKELY * self.measured.deviations.to(x)

        for _ in range(_REFLECTIONS):
            inside = x.clamp(black, white)
            found = self._replaced(inside, which, slack=slack)
            beyond = (found - found.clamp(black, white)).abs().flatten(1).amax(dim=1)
            going = beyond > _NEAR * (white - black)
            if not bool(going.any()):
                break
            reflected = self._replaced(2 * inside - x, which, slack=slack)
            x = torch.where(going.view(-1, 1, 1, 1), x + reflected - inside, x)
        return self._replaced(x.clamp(black, white), which, slack=slack)

    def _replaced(self, x: Tensor, which: Tensor, noise: Tensor | float = 0.0, slack: Tensor | float = 0.0) -> Tensor:
        """x with the coefficients `which` moved to the measured values + noise, or to within `slack` of them."""
        operator = self.measured.operator
        change = self.measured.values.to(x) + noise - operator.coefficients(x)
        change = change.sign() * (change.abs() - slack).clamp(min=0)
        return x + operator.images(torch.where(which, change, 0.0))

    def likelihood_score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """(value − coefficient) / (τ² − σ²) along coefficients with τ > σ.

        The variance is at least σ²: a smaller one would be too stiff for a step at this level.
        """
        if self.measured.deviation == 0:
            return torch.zeros_like(x)
        operator = self.measured.operator
        tau, level = self.measured.deviations.to(x), _of_coefficients(sigma)
        least = level**2 if isinstance(level, Tensor) else torch.full_like(tau, level**2)
        variance = (tau**2 - level**2).maximum(least)
        away = self.measured.values.to(x) - operator.coefficients(x)
        return operator.images(torch.where(tau > level, away / variance, 0.0))

    def guided(self, score: Score, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor]:
        """The score and the likelihood score at x."""
        return score(x, sigma), self.likelihood_score(x, sigma)

    def of(self, rows: slice | Tensor) -> Self:
        """The measurements of some of the images. rows: a slice, or indices (B',) int64."""
        measured = attrs.evolve(self.measured, values=self.measured.values[rows])
        return attrs.evolve(self, measured=measured, noise=lambda step: self.noise(step)[rows])

    def admit(self, config: Sampler, sigmas: Sequence[float]) -> None:
        """Raises NcsnxError for a sampler that doesn't support noisy measurements, if this one is noisy."""
        if self.measured.deviation > 0:
            require_noisy(config)


def _of_coefficients(sigma: float | Tensor) -> float | Tensor:
    """σ in the shape of coefficients: (B, 1) for one of each image."""
    return sigma.view(-1, 1) if isinstance(sigma, Tensor) else sigma

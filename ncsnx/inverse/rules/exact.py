"""`exact`: measured coefficients are part of the x at which the network is evaluated.

With y = A x + γ n and A = U Σ Vᵀ, the measured coefficient i of x has the standard deviation τ_i = γ_i / s_i, where
γ_i is the noise of coefficient i of Uᵀ y; it is 0 for an exact measurement. As in Kawar et al. 2021 (SNIPS, arXiv
2105.14951, section 4), the noise of the network's x contains the noise of the measurement. At the level σ

    σ ≥ τ_i   the coefficient is its value + √(σ² − τ_i²) z, with noise of σ in total;
    σ < τ_i   it is (1 − c²) value + c² u with c² = 1 − σ²/τ_i².

u is the sampler's own: the image's coefficient with noise of t = σ/c, independent of the measurement's. Value and u are
two observations with the variances τ² and t², whose mean weighted by 1/τ² and 1/t² has the variance σ² and says all
that both say. So the denoised image D at this x is the mean of the image given u and y, and a sampler of u draws from
the posterior as well as it draws from the data without a measurement.

A sampler knows one σ for all coefficients. It gets w = D + c (u − D), in which u's noise is that of σ, with the score
(D − w)/σ²; from its next w, u = D + (w − D)/c with c of the next level. Where σ falls below τ_i, u begins as D + t z.
Inside a step that began with D₀, the slope of w along the flow is that of the denoised image D₀ + (D − D₀)/c.

The other directions are left to the sampler. For known pixels and γ = 0 this is the replacement of Song & Ermon 2019
(arXiv 1907.05600, section 4 and appendix B.3); for other operators the projection of Song et al. 2022 (arXiv
2111.08005, equation 10).

Guarantees: the result satisfies an exact measurement exactly. If it must also lie between black and white, it does so
up to 10⁻⁴ of the range if such an image exists, else as nearly as a limited number of iterations gets. In the limit of
many small Langevin steps at each of many levels (`ald`, or `pc` with many corrector steps) the last x is drawn from
p(x | y) with noise of σ_L, and the result is its denoised mean: its variance is too small by at most σ_L² along any
direction, as for any denoised sample.

What was measured without noise, or with less than σ, reaches the rest of the image by its noisy copy alone. The reverse
chain never goes back to make earlier draws agree with it (Lugmayr et al. 2022, arXiv 2201.09865): its samples are
nearer to the prior than the posterior. Samplers that renew much of the noise in each step (`cas`) make up for that; but
with a trained network they also add up its errors, so that `restore` lets `cas` follow the flow below the
measurement's noise.
"""

from collections.abc import Sequence
from typing import Self, cast

import attrs
import torch
from torch import Tensor

from ncsnx.config.sampler import GridSampler, Sampler
from ncsnx.errors import NcsnxError
from ncsnx.inverse.operators.linear_operator import LinearOperator
from ncsnx.inverse.rules.contract import EXACT, Measured, is_noisy, on_device, rows_of, rule
from ncsnx.samplers.state import Noise, Rule, State, tweedie

_REFLECTIONS = 500
_LIKELY = 4.0
"""Misfit in standard deviations that noise hardly ever exceeds; fitting noise exactly would need an unlikely image."""
_FEWEST_NOISY_STEPS = 10
"""Steps of a grid, also of adaptive samplers, below which the mean of Gaussian data is up to 0.99 of the way to the
data's, since the sampler's own coefficient counts from the first level below τ only. With 10 it is at most 0.37."""
_NEAR = 1e-4
"""Tolerance beyond black and white, as a fraction of the range: it vanishes when rounded to 8 bits."""


@rule(EXACT, fits=LinearOperator, shortfall=(27, 27))
@attrs.frozen(eq=False)
class ExactRule(Rule):
    """A measurement of the batch, in the network's range."""

    operator: LinearOperator
    values: Tensor
    """Measured coefficients Σ⁻¹ Uᵀ y, (B, M)."""
    noise: Noise
    """Noise source, independent of the sampler's."""
    deviation: float | Tensor = 0.0
    """γ, the standard deviation of the noise in Uᵀ y: one, or (B or 1, M)."""
    lowest: float = 0.0
    """σ of the last level. Coefficients with a smaller deviation count as exact in a result."""
    ends: tuple[float, float] | None = None
    """Black and white in the network's range, which limit the values of an image; None: no limits."""

    @classmethod
    def under(cls, measured: Measured) -> Self:
        """The rule for a batch, whose map is a `LinearOperator`."""
        operator, space = cast("LinearOperator", measured.map), measured.space
        black, white = space.ends
        middle = operator.coefficients(torch.full((1, *operator.shape), black, dtype=torch.float64))
        return cls(
            operator,
            ((white - black) * measured.values.double() + middle).float().to(measured.device),
            measured.draws,
            (white - black) * on_device(measured.noise, measured.device),
            measured.lowest,
            space.ends if space.bounded else None,
        )

    def __call__(self, x: Tensor, sigma: float | Tensor, step: int, last: State | None = None) -> Tensor:
        """x with the measurement in its place.

        A result (σ = 0) is also brought between black and white, if an image exists that satisfies both.
        """
        tau = self._deviations(x)
        if isinstance(sigma, Tensor) or sigma > 0:
            level = _of_coefficients(sigma)
            noise = self.operator.coefficients(self.noise(step))
            extra = (level**2 - tau**2).clamp(min=0).sqrt()
            placed = self._replaced(x, tau <= level, extra * noise)
            return self._combined(placed, level, noise, last) if is_noisy(self.deviation) else placed
        fine = tau <= self.lowest
        x = self._replaced(x, fine)
        return x if self.ends is None or not bool(fine.any()) else self._between_ends(x, fine, *self.ends)

    def _between_ends(self, x: Tensor, which: Tensor, black: float, white: float) -> Tensor:
        """x between black and white up to _NEAR, with the coefficients `which` as measured up to _LIKELY times τ.

        Uses averaged reflections: the Douglas–Rachford method for a point in two convex sets (Bauschke, Combettes &
        Luke 2002, JOSA A 19, 1334–1345). Each image stops separately, so that it doesn't depend on its batch.
        """
        slack = _LIKELY * self._deviations(x)

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
        operator = self.operator
        change = self.values.to(x) + noise - operator.coefficients(x)
        change = change.sign() * (change.abs() - slack).clamp(min=0)
        return x + operator.images(torch.where(which, change, 0.0))

    def _combined(self, x: Tensor, level: float | Tensor, noise: Tensor, last: State | None) -> Tensor:
        """x with (1 − c²) value + c² u along coefficients with τ > σ. noise: the draw for those whose u begins."""
        operator, (tau, share) = self.operator, self._shares(x, level)
        own = operator.coefficients(x)
        if last is None:  # the noise of x is σ, and u's is larger
            base, away = own, (1 - share).sqrt() * level * noise
        else:
            base = operator.coefficients(last.denoised.to(x))
            away = torch.where(tau <= last.sigma, level * noise, own - base)
        combined = (1 - share) * self.values.to(x) + share * base + share.sqrt() * away
        return x + operator.images(torch.where(tau > level, combined - own, 0.0))

    def _deviations(self, x: Tensor) -> Tensor:
        """τ, the standard deviation of each coefficient, (M,) or (B, M), on the device and in the precision of x."""
        return (self.deviation / self.operator.placed_singular_values.like(self.values)).to(x)

    def _shares(self, x: Tensor, level: float | Tensor) -> tuple[Tensor, Tensor]:
        """τ, and c² at σ, (M,) or (B, M), in the precision of x; c² only means something where τ > σ."""
        tau = self._deviations(x)
        return tau, (1 - (level / tau) ** 2).clamp(min=1e-6)

    def released(self, x: Tensor, last: State) -> Tensor:
        """x with w = D + c (u − D) along coefficients with τ > σ."""
        if not is_noisy(self.deviation):
            return x
        operator, (tau, share) = self.operator, self._shares(x, last.sigma)
        own, base = operator.coefficients(x), operator.coefficients(last.denoised)
        away = (own - (1 - share) * self.values.to(x) - share * base) / share.sqrt()
        return x + operator.images(torch.where(tau > last.sigma, base + away - own, 0.0))

    def followed(self, x: Tensor, at: Tensor, sigma: float | Tensor, s: Tensor, last: State | None) -> Tensor:
        """s, but (D₀ + (D − D₀)/c − w)/σ² along coefficients of which the sampler has u. D₀: `last.denoised`."""
        if not is_noisy(self.deviation) or last is None:
            return s
        level = _of_coefficients(sigma)
        operator, (tau, share) = self.operator, self._shares(x, level)
        base, own = operator.coefficients(last.denoised.to(x)), operator.coefficients(x)
        denoised = base + (operator.coefficients(tweedie(at, sigma, s)) - base) / share.sqrt()
        change = (denoised - own) / level**2 - operator.coefficients(s)
        return s + operator.images(torch.where((tau > level) & (tau > last.sigma), change, 0.0))

    def of(self, rows: slice | Tensor) -> Self:
        """The measurements of some of the images. rows: a slice, or indices (B',) int64."""
        return attrs.evolve(
            self,
            values=self.values[rows],
            noise=lambda step: self.noise(step)[rows],
            deviation=rows_of(self.deviation, rows),
        )

    def admit(self, config: Sampler, sigmas: Sequence[float]) -> None:
        """Raises NcsnxError for a grid so short that a noisy measurement hardly counts between its levels."""
        if is_noisy(self.deviation) and isinstance(config, GridSampler) and config.steps < _FEWEST_NOISY_STEPS:
            raise NcsnxError(
                f"expected at least {_FEWEST_NOISY_STEPS} steps for a noisy measurement, found "
                f"sampler.steps={config.steps}, whose images would be nearer to the data than to the posterior"
            )


def _of_coefficients(sigma: float | Tensor) -> float | Tensor:
    """σ in the shape of coefficients: (B, 1) for one of each image."""
    return sigma.view(-1, 1) if isinstance(sigma, Tensor) else sigma

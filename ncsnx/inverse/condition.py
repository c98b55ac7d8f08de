"""Images that agree with a measurement: what is measured is replaced at each level, as noisy as the level is.

With y = A x + γ n and A = U Σ Vᵀ, the measured coefficient i of x is known up to a deviation of τ_i = γ / s_i, which is
0 for an exact measurement. At the level σ, following Kawar et al. 2021 (SNIPS, arXiv 2105.14951, section 4), whose
noise of the level contains that of the measurement:

    σ ≥ τ_i   the coefficient is set to its value + √(σ² − τ_i²) z, which has noise of σ in all;
    σ < τ_i   the score gets the likelihood score (value − coefficient) / (τ_i² − σ²) along it;

so that the value is the coefficient of the image with noise of τ_i, and that with noise of a lower level lies between.
The reverse Markov chain from a level to the next, and to the denoised image, goes without the likelihood score: given
x, the noisier value says nothing new. What that means for any other sampler is the driver's work
(`ncsnx.samplers.driver`).

In a result (σ = 0) the coefficients whose τ_i is at most the last level's σ are set to their values.

The other directions are left to the sampler. For known pixels and γ = 0 that is the replacement of Song & Ermon 2019
(arXiv 1907.05600, section 4 and appendix B.3); for other operators the projection of Song et al. 2022 (arXiv
2111.08005, equation 10).

What it guarantees: the result satisfies an exact measurement exactly; where it is brought between black and white too,
to a ten-thousandth of the way between them, if there is such an image, and else as nearly as some rounds bring it. In
the limit of many small Langevin steps at each of many levels (`ald`, or `pc` with many corrector steps) the last x is
drawn from p(x | y) with noise of σ_L, and the result is its mean, denoised: its variance is too small by at most σ_L²
along any direction, as that of any denoised sample.

A sampler of few steps is nearer to the prior than the posterior is: it never goes back to make what it has drawn agree
with what was measured (Lugmayr et al. 2022, arXiv 2201.09865), and takes a noisy measurement to be as noisy as the last
level above τ_i. One that extrapolates from earlier steps (`cas`, `dpmpp-sde`) extrapolates the falling σ² times the
likelihood score too, and is drawn to the measurement by less than it should be, which more steps make good. One that
draws no noise (`dpmpp`, `ode`, `heun` without churn) has nothing to spread along what was measured with noise: its
images are too much like each other there.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Self

import attrs
import torch
from torch import Tensor

from ncsnx.config.sampler import Sampler
from ncsnx.inverse.operators import LinearOperator, Masking
from ncsnx.samplers.exam import require_passed
from ncsnx.samplers.state import Noise

_REFLECTIONS = 500
_LIKELY = 4.0
"""Deviations that hardly any noise is beyond: an image that fits noise exactly is far off, if there is one."""
_NEAR = 1e-4
"""Of the way from black to white: so far beyond an end is none, after rounding to 8 bits."""


@attrs.frozen(eq=False)
class Measured:
    """What was measured of each image, in the network's range."""

    operator: LinearOperator
    values: Tensor
    """(B, M): the coefficients, Σ⁻¹ Uᵀ y."""
    deviation: float = 0.0
    """γ: of the noise in y."""

    @property
    def deviations(self) -> Tensor:
        """(M,): τ."""
        return self.deviation / self.operator.singular_values


@attrs.frozen(eq=False)
class Condition:
    """Given to a sampler as `constrain`."""

    measured: Measured
    """Of the batch."""
    noise: Noise
    """Apart from the sampler's."""
    lowest: float = 0.0
    """σ of the last level. What is measured better than that counts as exact in a result: nothing finer is drawn."""
    ends: tuple[float, float] | None = None
    """Black and white in the network's range, beyond which no image goes; None: it has no ends."""
    _held: Noise = attrs.field(init=False, repr=False)
    """The last draw of the whole batch, of which images that are sampled by themselves take their rows."""

    @_held.default
    def _hold(self) -> Noise:
        return lru_cache(maxsize=1)(self.noise)

    def __call__(self, x: Tensor, sigma: float, step: int) -> Tensor:
        """x with the measured coefficients replaced, where the level has at least their noise.

        A result (σ = 0) is brought between black and white too, where there are images that agree with both.
        """
        tau = self.measured.deviations.to(x)
        if sigma > 0:
            extra = (sigma**2 - tau**2).clamp(min=0).sqrt()
            return self._replaced(x, tau <= sigma, extra * self.measured.operator.coefficients(self.noise(step)))
        fine = tau <= self.lowest
        x = self._replaced(x, fine)
        return x if self.ends is None or not bool(fine.any()) else self._between_ends(x, fine, *self.ends)

    def _between_ends(self, x: Tensor, which: Tensor, black: float, white: float) -> Tensor:
        """x between black and white but for _NEAR, its coefficients `which` as measured, but for _LIKELY of their τ.

        By averaged reflections: Douglas & Rachford's method for a point of two convex sets (Bauschke, Combettes & Luke
        2002, JOSA A 19, 1334–1345). Each image stops by itself, so that it doesn't depend on its batch.
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
        """x, whose coefficients `which` are the measured values + noise, or as far from those as the slack allows."""
        operator = self.measured.operator
        change = self.measured.values.to(x) + noise - operator.coefficients(x)
        change = change.sign() * (change.abs() - slack).clamp(min=0)
        return x + operator.images(torch.where(which, change, 0.0))

    def likelihood_score(self, x: Tensor, sigma: float) -> Tensor:
        """(value − coefficient) / (τ² − σ²) along what is measured with more noise than the level has.

        Where τ² − σ² is less than σ², that is taken: it would be stiffer than a step at the level may be.
        """
        if self.measured.deviation == 0:
            return torch.zeros_like(x)
        operator = self.measured.operator
        tau = self.measured.deviations.to(x)
        variance = (tau**2 - sigma**2).clamp(min=sigma**2)
        away = self.measured.values.to(x) - operator.coefficients(x)
        return operator.images(torch.where(tau > sigma, away / variance, 0.0))

    def of(self, rows: slice) -> Self:
        """What is known of some of the images."""
        measured, held = attrs.evolve(self.measured, values=self.measured.values[rows]), self._held
        return attrs.evolve(self, measured=measured, noise=lambda step: held(step)[rows])

    def admit(self, config: Sampler, sigmas: Sequence[float]) -> None:
        """Raises NcsnxError for a sampler that isn't to be trusted with a noisy measurement (`ncsnx.samplers.exam`)."""
        if self.measured.deviation > 0:
            require_passed(config, sigmas, measured_pixels)


def measured_pixels(known: Tensor, values: Tensor, deviation: float, noise: Noise) -> Condition:
    """That some pixels are known but for noise. known: (C, H, W) bool; values: (B, M)."""
    return Condition(Measured(Masking(known), values, deviation), noise)

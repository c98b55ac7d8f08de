"""Rules by which samplers use the measurement of a map: their common target and units, and the rules by name.

The target at σ is p(x_σ | y) with x_σ = x_0 + σ z and noise z that is independent of the measurement's. Its score is
s(x, σ) + g(x, σ) with the likelihood score g = ∇ log p(y | x_σ), and a sampler with this score needs no more. (The
exact rule of `ncsnx.inverse.condition` has another target, in which the noise of the level contains the measurement's.)

For Gaussian data, x_0 given x_σ has the mean D(x, σ), the denoised image, and a covariance C, so that

    g = C/σ² Aᴴ (γ² + A C Aᴴ)⁻¹ (y − A D).

The rules differ in what they take for C.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Self, cast

import attrs
import torch
from torch import Tensor

from ncsnx.config.sampler import Sampler
from ncsnx.data.transforms import real_parts
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.inverse.measurement_map import LinearMap, MeasurementMap
from ncsnx.inverse.operators import Identity, LinearOperator
from ncsnx.samplers.building import run, sampler_levels
from ncsnx.samplers.contract import definition_of, sampler_code, sampler_name
from ncsnx.samplers.state import Constrain, Score, State, tweedie
from ncsnx.spelling import argument, parameter

SPREAD = 0.5
"""s, the standard deviation of images in [0, 1] that the rules assume: 1 for values from −1 to 1, as in ΠGDM (Song et
al. 2023, "Pseudoinverse-Guided Diffusion Models for Inverse Problems")."""


@attrs.frozen(eq=False, kw_only=True)
class Rule(Constrain, ABC):
    """A measurement by a map as the `constrain` argument of a sampler."""

    map: MeasurementMap
    """The map of the images of the batch."""
    given: Tensor
    """The measurements of each image, as `prepared` returns them."""
    deviation: float
    """γ, the standard deviation of the noise in y; of its real and of its imaginary part."""
    norm: float
    """‖A‖ of the whole map."""
    black: float = 0.0
    """Black in the network's range."""
    white: float = 1.0
    """White in the network's range."""
    bounded: bool = False
    """Whether images lie between black and white."""

    @classmethod
    def prepared(cls, map: MeasurementMap, y: Tensor) -> Tensor:
        """Measurements (P, *measured_shape) of images in [0, 1] in the form that the rule needs, (P, …)."""
        return y

    @abstractmethod
    def guide(self, score: Score, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(score, likelihood score) at x, all for images in which black is 0 and white 1.

        sigma: (B, 1, 1, 1). It calls `score` once.
        """

    def guided(self, score: Score, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor]:
        """(score, likelihood score) at x, in the network's range."""
        scale = self.white - self.black

        def in_unit(u: Tensor, _: Tensor) -> Tensor:
            return scale * score(self.black + scale * u, sigma)

        level = (sigma.to(x) if isinstance(sigma, Tensor) else x.new_full((), sigma)).expand(len(x), 1, 1, 1) / scale
        s, g = self.guide(in_unit, (x - self.black) / scale, level)
        return s / scale, g / scale

    def of(self, rows: slice | Tensor) -> Self:
        """The measurements of some of the images. rows: a slice, or indices (B',) int64."""
        places = torch.arange(len(self.given))[rows.cpu() if isinstance(rows, Tensor) else rows]
        return attrs.evolve(self, map=self.map.of(places), given=self.given[rows])


def conjugate_gradients(
    normal: Callable[[Tensor], Tensor],
    ridge: Tensor,
    right: Tensor,
    *,
    iterations: int,
    tolerance: float,
) -> Tensor:
    """x with (Aᴴ A + λ) x = b, (B, C, H, W), approximated in at most `iterations` steps from 0.

    normal: Aᴴ A. ridge: λ >= 0 of each image, (B, 1, 1, 1). right: b, (B, C, H, W). An image stops on its own, once
    its residual is at most `tolerance` times b, so that it doesn't depend on its batch.
    """
    x, residual = torch.zeros_like(right), right
    direction, square = right, _square(right)
    least = tolerance**2 * square
    every = 1 if right.device.type == "cpu" else 5  # a process that looks waits for a GPU
    for number in range(iterations):
        going = square > least
        if number % every == 0 and not bool(going.any()):
            break
        image = normal(direction) + ridge * direction
        curvature = _inner(direction, image)
        step = torch.where(going & (curvature > 0), square / curvature.clamp_min(_TINY), 0.0)
        x = x + step * direction
        residual = residual - step * image
        before, square = square, _square(residual)
        direction = residual + torch.where(going, square / before.clamp_min(_TINY), 0.0) * direction
    return x


_TINY = 1e-38


def _inner(x: Tensor, y: Tensor) -> Tensor:
    """(B, 1, 1, 1)."""
    return (x * y).sum(dim=(1, 2, 3), keepdim=True)


def _square(x: Tensor) -> Tensor:
    return _inner(x, x)


_ITERATIONS = 20
_LAST_ITERATIONS, _TURNS = 50, 10
"""Steps of conjugate gradients for a result, and how often they alternate with the ends of the range."""
_TOLERANCE = 1e-4
_LEAST_NOISE = 1e-3
"""Smallest noise of a measurement, as a fraction of ‖A‖ times the uncertainty of the image: it bounds the condition
number at 10⁶, and leaves a thousandth of the misfit."""


class LinearRule(Rule):
    """A linear map, of whose measurements Aᴴ y suffices: (B, C, H, W)."""

    map: LinearMap

    @classmethod
    def prepared(cls, map: MeasurementMap, y: Tensor) -> Tensor:
        """Aᴴ y."""
        return cast("LinearMap", map).adjoint(y)

    def back(self, x: Tensor) -> Tensor:
        """Aᴴ (y − A x)."""
        return self.given.to(x) - self.map.normal(x)

    def corrected(self, x: Tensor, variance: Tensor) -> Tensor:
        """argmin_d ‖A (x + d) − y‖²/γ² + ‖d‖²/r² with the variances r², (B, 1, 1, 1), by conjugate gradients."""
        ridge = self._ridge(variance)
        return conjugate_gradients(self.map.normal, ridge, self.back(x), iterations=_ITERATIONS, tolerance=_TOLERANCE)

    def _ridge(self, variance: Tensor) -> Tensor:
        """γ²/r², bounded from below."""
        return (self.deviation**2 / variance).clamp_min((_LEAST_NOISE * self.norm) ** 2)

    def __call__(self, x: Tensor, sigma: float | Tensor, step: int, last: State | None = None) -> Tensor:
        """x as it is; but a result (σ = 0) under an exact measurement is brought to it.

        A noisy measurement isn't used again: the result is a draw from the posterior already. For bounded data, images
        between black and white and images that agree are approached in turns.
        """
        if isinstance(sigma, Tensor) or sigma > 0 or self.deviation > 0:
            return x
        scale = self.white - self.black
        u, ridge = (x - self.black) / scale, self._ridge(x.new_ones(len(x), 1, 1, 1))
        for _ in range(_TURNS if self.bounded else 1):
            u = u.clamp(0, 1) if self.bounded else u
            change = conjugate_gradients(
                self.map.normal, ridge, self.back(u), iterations=_LAST_ITERATIONS, tolerance=_TOLERANCE
            )
            u = u + change
        return self.black + scale * u


class AnnealedLikelihood(LinearRule):
    """`langevin`: g = Aᴴ (y − A x) / (γ² + σ² ‖A‖²), the annealed likelihood score.

    Source: Jalal et al. 2021 (arXiv 2108.01368), equation 4, whose annealed variance is here σ² ‖A‖²: for ‖A‖ = 1 it is
    theirs, and other units of the measurement give the same images. So g changes by at most 1/σ² of a change of x, like
    the score, and both together by at most 2/σ².

    Limits: it is the likelihood score of a flat prior, and weaker than that along small singular values. At large σ,
    where the data's own spread counts, the measurement weighs too much. Langevin steps still reach the posterior if
    they are many at the last levels. Solvers of the flow would end without any spread along measured directions, and
    the steps of `cas` are too long for a slope of 2/σ²; they are refused.
    """

    def guide(self, score: Score, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(score, likelihood score) for images with black 0 and white 1."""
        return score(x, sigma), self.back(x) / (self.deviation**2 + (sigma * self.norm) ** 2)

    def admit(self, config: Sampler, sigmas: Sequence[float]) -> None:
        """Raises NcsnxError for a sampler without noise, such as a solver of the flow, and for one that diverges."""
        if (found := _fault(config, sigmas)) is not None:
            raise NcsnxError(
                f"sampler={sampler_name(config)} cannot be used with rule langevin: {found}",
                Hint("use", adds=argument("rule", "cg")),
            )


def _fault(config: Sampler, sigmas: Sequence[float]) -> str | None:
    """The fault of a sampler under the annealed likelihood score, as a clause; None if it has none.

    Tried on a pixel, where score and likelihood score together have their steepest slope, 2/σ².
    """
    drawn, x = 0, torch.ones(1, 1, 1, 1, dtype=torch.float64)

    def noise(k: int) -> Tensor:
        nonlocal drawn
        drawn += 1
        return torch.zeros_like(x)

    def steepest(x: Tensor, sigma: Tensor, cond: object) -> Tensor:
        return -2 * x / sigma.view(-1, 1, 1, 1)

    definition = definition_of(type(config))
    with sampler_code(type(config)):
        *_, last = run(definition, config, steepest, x, sampler_levels(config, sigmas), noise=noise)
    if not float(last.x.abs()) <= 1 + 1e-6:
        return "its steps are too long for it, and diverge"
    return None if drawn else "it draws no noise, and its images would have no spread along what was measured"


class DataConsistency(LinearRule):
    """`cg`: g = (D' − D)/σ² with D' = argmin ‖A x − y‖²/γ² + ‖x − D‖²/r², by conjugate gradients.

    Source: Chung et al. 2023 (arXiv 2303.05754) put D' in place of the denoised image D, by few steps of conjugate
    gradients; the weight of D is a free parameter there. Here it follows from g (see `ncsnx.inverse.rules`)
    with C = r², the choice of ΠGDM (Song et al. 2023), r² = σ² s²/(σ² + s²): with it, D' is the mean of x_0 given x_σ
    and y. Unlike ΠGDM, the derivative of D is taken to be r²/σ² as well, so that no gradient of the network is needed.

    Limits: C has one variance for all directions. Where the data is smoother than white noise, the measured directions
    are less certain at large σ than r² says, and what they say of their neighbors comes by the network alone, at
    smaller σ. At most 20 steps of conjugate gradients per evaluation.
    """

    def guide(self, score: Score, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(score, likelihood score) for images with black 0 and white 1."""
        s, variance = score(x, sigma), sigma**2 * SPREAD**2 / (sigma**2 + SPREAD**2)
        return s, self.corrected(tweedie(x, sigma, s), variance) / sigma**2


class DiffusionPosterior(Rule):
    """`dps`: g = −∇_x ‖y − h(D(x, σ))‖² / (2 (γ² + σ² ‖h'‖²)), the gradient taken through the network.

    Source: diffusion posterior sampling, Chung et al. 2022 (arXiv 2209.14687), equation 16, for any differentiable h.
    Its free step size ζ/‖y − h(D)‖ belongs to a grid of 1,000 steps. Here a variance takes its place, as in score-based
    data assimilation (Rozet & Louppe 2023, arXiv 2306.10574): the measurement's, and that of h(x_0) given x_σ, at most
    σ² ‖h'‖². So it belongs to σ and serves every sampler, and no step that is stable without it becomes unstable.

    Limits: an evaluation costs two to three times as much, and memory for a backward pass. The variance is the same for
    all measurements: with the largest factor ‖h'‖ it is too large for the others, whose misfit then stays larger. A
    measurement that has several solutions, such as magnitudes alone, may lead different images to different ones.
    """

    def guide(self, score: Score, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(score, likelihood score) for images with black 0 and white 1."""
        with torch.enable_grad():
            at = x.detach().requires_grad_(True)
            s = score(at, sigma)
            away = self.given.to(at.device) - self.map.apply(tweedie(at, sigma, s))
            (slope,) = torch.autograd.grad(real_parts(away).square().sum(), at)
        variance = self.deviation**2 + (sigma * self.norm) ** 2
        return s.detach(), -slope / (2 * variance)


AUTO, EXACT, REVERSE, LANGEVIN = "auto", "exact", "reverse", "langevin"
RULES: Mapping[str, type[Rule]] = {
    "cg": DataConsistency,
    LANGEVIN: AnnealedLikelihood,
    "dps": DiffusionPosterior,
}
"""The rules for measurement maps, by name."""


def chosen_rule(name: str, operator: MeasurementMap) -> str:
    """The rule of this name; for 'auto' the default of the operator.

    `exact` for an operator with singular values, `reverse` for a noisy picture, from which the reverse diffusion begins
    (see `ncsnx.inverse.condition.Begun`). `cg` for a linear map: of Gaussian data seen by coils it is nearest to
    the posterior with every sampler (docs/project/inverse-problems.md), and it takes no gradient of the network; of
    masks and averages, `dps` with `cas` has the nearer mean. `dps` for any other map. Raises UsageError for an unknown
    rule and for one that the operator doesn't support.
    """
    if isinstance(operator, Identity):
        kind, fitting = "a noisy picture", (REVERSE, EXACT, *RULES)
    elif isinstance(operator, LinearOperator):
        kind, fitting = "an operator with singular values", (EXACT, *RULES)
    elif isinstance(operator, LinearMap):
        kind, fitting = "a linear map without singular values", tuple(RULES)
    else:
        kind, fitting = "a measurement that is not linear", ("dps",)
    if name == AUTO:
        return fitting[0]
    if name not in fitting:
        raise UsageError(
            f"{parameter('rule')} {name[:40]} does not fit {kind}; expected one of {', '.join((AUTO, *fitting))}"
        )
    return name

"""`cg`, `langevin`, `dps`: rules that add a likelihood score, with their common target and units.

The target at σ is p(x_σ | y) with x_σ = x_0 + σ z and noise z that is independent of the measurement's. Its score is
s(x, σ) + g(x, σ) with the likelihood score g = ∇ log p(y | x_σ), and a sampler with this score needs no more. (The
rule `exact` has another target, in which the noise of the level contains the measurement's.)

For Gaussian data, x_0 given x_σ has the mean D(x, σ), the denoised image, and a covariance C, so that

    g = C/σ² Aᴴ (Γ + A C Aᴴ)⁻¹ (y − A D),    Γ = diag γ², the noise of each measured value.

The rules differ in what they take for C.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Self

import attrs
import torch
from torch import Tensor

from ncsnx.config.sampler import Sampler
from ncsnx.data.transforms import real_parts
from ncsnx.errors import Hint, NcsnxError
from ncsnx.inverse.operators.measurement_map import LinearMap, MeasurementMap
from ncsnx.inverse.rules.contract import Measured, is_noisy, on_device, rows_of, rule
from ncsnx.samplers.building import run, sampler_levels
from ncsnx.samplers.contract import definition_of, sampler_code, sampler_name
from ncsnx.samplers.state import Rule, Score, State, tweedie
from ncsnx.spelling import argument

SPREAD = 0.5
"""s, the standard deviation of images in [0, 1] that the rules assume: 1 for values from −1 to 1, as in ΠGDM (Song et
al. 2023, "Pseudoinverse-Guided Diffusion Models for Inverse Problems")."""


@attrs.frozen(eq=False, kw_only=True)
class LikelihoodRule(Rule, ABC):
    """A measurement by a map, whose likelihood score is added to the network's."""

    map: MeasurementMap
    """The map of the images of the batch."""
    y: Tensor
    """The measurement of each image, (B, *map.measured_shape)."""
    noise: float | Tensor
    """γ, the standard deviation of the noise in y, of its real and of its imaginary part: one, or (B or 1,
    *map.measured_shape)."""
    norm: float
    """‖A‖ of the whole map."""
    black: float = 0.0
    """Black in the network's range."""
    white: float = 1.0
    """White in the network's range."""
    bounded: bool = False
    """Whether images lie between black and white."""

    @classmethod
    def under(cls, measured: Measured) -> Self:
        """The rule for a batch."""
        black, white = measured.space.ends
        return cls(
            map=measured.map,
            y=measured.y,
            noise=on_device(measured.noise, measured.device),
            norm=measured.norm,
            black=black,
            white=white,
            bounded=measured.space.bounded,
        )

    @abstractmethod
    def scores(self, score: Score, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(score, likelihood score) at x, all for images in which black is 0 and white 1.

        sigma: (B, 1, 1, 1). It calls `score` once.
        """

    def scored(self, score: Score, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor]:
        """(score, likelihood score) at x, in the network's range."""
        scale = self.white - self.black

        def in_unit(u: Tensor, _: Tensor) -> Tensor:
            return scale * score(self.black + scale * u, sigma)

        level = (sigma.to(x) if isinstance(sigma, Tensor) else x.new_full((), sigma)).expand(len(x), 1, 1, 1) / scale
        s, g = self.scores(in_unit, (x - self.black) / scale, level)
        return s / scale, g / scale

    def misfit(self, x: Tensor) -> Tensor:
        """y − A x of images in which black is 0 and white 1, (B, *map.measured_shape)."""
        measured = self.map.apply(x)
        return self.y.to(measured) - measured

    def variances(self, sigma: Tensor) -> Tensor:
        """γ² + σ² ‖A‖² of each measured value: (B, 1, …), or (B, *map.measured_shape) with a noise of each."""
        level = self._of_values(sigma) * self.norm
        noise = self.noise.to(level) if isinstance(self.noise, Tensor) else self.noise
        return noise**2 + level**2

    def _of_values(self, number: Tensor) -> Tensor:
        """A number of each image, (B, 1, 1, 1), as one of each of its measured values, (B, 1, …)."""
        return number.reshape(-1, *[1] * (self.y.dim() - 1))

    def of(self, rows: slice | Tensor) -> Self:
        """The rule of some of the images. rows: a slice, or indices (B',) int64."""
        places = torch.arange(len(self.y))[rows.cpu() if isinstance(rows, Tensor) else rows]
        return attrs.evolve(self, map=self.map.of(places), y=self.y[rows], noise=rows_of(self.noise, rows))


def conjugate_gradients(
    normal: Callable[[Tensor], Tensor],
    ridge: Tensor,
    right: Tensor,
    *,
    iterations: int,
    tolerance: float,
) -> Tensor:
    """x with (N + λ) x = b, (B, …), approximated in at most `iterations` steps from 0.

    normal: N, symmetric and positive semidefinite, such as Aᴴ A. ridge: λ >= 0 of each image, (B, 1, …) or one. right:
    b, (B, …), real or complex. An image stops on its own, once its residual is at most `tolerance` times b, so that it
    doesn't depend on its batch.
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
    """Re Σ x ȳ of each image, (B, 1, …)."""
    return (x * y.conj()).real.sum(dim=tuple(range(1, x.dim())), keepdim=True)


def _square(x: Tensor) -> Tensor:
    return _inner(x, x)


_ITERATIONS = 20
_LAST_ITERATIONS, _TURNS = 50, 10
"""Steps of conjugate gradients for a result, and how often they alternate with the ends of the range."""
_TOLERANCE = 1e-4
_LEAST_NOISE = 1e-3
"""Smallest noise of a measurement, as a fraction of ‖A‖ times the uncertainty of the image: it bounds the condition
number at 10⁶, and leaves a thousandth of the misfit."""


class LinearRule(LikelihoodRule):
    """A linear map."""

    map: LinearMap

    def __call__(self, x: Tensor, sigma: float | Tensor, step: int, last: State | None = None) -> Tensor:
        """x as it is; but a result (σ = 0) under an exact measurement is brought to it.

        A noisy measurement isn't used again: the result is a draw from the posterior already. For bounded data, images
        between black and white and images that agree are approached in turns.
        """
        if isinstance(sigma, Tensor) or sigma > 0 or is_noisy(self.noise):
            return x
        scale, least = self.white - self.black, (_LEAST_NOISE * self.norm) ** 2
        u, ridge = (x - self.black) / scale, x.new_full((len(x), 1, 1, 1), least)
        for _ in range(_TURNS if self.bounded else 1):
            u = u.clamp(0, 1) if self.bounded else u
            right = self.map.adjoint(self.misfit(u))
            u = u + conjugate_gradients(
                self.map.normal, ridge, right, iterations=_LAST_ITERATIONS, tolerance=_TOLERANCE
            )
        return self.black + scale * u


@rule("cg", fits=LinearMap)
class DataConsistency(LinearRule):
    """`cg`: g = (D' − D)/σ² with D' = argmin ‖(A x − y)/γ‖² + ‖x − D‖²/r², by conjugate gradients.

    Source: Chung et al. 2023 (arXiv 2303.05754) put D' in place of the denoised image D, by few steps of conjugate
    gradients; the weight of D is a free parameter there. Here it follows from g with C = r², the choice of ΠGDM (Song
    et al. 2023), r² = σ² s²/(σ² + s²): with it, D' is the mean of x_0 given x_σ and y. Unlike ΠGDM, the derivative of D
    is taken to be r²/σ² as well, so that no gradient of the network is needed.

    Limits: C has one variance for all directions. Where the data is smoother than white noise, the measured directions
    are less certain at large σ than r² says, and what they say of their neighbors comes by the network alone, at
    smaller σ. At most 20 steps of conjugate gradients per evaluation.
    """

    def scores(self, score: Score, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(score, likelihood score) for images with black 0 and white 1."""
        s, variance = score(x, sigma), sigma**2 * SPREAD**2 / (sigma**2 + SPREAD**2)
        return s, self._corrected(tweedie(x, sigma, s), variance) / sigma**2

    def _corrected(self, x: Tensor, variance: Tensor) -> Tensor:
        """argmin_d ‖(A (x + d) − y)/γ‖² + ‖d‖²/r² with the variances r², (B, 1, 1, 1), by conjugate gradients."""
        if isinstance(self.noise, Tensor):
            return self._corrected_by_values(x, variance, self.noise)
        ridge = (self.noise**2 / variance).clamp_min((_LEAST_NOISE * self.norm) ** 2)
        right = self.map.adjoint(self.misfit(x))
        return conjugate_gradients(self.map.normal, ridge, right, iterations=_ITERATIONS, tolerance=_TOLERANCE)

    def _corrected_by_values(self, x: Tensor, variance: Tensor, noise: Tensor) -> Tensor:
        """The same for a noise of each value: d = r² Aᴴ u with (Γ + r² A Aᴴ) u = y − A x.

        For the values, since the noisier ones are lost among the others in Aᴴ Γ⁻¹ A. They are scaled by
        1/√(γ² + r² ‖A‖²), after which one step is enough where A Aᴴ is a multiple of 1.
        """
        misfit = self.misfit(x)
        spread = self._of_values(variance).to(noise) * self.norm**2
        own = torch.maximum(noise**2, _LEAST_NOISE**2 * spread)
        scale = (own + spread).rsqrt()

        def system(v: Tensor) -> Tensor:
            u = scale * v
            return scale * (own * u + self.map.apply(variance * self.map.adjoint(u)))

        ridge = own.new_zeros(())
        v = conjugate_gradients(system, ridge, scale * misfit, iterations=_ITERATIONS, tolerance=_TOLERANCE)
        return variance * self.map.adjoint(scale * v)


@rule("langevin", fits=LinearMap, sampler=None)
class AnnealedLikelihood(LinearRule):
    """`langevin`: g = Aᴴ ((y − A x) / (γ² + σ² ‖A‖²)), the annealed likelihood score.

    Source: Jalal et al. 2021 (arXiv 2108.01368), equation 4, whose annealed variance is here σ² ‖A‖²: for ‖A‖ = 1 it is
    theirs, and other units of the measurement give the same images. So g changes by at most 1/σ² of a change of x, like
    the score, and both together by at most 2/σ².

    Limits: it is the likelihood score of a flat prior, and weaker than that along small singular values. At large σ,
    where the data's own spread counts, the measurement weighs too much. Langevin steps still reach the posterior if
    they are many at the last levels. Solvers of the flow would end without any spread along measured directions, and
    the steps of `cas` are too long for a slope of 2/σ²; they are refused.
    """

    def scores(self, score: Score, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(score, likelihood score) for images with black 0 and white 1."""
        return score(x, sigma), self.map.adjoint(self.misfit(x) / self.variances(sigma))

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


@rule("dps", fits=MeasurementMap)
class DiffusionPosterior(LikelihoodRule):
    """`dps`: g = −½ ∇_x ‖(y − h(D(x, σ))) / √(γ² + σ² ‖h'‖²)‖², the gradient taken through the network.

    Source: diffusion posterior sampling, Chung et al. 2022 (arXiv 2209.14687), equation 16, for any differentiable h.
    Its free step size ζ/‖y − h(D)‖ belongs to a grid of 1,000 steps. Here a variance takes its place, as in score-based
    data assimilation (Rozet & Louppe 2023, arXiv 2306.10574): the measurement's, and that of h(x_0) given x_σ, at most
    σ² ‖h'‖². So it belongs to σ and serves every sampler, and no step that is stable without it becomes unstable.

    Limits: an evaluation costs two to three times as much, and memory for a backward pass. σ² ‖h'‖² is the same for
    all measurements: with the largest factor ‖h'‖ it is too large for the others, whose misfit then stays larger. A
    measurement that has several solutions, such as magnitudes alone, may lead different images to different ones.
    """

    def scores(self, score: Score, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(score, likelihood score) for images with black 0 and white 1."""
        deviations = self.variances(sigma).sqrt()
        with torch.enable_grad():
            at = x.detach().requires_grad_(True)
            s = score(at, sigma)
            away = self.misfit(tweedie(at, sigma, s)) / deviations
            (slope,) = torch.autograd.grad(real_parts(away).square().sum(), at)
        return s.detach(), -slope / 2

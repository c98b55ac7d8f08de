"""Samplers as configuration. The algorithms are in `ncsnx.samplers`."""

from typing import Literal

import attrs

from ncsnx.config import checks
from ncsnx.config.variants import Config, variant

Start = Literal["uniform", "data", "noise"]

_SMALL_BIAS = 0.05
"""By so large a share of it, a variance may be wrong without a word: consistent annealing of order 1 with η = 0.1."""


@attrs.frozen(kw_only=True)
class Grid(Config):
    """The noise levels σ at which a sampler evaluates the network, as many as it makes steps."""


@variant(Grid, "levels")
@attrs.frozen(kw_only=True)
class TrainedLevels(Grid):
    """Of the trained levels as many as there are steps, evenly spread from the first to the last."""


@attrs.frozen(kw_only=True)
class FreeGrid(Grid):
    """Levels between two ends, which by default are those of the schedule; for networks that take any σ (NCSNv2)."""

    sigma_max: float | None = attrs.field(default=None, validator=checks.when_given(checks.within(1e-6, 1e6)))
    """The first level; None: σ_1. Few steps are better spent below the largest: blurred with a σ of some spread of the
    data, images are noise already."""
    sigma_min: float | None = attrs.field(default=None, validator=checks.when_given(checks.within(1e-6, 1e6)))
    """The last level, from which the result is denoised; None: σ_L."""


@variant(Grid, "exponential")
@attrs.frozen(kw_only=True)
class Exponential(FreeGrid):
    """A constant ratio."""


@variant(Grid, "karras")
@attrs.frozen(kw_only=True)
class Karras(FreeGrid):
    """Equal distances of σ^(1/ρ) (Karras et al. 2022, equation 5)."""

    rho: float = attrs.field(default=7.0, validator=checks.within(0.1, 1000))
    """ρ: 1 is a constant difference; the larger, the more steps at small σ."""


@attrs.frozen(kw_only=True)
class Sampler(Config):
    """A way from noise to images along the scores of the network."""

    @property
    def start(self) -> Start:
        """What images start from: uniform noise in the data's range, training images + σ_1 z, or normal noise of the
        first level around the middle of the data's range."""
        return "uniform"

    def known_bias(self, dimensions: int) -> str | None:
        """How the distribution that it converges to differs from the data's, as a sentence; None: by little.

        dimensions: numbers in an image, C·H·W.
        """
        return None


@variant(Sampler, "ald")
@attrs.frozen(kw_only=True)
class AnnealedLangevin(Sampler):
    """Annealed Langevin dynamics (Song & Ermon 2020, algorithm 1).

    L · steps_per_level evaluations, and one more to denoise.
    """

    step_size: float = attrs.field(validator=checks.positive)
    """ε: the step at level i is α = ε·(σ_i/σ_L)². Technique 4 chooses it."""
    steps_per_level: int = attrs.field(validator=checks.between(1, 1_000_000))
    """T."""
    denoise: bool = True
    """End with x + σ_L² s(x, σ_L)."""
    data_init: bool = False
    """Start from training images + σ_1 z instead of uniform noise."""

    @property
    def start(self) -> Start:
        """Uniform noise, as published, or training images."""
        return "data" if self.data_init else "uniform"


@attrs.frozen(kw_only=True)
class GridSampler(Sampler):
    """A sampler of so many steps on a grid of σ, which ends with a step to σ = 0."""

    steps: int = attrs.field(default=10, validator=checks.between(1, 1_000_000))
    """Levels of the grid."""
    grid: Grid = attrs.field(factory=Karras)
    """Which levels."""

    @property
    def start(self) -> Start:
        """Normal noise: what the process that is reversed ends with."""
        return "noise"


@variant(Sampler, "cas")
@attrs.frozen(kw_only=True)
class ConsistentAnnealed(GridSampler):
    """Consistent annealed sampling (Jolicoeur-Martineau et al. 2020, algorithm 2), of first or second order.

    `steps` evaluations. The order decides what it converges to.
    """

    eta: float = attrs.field(default=1.0, validator=checks.positive_fraction)
    """η = ε/σ_L²: the share of the noise that a step takes away. 1: each level begins with fresh noise."""
    order: int = attrs.field(default=2, validator=checks.one_of(1, 2))
    """1: as published; 2: towards the denoised image extrapolated to the middle of the step.

    Order 1 converges to another distribution than the data's, however many steps it takes: Gaussian data of variance s²
    come out with (1 − η/2)·s², half of it for η = 1, and the weights of a mixture's modes are off (0.19 instead of 0.30
    in 400 steps, and further off with more). Order 2 gives the right variance for every η, and the right weights in the
    limit: for η = 1 slowly (0.28 in 400 steps, 0.30 in 1,600), for η = 0.5 sooner (0.296 in 100).
    """

    def known_bias(self, dimensions: int) -> str | None:
        """Of the published order, unless η is small."""
        if self.order == 2 or self.eta / 2 <= _SMALL_BIAS:
            return None
        left = 100 * (1 - self.eta / 2)
        return (
            f"sampler=cas with order=1 and eta={self.eta:g} gives Gaussian data {left:.3g} % of its variance, however "
            "many steps it takes; sampler.order=2 gives all of it"
        )


@variant(Sampler, "pc")
@attrs.frozen(kw_only=True)
class PredictorCorrector(GridSampler):
    """Predictor-corrector sampling of the variance-exploding SDE (Song et al. 2021, algorithm 2), as in their code: the
    corrector before the predictor at each level, and the last prediction without noise.

    steps · (corrector_steps + 1) evaluations; without a predictor steps · corrector_steps + 1.
    """

    predictor: Literal["reverse-diffusion", "ancestral", "none"] = "reverse-diffusion"
    corrector: Literal["langevin", "ald"] = "ald"
    """'ald': the step by the level alone; 'langevin': by the norm of each image's score, after the published one, which
    averages norms over the batch.

    For Gaussian data of D independent pixels 'langevin' converges to about (1 + 2/D)/(1 − r²) of the variance, r being
    `snr`: 1.67, 1.15, 1.06 and 1.03 of it for D = 4, 16, 64 and 256 and r = 0.16. Where the norm of the score is large
    by chance, its step is small, and the image stays. 'ald' converges to all of it. On trained networks the two are
    alike: there the norm of the score is that of the noise.
    """
    corrector_steps: int = attrs.field(default=1, validator=checks.between(0, 1_000_000))
    """Langevin steps a level."""
    snr: float = attrs.field(default=0.16, validator=checks.within(1e-6, 1000))
    """The signal-to-noise ratio r of a Langevin step."""

    def known_bias(self, dimensions: int) -> str | None:
        """Of the 'langevin' corrector, where images are small or `snr` is large."""
        if self.corrector == "ald" or self.corrector_steps == 0:
            return None
        begin = (
            f"sampler=pc with corrector=langevin and snr={self.snr:g} gives Gaussian data of dimension {dimensions:,}"
        )
        end = "; sampler.corrector=ald gives all of it, and no more"
        if self.snr >= 1:
            return f"{begin} a variance without bound{end}"
        factor = (1 + 2 / dimensions) / (1 - self.snr**2)
        if factor <= 1 + _SMALL_BIAS:
            return None
        return f"{begin} about {100 * factor:.3g} % of its variance, however many steps it takes{end}"

    @corrector_steps.validator
    def _does_something(self, attribute: "attrs.Attribute[int]", value: int) -> None:
        if self.predictor == "none" and value == 0:
            raise checks.FieldError("corrector_steps", "must be at least 1 where predictor is none, not 0")


@variant(Sampler, "heun")
@attrs.frozen(kw_only=True)
class Heun(GridSampler):
    """Heun's rule with churn (Karras et al. 2022, algorithm 2); without churn the probability-flow ODE (algorithm 1).

    2 · steps − 1 evaluations.
    """

    churn: float = attrs.field(default=0.0, validator=checks.within(0, 1e9))
    """S_churn: fresh noise raises σ by min(S_churn/steps, √2 − 1) of it before each step."""
    churn_min: float = attrs.field(default=0.0, validator=checks.not_negative)
    """S_tmin: no churn below it."""
    churn_max: float | None = attrs.field(default=None, validator=checks.when_given(checks.positive))
    """S_tmax: no churn above it; None: no such bound."""
    noise_scale: float = attrs.field(default=1.0, validator=checks.within(0, 1000))
    """S_noise."""


@variant(Sampler, "ode")
@attrs.frozen(kw_only=True)
class ProbabilityFlowODE(GridSampler):
    """The probability-flow ODE by Dormand & Prince's adaptive rule (Song et al. 2021, section 4.3).

    As many evaluations as the tolerance asks for: between the levels of the grid, at which it starts anew, the solver
    chooses steps for each image, and evaluates it by itself: slow on a GPU.
    """

    tolerance: float = attrs.field(default=1e-3, validator=checks.within(1e-6, 0.1))
    """Of a step: the estimated error of an image, in the root mean square over its values, absolute or relative."""


@variant(Sampler, "euler-ancestral")
@attrs.frozen(kw_only=True)
class EulerAncestral(GridSampler):
    """Euler's rule with ancestral noise. `steps` evaluations."""

    eta: float = attrs.field(default=1.0, validator=checks.within(0, 1000))
    """0: no noise, Euler's rule for the probability-flow ODE; 1: that of the reverse Markov chain."""


@variant(Sampler, "dpmpp")
@attrs.frozen(kw_only=True)
class DPMSolverPP(GridSampler):
    """DPM-Solver++ (2M) of the probability-flow ODE (Lu et al. 2022, algorithm 2). `steps` evaluations."""

    @property
    def eta(self) -> float:
        """The solver without noise is the SDE variant with η = 0."""
        return 0.0


@variant(Sampler, "dpmpp-sde")
@attrs.frozen(kw_only=True)
class DPMSolverPPSDE(GridSampler):
    """The SDE variant of DPM-Solver++ (2M) (Lu et al. 2022, section 5). `steps` evaluations."""

    eta: float = attrs.field(default=1.0, validator=checks.within(1e-6, 1000))
    """1: as published; the larger, the more of the noise is fresh."""

"""Configuration of samplers. The algorithms are in `ncsnx.samplers`."""

from typing import Any, Literal, Self

import attrs

from ncsnx.config import checks
from ncsnx.config.variants import OMITTED, Config, variant

Start = Literal["uniform", "data", "noise"]


@attrs.frozen(kw_only=True)
class Grid(Config):
    """The noise levels σ of a sampler, one per step."""


@variant(Grid, "levels")
@attrs.frozen(kw_only=True)
class TrainedLevels(Grid):
    """Trained levels, one per step, evenly spread from the first to the last."""


@attrs.frozen(kw_only=True)
class FreeGrid(Grid):
    """Levels from `sigma_max` down to `sigma_min`, for networks that accept any σ (NCSNv2)."""

    sigma_max: float | None = attrs.field(default=None, validator=checks.between(1e-6, 1e6))
    """First level of the grid, in the units of the schedule, 1e-6 to 1e6. None: σ_1 of the schedule. With few steps a
    smaller value is better: at a few times the spread of the data, images are already all noise."""
    sigma_min: float | None = attrs.field(default=None, validator=checks.between(1e-6, 1e6))
    """Last level of the grid, from which the result is denoised, 1e-6 to 1e6. None: σ_L of the schedule."""


@variant(Grid, "exponential")
@attrs.frozen(kw_only=True)
class Exponential(FreeGrid):
    """Levels with a constant ratio."""


@variant(Grid, "karras")
@attrs.frozen(kw_only=True)
class Karras(FreeGrid):
    """Levels at equal distances of σ^(1/ρ) (Karras et al. 2022, equation 5)."""

    rho: float = attrs.field(default=7.0, validator=checks.between(0.1, 1000))
    """ρ, 0.1 to 1,000: 1 gives a constant difference; larger values put more steps at small σ."""


def _as_names(value: Any) -> Any:
    """Classes as text, which may be given as numbers."""
    return (
        tuple(str(one) if checks.is_whole(one) else one for one in value) if isinstance(value, tuple | list) else value
    )


@attrs.frozen(kw_only=True)
class Sampler(Config):
    """A method that turns noise into images by the scores of the network."""

    classes: tuple[str, ...] = attrs.field(default=(), converter=_as_names, validator=checks.one_line, metadata=OMITTED)
    """Classes of the images, by number or name, for a network that is conditional on them. The images take them in
    turn. 'none': images of any class. Empty: all classes."""
    guidance: float = attrs.field(default=1.0, validator=checks.between(0, 100), metadata=OMITTED)
    """w in D_u + w (D_c − D_u) of the denoised images without and with the class, 0 to 100 (Ho & Salimans 2022, arXiv
    2207.12598, where w − 1 is called w). Above 1, images are more typical of their class and less diverse. Other values
    than 1 take two evaluations in place of one."""
    guidance_interval: tuple[float, ...] | None = attrs.field(default=None, metadata=OMITTED)
    """σ_low, σ_high: guidance for σ_low < σ <= σ_high only (Kynkäänniemi et al. 2024, arXiv 2404.07724). None: for all
    σ."""

    @guidance_interval.validator
    def _ascends(self, attribute: "attrs.Attribute[tuple[float, ...] | None]", value: Any) -> None:
        if value is None:
            return
        numbers = [one for one in value if isinstance(one, int | float)] if isinstance(value, tuple | list) else []
        if len(numbers) != 2 or not 0 <= numbers[0] < numbers[1]:
            raise checks.FieldError("guidance_interval", f"must be two numbers, 0 <= low < high, not {value}")
        if self.guidance == 1:
            raise checks.FieldError("guidance_interval", "needs a guidance other than 1")

    @property
    def unguided(self) -> Self:
        """The sampler without guidance."""
        return attrs.evolve(self, guidance=1.0, guidance_interval=None)

    @property
    def start(self) -> Start:
        """Initial state of the images.

        'uniform': uniform noise in the data's range; 'data': training images + σ_1 z; 'noise': normal noise of the
        first level around the mean of the data, where the run has measured it, else the middle of its range.
        """
        return "uniform"


@variant(Sampler, "ald")
@attrs.frozen(kw_only=True)
class AnnealedLangevin(Sampler):
    """Annealed Langevin dynamics (Song & Ermon 2020, algorithm 1).

    NFE: L · steps_per_level, and one more with `denoise`.

    Biased: x lags behind the levels, so that Gaussian data comes out with too large a variance, at the limit of many
    levels with the step size of technique 4 2.00, 1.20, 1.11 and 1.03 times its own for T = 1, 3, 5 and 20.
    """

    step_size: float = attrs.field(validator=checks.positive)
    """ε > 0: the step size at level i is α = ε·(σ_i/σ_L)². Technique 4 chooses it (`ncsnx plan`)."""
    steps_per_level: int = attrs.field(validator=checks.between(1, 1_000_000))
    """T, the number of Langevin steps per noise level, 1 to 1,000,000."""
    denoise: bool = True
    """Whether the result is denoised once more: x + σ_L² s(x, σ_L)."""
    data_init: bool = False
    """Whether images start from training images + σ_1 z instead of uniform noise."""

    @property
    def start(self) -> Start:
        return "data" if self.data_init else "uniform"


@attrs.frozen(kw_only=True)
class GridSampler(Sampler):
    """A sampler that takes `steps` steps on a grid of σ; the last one ends at σ = 0."""

    steps: int = attrs.field(default=10, validator=checks.between(1, 1_000_000))
    """Number of steps, and of levels of the grid, 1 to 1,000,000."""
    grid: Grid = attrs.field(factory=Karras)
    """Spacing of the levels of σ."""

    @property
    def start(self) -> Start:
        return "noise"


@variant(Sampler, "cas")
@attrs.frozen(kw_only=True)
class ConsistentAnnealed(GridSampler):
    """Consistent annealed sampling (Jolicoeur-Martineau et al. 2020, algorithm 2), of first or second order.

    NFE: `steps`.
    """

    eta: float = attrs.field(default=1.0, validator=checks.positive_fraction)
    """η = ε/σ_L², the share of the noise that a step removes, above 0 and at most 1. With 1, each level begins with
    fresh noise."""
    eta_min: float | None = attrs.field(default=None, validator=checks.not_negative)
    """σ >= 0 below which a step draws no noise and follows the flow, as `dpmpp` does. None: 0, or in `ncsnx restore`
    the noise of the measurement."""
    order: int = attrs.field(default=2, validator=checks.one_of(1, 2))
    """Order of the update. 1: as published; 2: towards the denoised image extrapolated to the middle of the step.

    Order 1 is biased, however many steps it takes: Gaussian data of variance s² are sampled with variance (1 − η/2)·s²,
    half of it for η = 1, and the weights of a mixture's modes are wrong (0.19 instead of 0.30 in 400 steps, and worse
    with more). Order 2 has the right variance for every η. Its weights are right in the limit for independent pixels
    (0.28 in 400 steps, 0.30 in 1,600), but not where one choice concerns all pixels: with η = 1, a mixture of two
    images gets 0.27 instead of 0.30 by 100 steps as by 400, and with η = 0.5 0.29 and 0.28.
    """


@variant(Sampler, "pc")
@attrs.frozen(kw_only=True)
class PredictorCorrector(GridSampler):
    """Predictor-corrector sampling of the variance-exploding SDE (Song et al. 2021, algorithm 2).

    As in the published code, the corrector precedes the predictor at each level, and the last prediction adds no noise.
    NFE: steps · (corrector_steps + 1); without a predictor steps · corrector_steps + 1.
    """

    predictor: Literal["reverse-diffusion", "ancestral", "none"] = "reverse-diffusion"
    """Step from one level to the next: reverse diffusion, ancestral sampling or none."""
    corrector: Literal["langevin", "ald"] = "ald"
    """Step size of the Langevin steps. 'ald': set by the level alone; 'langevin': set by the norm of each image's score
    (the published corrector averages norms over the batch).

    For Gaussian data of D independent pixels 'langevin' converges to about (1 + 2/D)/(1 − r²) of the variance for
    r = `snr`: 1.67, 1.15, 1.06 and 1.03 times it for D = 4, 16, 64 and 256 and r = 0.16, because steps are small where
    the norm of the score happens to be large. 'ald' converges to the right variance. On trained networks the two give
    similar results, since there the norm of the score is that of the noise.
    """
    corrector_steps: int = attrs.field(default=1, validator=checks.between(0, 1_000_000))
    """Langevin steps per level, 0 to 1,000,000; at least 1 without a predictor."""
    snr: float = attrs.field(default=0.16, validator=checks.between(1e-6, 1000))
    """r, the signal-to-noise ratio of a Langevin step, 1e-6 to 1,000."""

    @corrector_steps.validator
    def _does_something(self, attribute: "attrs.Attribute[int]", value: int) -> None:
        if self.predictor == "none" and value == 0:
            raise checks.FieldError("corrector_steps", "must be at least 1 where predictor is none, not 0")


@variant(Sampler, "heun")
@attrs.frozen(kw_only=True)
class Heun(GridSampler):
    """Heun's method with churn (Karras et al. 2022, algorithm 2); without churn the probability-flow ODE (algorithm 1).

    NFE: 2 · steps − 1.
    """

    churn: float = attrs.field(default=0.0, validator=checks.between(0, 1e9))
    """S_churn, 0 to 1e9: before each step, fresh noise raises σ by the factor 1 + min(S_churn/steps, √2 − 1)."""
    churn_min: float = attrs.field(default=0.0, validator=checks.not_negative)
    """S_tmin >= 0, the smallest σ with churn."""
    churn_max: float | None = attrs.field(default=None, validator=checks.positive)
    """S_tmax > 0, the largest σ with churn. None: no bound."""
    noise_scale: float = attrs.field(default=1.0, validator=checks.between(0, 1000))
    """S_noise, 0 to 1,000: factor of the standard deviation of the fresh noise."""


@variant(Sampler, "ode")
@attrs.frozen(kw_only=True)
class ProbabilityFlowODE(GridSampler):
    """The probability-flow ODE by the adaptive Dormand–Prince method (Song et al. 2021, section 4.3).

    The NFE depends on the tolerance. The solver restarts at each level of the grid. In between, each image has
    its own steps; images that are under way are evaluated together.
    """

    tolerance: float = attrs.field(default=1e-3, validator=checks.between(1e-6, 0.1))
    """Largest estimated error of a step, 1e-6 to 0.1: the root mean square over an image's values, each relative to
    1 + |value|."""


@variant(Sampler, "euler-ancestral")
@attrs.frozen(kw_only=True)
class EulerAncestral(GridSampler):
    """Euler's method with ancestral noise. NFE: `steps`."""

    eta: float = attrs.field(default=1.0, validator=checks.between(0, 1000))
    """η, the amount of fresh noise, 0 to 1,000. 0: none, Euler's method for the probability-flow ODE; 1: that of the
    reverse Markov chain."""


@variant(Sampler, "dpmpp")
@attrs.frozen(kw_only=True)
class DPMSolverPP(GridSampler):
    """DPM-Solver++ (2M) for the probability-flow ODE (Lu et al. 2022, algorithm 2). NFE: `steps`."""

    @property
    def eta(self) -> float:
        """0: the solver is the SDE variant without noise."""
        return 0.0


@variant(Sampler, "dpmpp-sde")
@attrs.frozen(kw_only=True)
class DPMSolverPPSDE(GridSampler):
    """The SDE variant of DPM-Solver++ (2M) (Lu et al. 2022, section 5). NFE: `steps`."""

    eta: float = attrs.field(default=1.0, validator=checks.between(1e-6, 1000))
    """η, the amount of fresh noise, 1e-6 to 1,000; 1: as published."""

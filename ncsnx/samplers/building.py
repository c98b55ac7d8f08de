"""From a sampler's configuration to the sampler: the seam between `ncsnx.config` and this package."""

import math
from collections.abc import Sequence
from functools import partial, singledispatch

from ncsnx.config.sampler import (
    AnnealedLangevin,
    ConsistentAnnealed,
    DPMSolverPP,
    DPMSolverPPSDE,
    EulerAncestral,
    GridSampler,
    Heun,
    PredictorCorrector,
    ProbabilityFlowODE,
    Sampler,
)
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.samplers.adaptive_ode import adaptive_ode
from ncsnx.samplers.consistent import consistent_annealed
from ncsnx.samplers.dpm_solver import dpm_solver_pp
from ncsnx.samplers.euler_ancestral import euler_ancestral
from ncsnx.samplers.grids import levels_of, on_grid
from ncsnx.samplers.heun import stochastic_heun
from ncsnx.samplers.langevin import annealed_langevin
from ncsnx.samplers.predictor_corrector import predictor_corrector
from ncsnx.samplers.state import SamplerFunction

REVISION = "sampler_revision"
"""The key of a protocol for a sampler's revision."""
_GUESSED_EVALUATIONS = 100


@singledispatch
def build_sampler(config: Sampler) -> SamplerFunction:
    """The sampler that `config` describes. A package registers its own with `@build_sampler.register`.

    Raises NcsnxError for a configuration that no sampler was registered for.
    """
    raise NcsnxError(_unregistered(config, "build_sampler"))


@singledispatch
def evaluations(config: Sampler, levels: int) -> int | None:
    """The exact number of network evaluations per image (NFE) of a sampler at `levels` noise levels.

    None where only the sampling shows it: a solver that chooses its steps. Raises NcsnxError for a configuration that
    no count was registered for.
    """
    raise NcsnxError(_unregistered(config, "evaluations"))


@singledispatch
def state_count(config: Sampler, levels: int) -> int:
    """How many states a sampler gives: one with each evaluation and the result, where nothing else is registered.

    Raises NcsnxError for a configuration that no count was registered for.
    """
    count = evaluations(config, levels)
    if count is None:
        raise NcsnxError(_unregistered(config, "state_count"))
    return count + 1


def expected_evaluations(config: Sampler, levels: int) -> int:
    """`evaluations`; where those aren't known, a guess, for estimates of time."""
    count = evaluations(config, levels)
    return _GUESSED_EVALUATIONS if count is None else count


@singledispatch
def evaluations_in_words(config: Sampler, levels: int) -> str:
    """Evaluations an image, for people."""
    count = evaluations(config, levels)
    return "an adaptive number of evaluations" if count is None else counted(count, "evaluation")


@singledispatch
def revision(config: Sampler) -> int:
    """Which revision of its algorithm a sampler runs: 1, and one more whenever its images change for good.

    It is in the protocol of all that is made of its images, so that none are mixed with those of another revision.
    """
    return 1


def revision_facts(config: Sampler) -> dict[str, int]:
    """What stands beside the sampler in a protocol: nothing for the first revision."""
    number = revision(config)
    return {} if number == 1 else {REVISION: number}


@build_sampler.register
def _(config: AnnealedLangevin) -> SamplerFunction:
    return partial(
        annealed_langevin,
        step_size=config.step_size,
        steps_per_level=config.steps_per_level,
        denoise=config.denoise,
    )


@evaluations.register
def _(config: AnnealedLangevin, levels: int) -> int:
    return levels * config.steps_per_level + int(config.denoise)


@build_sampler.register
def _(config: ConsistentAnnealed) -> SamplerFunction:
    return on_grid(partial(consistent_annealed, eta=config.eta, order=config.order), config.grid, config.steps)


@build_sampler.register
def _(config: PredictorCorrector) -> SamplerFunction:
    function = partial(
        predictor_corrector,
        predictor=config.predictor,
        corrector=config.corrector,
        corrector_steps=config.corrector_steps,
        snr=config.snr,
    )
    return on_grid(function, config.grid, config.steps)


@evaluations.register
def _(config: PredictorCorrector, levels: int) -> int:
    predictions = 1 if config.predictor == "none" else config.steps
    return config.steps * config.corrector_steps + predictions


@revision.register
def _(config: PredictorCorrector) -> int:
    """2: the Langevin corrector's step has the expected norm of the noise in the place of the drawn one."""
    return 2 if config.corrector == "langevin" and config.corrector_steps > 0 else 1


@build_sampler.register
def _(config: Heun) -> SamplerFunction:
    function = partial(
        stochastic_heun,
        churn=config.churn,
        churn_min=config.churn_min,
        churn_max=math.inf if config.churn_max is None else config.churn_max,
        noise_scale=config.noise_scale,
    )
    return on_grid(function, config.grid, config.steps)


@evaluations.register
def _(config: Heun, levels: int) -> int:
    return 2 * config.steps - 1


@build_sampler.register
def _(config: ProbabilityFlowODE) -> SamplerFunction:
    return on_grid(partial(adaptive_ode, tolerance=config.tolerance), config.grid, config.steps)


@evaluations.register
def _(config: ProbabilityFlowODE, levels: int) -> None:
    return None


@evaluations_in_words.register
def _(config: ProbabilityFlowODE, levels: int) -> str:
    return f"an adaptive number of evaluations (tolerance {config.tolerance:g})"


@state_count.register
def _(config: ProbabilityFlowODE, levels: int) -> int:
    """One at each level, and the result."""
    return config.steps + 1


@build_sampler.register
def _(config: EulerAncestral) -> SamplerFunction:
    return on_grid(partial(euler_ancestral, eta=config.eta), config.grid, config.steps)


@build_sampler.register
def _(config: DPMSolverPP) -> SamplerFunction:
    return on_grid(partial(dpm_solver_pp, eta=0.0), config.grid, config.steps)


@build_sampler.register
def _(config: DPMSolverPPSDE) -> SamplerFunction:
    return on_grid(partial(dpm_solver_pp, eta=config.eta), config.grid, config.steps)


@evaluations.register
def _(config: GridSampler, levels: int) -> int:
    """One a step, where a sampler registers nothing else."""
    return config.steps


@singledispatch
def first_sigma(config: Sampler, trained: Sequence[float]) -> float:
    """σ of the noise that images start from. trained: the levels of the network."""
    return trained[0]


@first_sigma.register
def _(config: GridSampler, trained: Sequence[float]) -> float:
    return levels_of(config.grid, config.steps, trained)[0]


def _unregistered(config: Sampler, function: str) -> str:
    return (
        f"no sampler is registered for {type(config).__name__}: the package that defines it must import "
        f"ncsnx.samplers.building.{function} and register a function with @{function}.register"
    )

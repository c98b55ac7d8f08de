"""Building a sampler from its configuration: the seam between `ncsnx.config` and this package."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import attrs
import torch
from torch import Tensor

from ncsnx.config.sampler import GridSampler, Sampler
from ncsnx.networks.contract import NO_COND, Cond
from ncsnx.quantities import counted
from ncsnx.samplers.contract import Definition, DenoisingModel, Draw, Steps, definition_of, sampler_code
from ncsnx.samplers.driver import drive
from ncsnx.samplers.grids import levels_of
from ncsnx.samplers.guidance import Guidance
from ncsnx.samplers.state import Noise, Rule, SamplerFunction, ScaledScore, State

_GUESSED_EVALUATIONS = 100


def build_sampler(config: Sampler) -> SamplerFunction:
    """The sampler that `config` describes: it yields the states from x on, of which the last is the result.

    It is called with decreasing levels of the network, and `cond`, further inputs of the network for these images.
    Raises NcsnxError for a configuration without a registered sampler.
    """
    definition = definition_of(type(config))

    def sampler(
        model: ScaledScore,
        x: Tensor,
        sigmas: Sequence[float],
        *,
        noise: Noise,
        cond: Cond = NO_COND,
        rule: Rule | None = None,
    ) -> Iterator[State]:
        if rule is not None:
            rule.admit(config, sigmas)
        levels = sampler_levels(config, sigmas)
        return run(definition, config, model, x, levels, noise=noise, cond=cond, rule=rule)

    return sampler


def run(
    definition: Definition,
    config: Sampler,
    model: ScaledScore,
    x: Tensor,
    levels: Sequence[float],
    *,
    noise: Noise,
    cond: Cond = NO_COND,
    rule: Rule | None = None,
) -> Iterator[State]:
    """The states of a sampler at these levels, without checking that it supports `rule`."""

    def start(x: Tensor, draw: Draw, evaluate: DenoisingModel) -> Steps:
        return definition.start(config, x, levels, draw, evaluate)

    adaptive = definition.adaptive is not None
    return drive(
        start,
        model,
        x,
        noise=noise,
        cond=cond,
        rule=rule,
        guidance=Guidance.of(config),
        adaptive=adaptive,
    )


def sampler_levels(config: Sampler, trained: Sequence[float]) -> Sequence[float]:
    """The σ that a sampler is called with. trained: levels of the network. Raises NcsnxError for an invalid grid."""
    return levels_of(config.grid, config.steps, trained) if isinstance(config, GridSampler) else trained


def first_sigma(config: Sampler, trained: Sequence[float]) -> float:
    """σ of the initial noise. trained: levels of the network."""
    return sampler_levels(config, trained)[0]


def evaluations(config: Sampler, levels: int, trained: Sequence[float] = ()) -> int | None:
    """The exact number of network evaluations per image (NFE) of a sampler at `levels` noise levels.

    trained: the levels, by which guidance in an interval of σ is counted; without them, it counts as everywhere. None
    for adaptive solvers, where only sampling shows it. Raises NcsnxError for a configuration without a registered
    sampler, and for any exception of the sampler.
    """
    calls, guidance = _calls(config, levels), Guidance.of(config)
    if calls is None or guidance is None:
        return calls
    if trained and config.guidance_interval is not None:
        return calls + sum(guidance.low < sigma <= guidance.high for sigma in visited(config, trained))
    return 2 * calls


def _calls(config: Sampler, levels: int) -> int | None:
    """The number of times that a sampler asks for a score; None for adaptive solvers."""
    definition = definition_of(type(config))
    if definition.adaptive is not None:
        return None
    if definition.evaluations is not None:
        with sampler_code(type(config)):
            return definition.evaluations(config, levels)
    return dry_run(config, _dry_levels(config, levels)).evaluations


def state_count(config: Sampler, levels: int) -> int:
    """Number of states that a sampler yields: one per evaluation and the result; fewer for an adaptive sampler."""
    count = _calls(config, levels)
    return dry_run(config, _dry_levels(config, levels)).states if count is None else count + 1


@attrs.frozen
class DryRun:
    """Counts of a sampler run with a score of 0, on one pixel of zeros, without noise."""

    evaluations: int
    states: int
    sigmas: tuple[float, ...]
    """σ of each evaluation."""
    stays: bool
    """Whether the sampler evaluated at its given levels only."""


@lru_cache(maxsize=4096)
def dry_run(config: Sampler, sigmas: tuple[float, ...]) -> DryRun:
    """Runs a sampler without guidance at these levels and counts. Raises NcsnxError if it rejects them or fails."""
    seen, x = list[float](), torch.zeros(1, 1, 1, 1, dtype=torch.float64)

    def model(x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        seen.append(float(sigma))
        return torch.zeros_like(x)

    definition, config = definition_of(type(config)), config.unguided
    with sampler_code(type(config)):
        states = sum(1 for _ in run(definition, config, model, x, sigmas, noise=lambda k: x))
    return DryRun(len(seen), states, tuple(seen), set(seen) <= set(sigmas))


def visited(config: Sampler, trained: Sequence[float]) -> tuple[float, ...]:
    """σ of each evaluation of a sampler. trained: levels of the network."""
    return dry_run(config, tuple(sampler_levels(config, trained))).sigmas


def _dry_levels(config: Sampler, levels: int) -> tuple[float, ...]:
    """Levels for a dry run: as many as usual, each a millionth below the last, so that no step is too long.

    Counts at these levels hold for all levels. A sampler whose steps depend on σ declares its evaluations.
    """
    count = config.steps if isinstance(config, GridSampler) else levels
    return tuple((1 + 1e-6) ** -number for number in range(count))


def expected_evaluations(config: Sampler, levels: int, trained: Sequence[float] = ()) -> int:
    """`evaluations`, or a guess for adaptive samplers; for estimates of time."""
    count = evaluations(config, levels, trained)
    return _GUESSED_EVALUATIONS if count is None else count


def evaluations_in_words(config: Sampler, levels: int, trained: Sequence[float] = ()) -> str:
    """Evaluations per image as text."""
    if (field := definition_of(type(config)).adaptive) is not None:
        return f"an adaptive number of evaluations ({field} {getattr(config, field):g})"
    return counted(expected_evaluations(config, levels, trained), "evaluation")

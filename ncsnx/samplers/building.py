"""From a sampler's configuration to the sampler: the seam between `ncsnx.config` and this package."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import attrs
import torch
from torch import Tensor

from ncsnx.config.sampler import GridSampler, Sampler
from ncsnx.quantities import counted
from ncsnx.samplers.contract import Definition, DenoisingModel, Draw, Steps, definition_of, sampler_code
from ncsnx.samplers.driver import drive
from ncsnx.samplers.grids import levels_of
from ncsnx.samplers.state import Constrain, Noise, SamplerFunction, Score, State

REVISION = "sampler_revision"
"""The key of a protocol for a sampler's revision."""
_GUESSED_EVALUATIONS = 100


def build_sampler(config: Sampler) -> SamplerFunction:
    """The sampler that `config` describes.

    Raises NcsnxError for a configuration that no sampler was registered for.
    """
    definition = definition_of(type(config))

    def sampler(
        score: Score, x: Tensor, sigmas: Sequence[float], *, noise: Noise, constrain: Constrain | None = None
    ) -> Iterator[State]:
        if constrain is not None:
            constrain.admit(config, sigmas)
        return run(definition, config, score, x, sampler_levels(config, sigmas), noise=noise, constrain=constrain)

    return sampler


def run(
    definition: Definition,
    config: Sampler,
    score: Score,
    x: Tensor,
    levels: Sequence[float],
    *,
    noise: Noise,
    constrain: Constrain | None = None,
) -> Iterator[State]:
    """The states of a sampler at these levels, whatever it makes of a measurement."""

    def start(x: Tensor, draw: Draw, model: DenoisingModel) -> Steps:
        return definition.start(config, x, levels, draw, model)

    return drive(start, score, x, noise=noise, constrain=constrain, alone=definition.adaptive is not None)


def sampler_levels(config: Sampler, trained: Sequence[float]) -> Sequence[float]:
    """The σ that a sampler is given. trained: the levels of the network. Raises NcsnxError for an impossible grid."""
    return levels_of(config.grid, config.steps, trained) if isinstance(config, GridSampler) else trained


def first_sigma(config: Sampler, trained: Sequence[float]) -> float:
    """σ of the noise that images start from. trained: the levels of the network."""
    return sampler_levels(config, trained)[0]


def evaluations(config: Sampler, levels: int) -> int | None:
    """The exact number of network evaluations per image (NFE) of a sampler at `levels` noise levels.

    None where only the sampling shows it: a solver that chooses its steps. Raises NcsnxError for a configuration that
    no sampler was registered for, and for whatever the sampler raises.
    """
    definition = definition_of(type(config))
    if definition.adaptive is not None:
        return None
    if definition.evaluations is not None:
        with sampler_code(type(config)):
            return definition.evaluations(config, levels)
    return dry_run(config, _dry_levels(config, levels)).evaluations


def state_count(config: Sampler, levels: int) -> int:
    """How many states a sampler gives: one with each evaluation, but for those of an adaptive one, and the result."""
    count = evaluations(config, levels)
    return dry_run(config, _dry_levels(config, levels)).states if count is None else count + 1


@attrs.frozen
class DryRun:
    """What a sampler did with a score that is 0 everywhere, on one pixel of zeros without noise."""

    evaluations: int
    states: int
    stays: bool
    """Whether it evaluated at the levels that it was given only."""


@lru_cache(maxsize=4096)
def dry_run(config: Sampler, sigmas: tuple[float, ...]) -> DryRun:
    """Runs a sampler at these levels, counting. Raises NcsnxError where it refuses them, or fails."""
    seen, x = [], torch.zeros(1, 1, 1, 1)

    def score(x: Tensor, sigma: float) -> Tensor:
        seen.append(sigma)
        return torch.zeros_like(x)

    definition = definition_of(type(config))
    with sampler_code(type(config)):
        states = sum(1 for _ in run(definition, config, score, x, sigmas, noise=lambda k: x))
    return DryRun(len(seen), states, set(seen) <= set(sigmas))


def _dry_levels(config: Sampler, levels: int) -> tuple[float, ...]:
    """As many levels as the sampler is given, each a millionth below the other: no step between them is too long.

    What is counted at them holds for all levels, unless a sampler takes other steps at other σ, and then it declares
    its evaluations.
    """
    count = config.steps if isinstance(config, GridSampler) else levels
    return tuple((1 + 1e-6) ** -number for number in range(count))


def expected_evaluations(config: Sampler, levels: int) -> int:
    """`evaluations`; where those aren't known, a guess, for estimates of time."""
    count = evaluations(config, levels)
    return _GUESSED_EVALUATIONS if count is None else count


def evaluations_in_words(config: Sampler, levels: int) -> str:
    """Evaluations per image, for people."""
    if (field := definition_of(type(config)).adaptive) is not None:
        return f"an adaptive number of evaluations ({field} {getattr(config, field):g})"
    return counted(expected_evaluations(config, levels), "evaluation")


def revision(config: Sampler) -> int:
    """Which revision of its algorithm a sampler runs: 1, and one more whenever its images change for good.

    It is in the protocol of all that is made of its images, so that none are mixed with those of another revision.
    """
    return definition_of(type(config)).revision(config)


def revision_facts(config: Sampler) -> dict[str, int]:
    """What stands beside the sampler in a protocol: nothing for the first revision."""
    number = revision(config)
    return {} if number == 1 else {REVISION: number}


def measured_facts(config: Sampler, *, noisy: bool) -> dict[str, int]:
    """What stands beside a measurement in a protocol: the revision of the driver's rule for it, after the first.

    2: the likelihood score is part of the score, and its transport the driver's; and evaluations inside a step of an
    adaptive sampler know the measurement too.
    """
    return {"measurement_revision": 2} if noisy or definition_of(type(config)).adaptive else {}

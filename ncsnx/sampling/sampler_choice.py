"""The sampler of a trained model: the run's own, another one, or the one that `ncsnx compare` stored."""

from collections.abc import Iterator, Sequence
from typing import Literal

import attrs

from ncsnx.config.checks import quoted
from ncsnx.config.experiment import Experiment
from ncsnx.config.overrides import Override, apply_sampler_overrides
from ncsnx.config.sampler import (
    AnnealedLangevin,
    ConsistentAnnealed,
    DPMSolverPP,
    DPMSolverPPSDE,
    EulerAncestral,
    GridSampler,
    Heun,
    ProbabilityFlowODE,
    Sampler,
)
from ncsnx.config.variants import tag_of
from ncsnx.errors import UsageError
from ncsnx.noise.bias import known_bias
from ncsnx.runs.fast_sampler import fast_in_words, find_fast, read_fast
from ncsnx.runs.folder import Run
from ncsnx.runs.selection import Source
from ncsnx.work import Work

FAST_OVERRIDE = Override("sampler", "fast")
"""`sampler=fast`."""
RESTORING = ConsistentAnnealed(steps=100)
"""The sampler of restorations. Its images reach the posterior of a measurement in the limit, which few samplers' do.
With 100 steps on Gaussian data, their mean is away by 1 to 3 % of the way to the data's, and their variances are 1.1 to
1.25 times the posterior's."""
FEWEST_STEPS = 40
"""Steps below which images vary far too much along a noisy measurement under the rule `exact`."""


def measurement_warnings(sampler: Sampler, *, noisy: bool) -> Iterator[str]:
    """How images of a sampler are known to differ from the posterior of a measurement.

    noisy: whether the measurement is noisy and the rule `exact`; the other rules need fewer steps.
    """
    if isinstance(sampler, DPMSolverPP | DPMSolverPPSDE | EulerAncestral | Heun | ProbabilityFlowODE):
        yield (
            f"sampler={tag_of(type(sampler))} does not reach the posterior, however many steps it takes: on Gaussian "
            "data, the mean stays up to 27 % short of the posterior's\n"
            "use one that does:  sampler=cas"
        )
    elif noisy and isinstance(sampler, GridSampler) and sampler.steps < FEWEST_STEPS:
        yield (
            f"sampler.steps={sampler.steps} is too few for a noisy measurement: below {FEWEST_STEPS}, images vary far "
            "more than the posterior along what was measured\n"
            f"take more:  sampler.steps={RESTORING.steps}"
        )


def with_restoring_sampler(
    work: Work,
    source: Source,
    overrides: Sequence[Override],
    sampler: Sampler | Literal["fast"] | None = None,
    rule: str | None = None,
) -> Experiment:
    """The experiment with the chosen sampler, as `with_sampler`, but with `RESTORING` by default.

    Another sampler on a grid takes as many steps, unless the overrides say how many. A sampler that needs the run's own
    values, such as its `ald`, has them if it is named. The run's own is the default where `RESTORING` does not suit:
    for a network of trained levels, and under the rule 'langevin'.
    """
    experiment = source.experiment()
    named = {override.text for override in overrides if override.path == "sampler"}
    is_own = tag_of(type(experiment.sampler)) in named and not isinstance(experiment.sampler, GridSampler)
    is_chosen = sampler is not None or FAST_OVERRIDE in overrides or is_own
    if is_chosen or not experiment.model.any_sigma or rule == "langevin":
        return with_sampler(work, source, overrides, sampler)
    chosen = apply_sampler_overrides(attrs.evolve(experiment, sampler=RESTORING), list(overrides))
    is_counted = any(override.path == "sampler.steps" for override in overrides)
    # those of `ode` are where it restarts: its precision doesn't depend on them
    if (
        isinstance(chosen.sampler, GridSampler)
        and not isinstance(chosen.sampler, ProbabilityFlowODE)
        and not is_counted
    ):
        chosen = attrs.evolve(chosen, sampler=attrs.evolve(chosen.sampler, steps=RESTORING.steps))
    return _with_bias_said(work, chosen)


def with_sampler(
    work: Work, source: Source, overrides: Sequence[Override], sampler: Sampler | Literal["fast"] | None = None
) -> Experiment:
    """The experiment of a run or exported model, with the chosen sampler.

    sampler: the one to change, by default the experiment's; 'fast' is the override sampler=fast. Says what
    `sampler=fast` means, how a sampler is known to be biased, and how to find one with fewer evaluations. Raises
    UsageError for what is no sampler, NcsnxError where no fast sampler is stored, OverrideError for overrides of
    anything else.
    """
    experiment = source.experiment()
    if sampler is not None and sampler != "fast":
        if not isinstance(sampler, Sampler):
            raise UsageError(
                f"sampler must be a configuration such as ncsnx.config.Heun(), or 'fast', not {quoted(sampler)}"
            )
        experiment = attrs.evolve(experiment, sampler=sampler)
    others = [override for override in overrides if override != FAST_OVERRIDE]
    if sampler == "fast" or len(others) < len(overrides):
        experiment = _with_fast(work, source)
        if others:
            work.info("the other overrides change this sampler; the result was not measured")
    changed = _with_bias_said(work, apply_sampler_overrides(experiment, others))
    is_own = sampler is None and not overrides
    if is_own and isinstance(experiment.sampler, AnnealedLangevin) and isinstance(source, Run):
        if find_fast(source) is not None:
            work.info("sampler=fast takes fewer evaluations")
        else:
            work.info(f"find a sampler with fewer evaluations:  ncsnx compare {source.typed}")
    return changed


def _with_fast(work: Work, source: Source) -> Experiment:
    """The experiment with the stored sampler; says what it is. Raises NcsnxError where none is."""
    if not isinstance(source, Run):
        raise UsageError(
            f"sampler=fast needs a run, where `ncsnx compare` stores it, and {source.where} is an exported model; "
            "type the sampler itself"
        )
    sampler, why = read_fast(source)
    work.info(f"sampler=fast: {fast_in_words(why)}")
    return attrs.evolve(source.experiment(), sampler=sampler)


def _with_bias_said(work: Work, experiment: Experiment) -> Experiment:
    if bias := known_bias(experiment.sampler, experiment):
        work.info(bias)
    return experiment

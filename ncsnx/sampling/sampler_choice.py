"""The sampler of a trained model: the run's own, another one, or the one that `ncsnx compare` recommends."""

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
    PredictorCorrector,
    ProbabilityFlowODE,
    Sampler,
)
from ncsnx.config.variants import tag_of
from ncsnx.errors import UsageError
from ncsnx.runs.fast_sampler import find_fast, require_fast
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger
from ncsnx.runs.selection import Source
from ncsnx.sampling.bias import known_bias
from ncsnx.work import Work

FAST_OVERRIDE = Override("sampler", "fast")
"""`sampler=fast`."""
RESTORING = ConsistentAnnealed(steps=100, eta=0.5)
"""The sampler of restorations, with `eta_min` at the noise of the measurement. On Gaussian data, the mean is away by 2
to 9 % of the way to the data's; η = 1 halves that, but gives wrong weights to alternatives that differ as a whole."""
_SHORT = (DPMSolverPP, DPMSolverPPSDE, EulerAncestral, Heun, PredictorCorrector, ProbabilityFlowODE)
"""Samplers whose images stay nearer to the data than the posterior."""
FEWEST_STEPS = 40
"""Steps below which η = ½ leaves more noise than the next level has, and images vary too much or too little."""


def measurement_warnings(sampler: Sampler, *, rule: str, noisy: bool) -> Iterator[str]:
    """How images of a sampler are known to differ from the posterior of a measurement.

    rule: the name of the rule (`ncsnx.inverse.rules`). noisy: whether the measurement is noisy.
    """
    if isinstance(sampler, _SHORT):
        short = 58 if noisy and rule != "exact" else 27
        yield (
            f"sampler={tag_of(type(sampler))} stays short of the posterior: on Gaussian data, its mean covers as "
            f"little as {100 - short} % of the way from the data's mean to the posterior's\n"
            "use cas instead:  sampler=cas"
        )
    elif noisy and isinstance(sampler, GridSampler) and sampler.steps < FEWEST_STEPS:
        yield (
            f"sampler.steps={sampler.steps} is too few for a noisy measurement: with 10, the variance along what "
            "was measured is up to 2.3 times the posterior's, and cas takes eta=1\n"
            f"take more:  sampler.steps={RESTORING.steps}"
        )


def at_noise(sampler: Sampler, sigma: float) -> Sampler:
    """The sampler for a measurement with noise of σ: below, `cas` follows the flow.

    A trained network's errors add up where much of the noise is renewed, and below σ nothing has to be made up for.
    """
    if isinstance(sampler, ConsistentAnnealed) and sampler.eta_min is None:
        return attrs.evolve(sampler, eta_min=sigma)
    return sampler


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
    paths = {override.path for override in overrides}
    chosen = apply_sampler_overrides(attrs.evolve(experiment, sampler=RESTORING), list(overrides))
    if isinstance(chosen.sampler, GridSampler) and "sampler.steps" not in paths:
        chosen = attrs.evolve(chosen, sampler=attrs.evolve(chosen.sampler, steps=RESTORING.steps))
    few = chosen.sampler
    if isinstance(few, ConsistentAnnealed) and few.steps < FEWEST_STEPS and "sampler.eta" not in paths:
        chosen = attrs.evolve(chosen, sampler=attrs.evolve(few, eta=1.0))
    return _with_bias_said(work, chosen)


def with_sampler(
    work: Work, source: Source, overrides: Sequence[Override], sampler: Sampler | Literal["fast"] | None = None
) -> Experiment:
    """The experiment of a run or exported model, with the chosen sampler.

    sampler: the one to change, by default the experiment's; 'fast' is the override sampler=fast. Says what
    `sampler=fast` means, how a sampler is known to be biased, and how to find one with fewer evaluations. Raises
    UsageError for what is no sampler, NcsnxError where no fast sampler is recommended, OverrideError for overrides of
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
        if find_fast(Ledger.read(source, ["compare"])) is not None:
            work.info("sampler=fast takes fewer evaluations")
        else:
            work.info(f"find a sampler with fewer evaluations:  ncsnx compare {source.typed}")
    return changed


def _with_fast(work: Work, source: Source) -> Experiment:
    """The experiment with the recommended sampler; says what it is. Raises NcsnxError where none is."""
    if not isinstance(source, Run):
        raise UsageError(
            f"sampler=fast needs a run, in which `ncsnx compare` measures samplers, and {source.where} is an exported "
            "model; type the sampler itself"
        )
    ledger = Ledger.read(source)
    ledger.warn(work.warning)
    sampler, why = require_fast(ledger)
    work.info(f"sampler=fast: {why}")
    return attrs.evolve(source.experiment(), sampler=sampler)


def _with_bias_said(work: Work, experiment: Experiment) -> Experiment:
    if bias := known_bias(experiment.sampler, experiment):
        work.info(bias)
    return experiment

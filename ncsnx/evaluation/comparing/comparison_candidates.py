"""Settings of samplers that are worth trying on a checkpoint."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress

import attrs

from ncsnx.config.checks import quoted
from ncsnx.config.experiment import Experiment
from ncsnx.config.sampler import AnnealedLangevin, Exponential, GridSampler, Karras, Sampler, TrainedLevels
from ncsnx.config.variants import Config, tag_of, variants
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.noise.levels import sigmas
from ncsnx.samplers.building import dry_run, evaluations
from ncsnx.samplers.contract import Grids, definition_of, sampler_code
from ncsnx.spelling import parameter

_EVALUATIONS = (6, 8, 10, 20)
"""How many evaluations a sampler of few steps is tried with, at the least."""
LEAST_SAVING = 12
"""By so much fewer evaluations than the experiment's own sampler takes, at the least, is called fast."""


def comparison_candidates(
    experiment: Experiment,
    tags: Sequence[str] | None = None,
    counts: Sequence[int] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Sampler]:
    """The experiment's own sampler first, then for each of the tags (None: all) what is tried with so many evaluations,
    and adaptive solvers. counts: None for those of `default_counts`.

    Networks that are conditional on their trained levels get those levels only. Raises UsageError for a tag without
    settings, and for a sampler by its tag where it goes between the levels that the network takes; NcsnxError for one
    that fails. Of all, such samplers are left out; `tell` gets a line for each that fails.
    """
    grids, known = _grids(experiment), variants(Sampler)
    if unknown := [tag for tag in tags or () if tag not in known or not _settings_of(known[tag], grids)]:
        usable = [tag for tag, cls in known.items() if _is_usable(cls, grids)]
        given = quoted(",".join(unknown))
        raise UsageError(f"{parameter('samplers')} {given}: expected all, or some of {', '.join(usable)}")
    found: list[Sampler] = [experiment.sampler]
    for tag in known if tags is None else tags:
        try:
            tried = _possible(experiment, tag, default_counts(experiment) if counts is None else counts)
        except NcsnxError as error:
            if tags is not None:
                raise
            if not isinstance(error, UsageError):
                tell(f"the sampler {tag} is left out: {error}")
            continue
        found += [one for one in dict.fromkeys(tried) if one not in found]
    return found


def default_counts(experiment: Experiment) -> list[int]:
    """Of evaluations: a few small ones, and the largest number that would be called fast."""
    own = evaluations(experiment.sampler, experiment.schedule.levels) or 0
    return sorted({*_EVALUATIONS, max(own // LEAST_SAVING, _EVALUATIONS[0])})


def _possible(experiment: Experiment, tag: str, counts: Sequence[int]) -> list[Sampler]:
    """Of what is tried of a sampler, that which takes no more evaluations, and which the network takes."""
    trained, any_sigma = sigmas(experiment.schedule), experiment.model.any_sigma
    tried = [
        one
        for count in counts
        for one in _settings_of(variants(Sampler)[tag], _grids(experiment), count)
        if (evaluations(one, len(trained)) or 0) <= count
    ]
    possible = [one for one in tried if any_sigma or dry_run(one, trained).stays]
    if tried and not possible:
        raise UsageError(
            f"{parameter('samplers')} {tag}: it goes between the trained levels, and "
            f"{tag_of(type(experiment.model))} knows no other σ; leave it out"
        )
    return [one for one in possible if _has_levels(one, trained, any_sigma)]


def _grids(experiment: Experiment) -> Grids:
    schedule, own = experiment.schedule, experiment.sampler
    snr = math.sqrt(own.step_size / 2) / schedule.sigma_min if isinstance(own, AnnealedLangevin) else 0.16
    if not experiment.model.any_sigma:
        return Grids(even=TrainedLevels(), whole=TrainedLevels(), inner=TrainedLevels(), snr=snr)
    high, low = schedule.sigma_max / 4, 5 * schedule.sigma_min
    ends = {"sigma_max": float(f"{high:.3g}"), "sigma_min": float(f"{low:.3g}")} if high > low else {}
    return Grids(even=Exponential(), whole=Karras(), inner=Karras(rho=9.0, **ends), snr=float(f"{snr:.3g}"))


def _settings_of(cls: type[Config], grids: Grids, count: int = max(_EVALUATIONS)) -> Sequence[Sampler]:
    """What is tried of a sampler: what stands beside its function, else its defaults in as many steps as it takes.

    Raises NcsnxError for whatever the sampler raises.
    """
    assert issubclass(cls, Sampler)
    tried = definition_of(cls).tried
    with sampler_code(cls):
        return _defaults(cls, grids, count) if tried is None else tried(count, grids)


def _defaults(cls: type[Sampler], grids: Grids, count: int) -> Sequence[Sampler]:
    if not issubclass(cls, GridSampler) or any(field.default is attrs.NOTHING for field in attrs.fields(cls)):
        return ()
    one = cls(steps=count, grid=grids.whole)
    while one.steps > 1 and (taken := evaluations(one, 0) or 0) > count:
        one = attrs.evolve(one, steps=max(1, min(one.steps - 1, one.steps * count // taken)))
    return (one,)


def _is_usable(cls: type[Config], grids: Grids) -> bool:
    with suppress(NcsnxError):
        return bool(_settings_of(cls, grids))
    return False


def _has_levels(sampler: Sampler, trained: Sequence[float], any_sigma: bool) -> bool:
    return any_sigma or not isinstance(sampler, GridSampler) or sampler.steps <= len(trained)

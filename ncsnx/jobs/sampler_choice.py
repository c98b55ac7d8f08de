"""The sampler of a job: the run's own, another one, or the one that `ncsnx compare` stored."""

from collections.abc import Sequence

import attrs

from ncsnx.config.command_words import typed
from ncsnx.config.experiment import Experiment
from ncsnx.config.overrides import Override, apply_sampler_overrides
from ncsnx.config.sampler import AnnealedLangevin
from ncsnx.errors import UsageError
from ncsnx.quantities import percent
from ncsnx.runs.fast_sampler import FAST_FILE, MOST_BROKEN, read_fast
from ncsnx.runs.folder import Run
from ncsnx.runs.model_source import Source
from ncsnx.samplers.bias import known_bias
from ncsnx.work import Work

FAST_OVERRIDE = Override("sampler", "fast")
"""`sampler=fast`."""


def with_sampler(work: Work, source: Source, overrides: Sequence[Override]) -> Experiment:
    """The experiment of a run or exported model, with the chosen sampler.

    Says what `sampler=fast` means, how a sampler is known to be biased, and how to find one with fewer evaluations.
    Raises NcsnxError where no fast sampler is stored, OverrideError for overrides of anything else.
    """
    experiment = source.experiment()
    others = [override for override in overrides if override != FAST_OVERRIDE]
    if len(others) < len(overrides):
        if not isinstance(source, Run):
            raise UsageError(
                f"sampler=fast needs a run, where `ncsnx compare` stores it, and {source.where} is an exported model; "
                "type the sampler itself"
            )
        found = read_fast(source)
        experiment = attrs.evolve(experiment, sampler=found.sampler)
        work.info(f"sampler=fast: {typed(found.sampler)}, {found}")
        if found.is_useless:
            work.warning(
                f"this sampler breaks more than {percent(MOST_BROKEN)} of its images\n"
                f"find a better one:  ncsnx compare {source.typed}"
            )
        if others:
            work.info("the other overrides change this sampler; the result was not measured")
    changed = apply_sampler_overrides(experiment, others)
    if bias := known_bias(changed.sampler, changed):
        work.info(bias)
    if not overrides and isinstance(experiment.sampler, AnnealedLangevin) and isinstance(source, Run):
        if (source.compare / FAST_FILE).exists():
            work.info("sampler=fast takes fewer evaluations")
        else:
            work.info(f"find a sampler with fewer evaluations:  ncsnx compare {source.typed}")
    return changed

"""The sampler of a trained model: the run's own, another one, or the one that `ncsnx compare` recommends."""

from collections.abc import Sequence
from typing import Literal

import attrs

from ncsnx.config.overrides import Override, apply_sampler_overrides
from ncsnx.config.sampler import AnnealedLangevin, Sampler
from ncsnx.errors import UsageError, quoted
from ncsnx.model_spec import HasSampler, ModelSpec
from ncsnx.runs.fast_sampler import find_fast
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger
from ncsnx.sampling.bias import known_bias
from ncsnx.sampling.consistency import MULTISTEP_WORDS, TUNED, is_multistep
from ncsnx.work import Work

FAST_OVERRIDE = Override("sampler", "fast")
"""`sampler=fast`."""


def chosen_sampler(
    work: Work, source: HasSampler, overrides: Sequence[Override], sampler: Sampler | Literal["fast"] | None = None
) -> Sampler:
    """The sampler that is chosen for a model.

    sampler: the one to change, by default the model's own; 'fast' is the override sampler=fast. Says what
    `sampler=fast` means, how a sampler is known to be biased, and how to find one with fewer evaluations. Raises
    UsageError for what is no sampler, NcsnxError where no fast sampler is recommended, OverrideError for overrides of
    anything else.
    """
    spec = source.spec()
    others = [override for override in overrides if override != FAST_OVERRIDE]
    if sampler == "fast" or len(others) < len(overrides):
        begun = source.fast(work)
        if others:
            work.info("the other overrides change this sampler; the result was not measured")
    elif sampler is not None and not isinstance(sampler, Sampler):
        raise UsageError(
            f"sampler must be a configuration such as ncsnx.config.Heun(), or 'fast', not {quoted(sampler)}"
        )
    else:
        begun = sampler or spec.sampler
    changed = checked_sampler(work, apply_sampler_overrides(begun, others), spec)
    is_own = sampler is None and not overrides
    if is_own and isinstance(spec.sampler, AnnealedLangevin) and isinstance(source, Run):
        if find_fast(Ledger.read(source, ["compare"])) is not None:
            work.info("sampler=fast takes fewer evaluations")
        else:
            work.info(f"find a sampler with fewer evaluations:  ncsnx compare {source.cli_name}")
    return changed


def checked_sampler(work: Work, sampler: Sampler, spec: ModelSpec) -> Sampler:
    """The sampler itself; says how it is known to be biased. Raises UsageError for classes that the network doesn't
    know."""
    attrs.evolve(spec, sampler=sampler).require_classes()
    warn_of_solver(work, sampler, spec)
    if spec.learns_scores and (bias := known_bias(sampler.unguided, spec.levels, spec.space.shape)):
        work.info(bias)
    return sampler


def warn_of_solver(work: Work, sampler: Sampler, spec: ModelSpec) -> None:
    """Warns of a sampler that needs scores, for a network that was tuned for consistency."""
    if not spec.learns_scores and not is_multistep(sampler):
        work.warning(f"this sampler needs a score network; {TUNED}\nuse instead:  {MULTISTEP_WORDS}")

"""The sampler of a trained model: the run's own, another one, or the one that `ncsnx compare` recommends."""

from collections.abc import Iterator, Sequence
from typing import Literal

import attrs

from ncsnx.config.overrides import Override, apply_sampler_overrides
from ncsnx.config.sampler import (
    AnnealedLangevin,
    ConsistentAnnealed,
    DPMSolverPP,
    DPMSolverPPSDE,
    EulerAncestral,
    FreeGrid,
    GridSampler,
    Heun,
    PredictorCorrector,
    ProbabilityFlowODE,
    Sampler,
)
from ncsnx.config.variants import tag_of
from ncsnx.errors import Hint, UsageError, quoted
from ncsnx.model_spec import OF_ANY_CLASS, HasSampler, ModelSpec
from ncsnx.runs.fast_sampler import find_fast
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger
from ncsnx.sampling.bias import known_bias
from ncsnx.work import Work

FAST_OVERRIDE = Override("sampler", "fast")
"""`sampler=fast`."""
RESTORING = ConsistentAnnealed(steps=100, eta=0.5)
"""The sampler of restorations, with `eta_min` at the noise of the measurement. On Gaussian data, the mean is away by 2
to 9 % of the way to the data's; η = 1 halves that, but gives wrong weights to alternatives that differ as a whole."""
FILLING = attrs.evolve(RESTORING, eta=1.0)
"""The sampler of holes in pictures, for a network of patches: it sees little beyond a hole, and what is known acts
through the noisy copy of many steps. Where 80 % is missing, it gains 1 to 2 dB (docs/project/photographs.md)."""
_SHORT = (DPMSolverPP, DPMSolverPPSDE, EulerAncestral, Heun, PredictorCorrector, ProbabilityFlowODE)
"""Samplers whose images stay nearer to the data than the posterior."""
FEWEST_STEPS = 40
"""Steps below which η = ½ leaves more noise than the next level has, and images vary too much or too little."""
DENOISING = DPMSolverPPSDE(steps=20)
"""The sampler of pictures whose noise is known: it follows the reverse diffusion, from their noise."""
_PREVIEW_STEPS = 20


def measurement_warnings(sampler: Sampler, *, rule: str, noisy: bool) -> Iterator[str]:
    """How images of a sampler are known to differ from the posterior of a measurement.

    rule: the name of the rule (`ncsnx.inverse.rules`). noisy: whether the measurement is noisy.
    """
    if rule == "reverse":
        return
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


def begun_at(sampler: Sampler, sigma: float, lowest: float) -> Sampler:
    """The sampler that begins at σ, the noise of a picture, and ends at `lowest`, or at σ/10 if that isn't below σ/2.

    Raises UsageError for the grid of trained levels.
    """
    if not isinstance(sampler, GridSampler):
        return sampler
    if not isinstance(sampler.grid, FreeGrid):
        raise UsageError("sampler.grid=levels doesn't begin at the noise of a picture", Hint("leave it out"))
    end = sampler.grid.sigma_min or (lowest if lowest < sigma / 2 else sigma / 10)
    return attrs.evolve(sampler, grid=attrs.evolve(sampler.grid, sigma_max=sigma, sigma_min=min(end, sigma / 2)))


def at_noise(sampler: Sampler, sigma: float) -> Sampler:
    """The sampler for a measurement with noise of σ: below, `cas` follows the flow.

    A trained network's errors add up where much of the noise is renewed, and below σ nothing has to be made up for.
    """
    if isinstance(sampler, ConsistentAnnealed) and sampler.eta_min is None:
        return attrs.evolve(sampler, eta_min=sigma)
    return sampler


def restoring_sampler(
    work: Work,
    source: HasSampler,
    overrides: Sequence[Override],
    sampler: Sampler | Literal["fast"] | None = None,
    rule: str | None = None,
    *,
    quick: bool = False,
    fills: bool = False,
) -> Sampler:
    """The chosen sampler, as `chosen_sampler`, but by default `RESTORING`, or `DENOISING` under the rule 'reverse'.

    Another sampler on a grid takes as many steps, unless the overrides say how many. quick: a preview in few steps.
    fills: `FILLING` in place of `RESTORING`. A sampler that needs the run's own values, such as its `ald`, has them if
    it is named. The run's own is the default where `RESTORING` does not suit: for a network of trained levels, and
    under the rule 'langevin'.
    """
    spec = source.spec()
    named = {override.text for override in overrides if override.path == "sampler"}
    is_own = tag_of(type(spec.sampler)) in named and not isinstance(spec.sampler, GridSampler)
    is_chosen = sampler is not None or FAST_OVERRIDE in overrides or is_own
    if is_chosen or not spec.any_sigma or rule == "langevin":
        return of_any_class(chosen_sampler(work, source, overrides, sampler), spec)
    paths = {override.path for override in overrides}
    default = DENOISING if rule == "reverse" else FILLING if fills else RESTORING
    drawn = {field.name: getattr(spec.sampler, field.name) for field in attrs.fields(Sampler)}
    chosen = of_any_class(apply_sampler_overrides(attrs.evolve(default, **drawn), list(overrides)), spec)
    if isinstance(chosen, GridSampler) and "sampler.steps" not in paths:
        chosen = attrs.evolve(chosen, steps=_PREVIEW_STEPS if quick else default.steps)
    if isinstance(chosen, ConsistentAnnealed) and chosen.steps < FEWEST_STEPS and "sampler.eta" not in paths:
        chosen = attrs.evolve(chosen, eta=1.0)
    return _checked(work, chosen, spec)


def of_any_class(sampler: Sampler, spec: ModelSpec) -> Sampler:
    """The sampler that restores: of images of any class, unless classes are asked for.

    Raises UsageError for a network that knows images of a class only.
    """
    if spec.model is None or spec.model.classes == 0 or sampler.classes:
        return sampler
    if spec.model.class_dropout == 0:
        raise UsageError(
            "this network draws images of a class, which the picture doesn't say",
            Hint("say it", adds="sampler.classes=0"),
        )
    return attrs.evolve(sampler, classes=(OF_ANY_CLASS,))


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
    changed = _checked(work, apply_sampler_overrides(begun, others), spec)
    is_own = sampler is None and not overrides
    if is_own and isinstance(spec.sampler, AnnealedLangevin) and isinstance(source, Run):
        if find_fast(Ledger.read(source, ["compare"])) is not None:
            work.info("sampler=fast takes fewer evaluations")
        else:
            work.info(f"find a sampler with fewer evaluations:  ncsnx compare {source.cli_name}")
    return changed


def _checked(work: Work, sampler: Sampler, spec: ModelSpec) -> Sampler:
    """The sampler itself; says how it is known to be biased. Raises UsageError for classes that the network doesn't
    know."""
    attrs.evolve(spec, sampler=sampler).require_classes()
    if bias := known_bias(sampler.unguided, spec.levels, spec.space.shape):
        work.info(bias)
    return sampler

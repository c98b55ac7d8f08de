"""What a task needs of its sampler, in one place: the default, its grid, η, classes and warnings.

Every way to draw images that agree with a measurement takes its sampler from `posterior_sampler`: `ncsnx restore`,
`ncsnx.restore` and `ncsnx.draw`. What a sampler can't do under a rule, the rule refuses (`Rule.admit`).
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import attrs
import torch

from ncsnx.config.data_sets import cuts_patches
from ncsnx.config.overrides import Override, apply_sampler_overrides
from ncsnx.config.sampler import (
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
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.inverse.noisy_pictures.denoising import Counted, shot_options
from ncsnx.inverse.operators.pixels import Masking
from ncsnx.inverse.rules.contract import RESTORING, Definition
from ncsnx.inverse.task import Task
from ncsnx.model_spec import OF_ANY_CLASS, HasSampler, ModelSpec
from ncsnx.sampling.consistency import TUNED
from ncsnx.sampling.sampler_choice import FAST_OVERRIDE, checked_sampler, chosen_sampler
from ncsnx.space import NOISE_TOLERANCE
from ncsnx.spelling import parameter
from ncsnx.work import Work

FILLING = attrs.evolve(RESTORING, eta=1.0)
"""The sampler of holes in pictures, for a network of patches: it sees little beyond a hole, and what is known acts
through the noisy copy of many steps. Where 80 % is missing, it gains 1 to 2 dB (docs/project/photographs.md)."""
_SHORT = (DPMSolverPP, DPMSolverPPSDE, EulerAncestral, Heun, PredictorCorrector, ProbabilityFlowODE)
"""Samplers whose images stay nearer to the data than the posterior."""
FEWEST_STEPS = 40
"""Steps below which η = ½ leaves more noise than the next level has, and images vary too much or too little."""
PREVIEW_STEPS = 20


def measurement_warnings(sampler: Sampler, how: Definition, *, noisy: bool) -> Iterator[str]:
    """How images of a sampler are known to differ from the posterior of a measurement under a rule.

    noisy: whether the measurement is noisy.
    """
    if how.shortfall is None:
        return
    if isinstance(sampler, _SHORT):
        yield (
            f"sampler={tag_of(type(sampler))} stays short of the posterior: on Gaussian data, its mean covers as "
            f"little as {100 - how.shortfall[noisy]} % of the way from the data's mean to the posterior's\n"
            "use cas instead:  sampler=cas"
        )
    elif noisy and isinstance(sampler, GridSampler) and sampler.steps < FEWEST_STEPS:
        yield (
            f"sampler.steps={sampler.steps} is too few for a noisy measurement: with 10, the variance along what "
            "was measured is up to 2.3 times the posterior's, and cas takes eta=1\n"
            f"take more:  sampler.steps={RESTORING.steps}"
        )


def posterior_sampler(
    task: Task,
    source: HasSampler,
    work: Work,
    *,
    changes: Sequence[Override] = (),
    sampler: Sampler | Literal["fast"] | None = None,
    quick: bool = False,
) -> Sampler:
    """The sampler that draws images which agree with a task, and warnings of how they differ from its posterior.

    sampler: the one to change; by default that of the task's rule (`Definition.sampler`), `FILLING` for holes and a
    model of patches, or the model's own where these don't suit: for a network of trained levels, and for a rule without
    one. changes: overrides; the model's own sampler that isn't on a grid, such as `ald`, has the run's values if it is
    named. quick: a preview in few steps, without warnings. Raises UsageError for what is no sampler of this model and
    for noise that the model wasn't trained for, NcsnxError for a sampler that the rule can't guide.
    """
    spec, how = source.spec(), task.how
    if spec.learns_scores:
        chosen = work.ranks.first(lambda: _chosen(task, source, spec, work, changes, sampler, quick=quick))
    else:
        chosen = _of_tuned(task, spec, work, changes, sampler)
    sigma, most, least = task.sigma(spec.space), spec.levels[0], spec.levels[-1]
    if not how.begins_at_noise:
        found = at_noise(chosen, sigma)
    elif least * (1 - NOISE_TOLERANCE) <= sigma <= most:
        found = begun_at(chosen, sigma, least, spec.space.noise)
    else:
        raise _unknown_noise(task, spec, sigma)
    space = spec.space.at(task.operator.shape)
    task.ruled(space, least, 0, 1)(torch.tensor([0])).admit(found, spec.levels)
    for warning in () if quick else measurement_warnings(found, how, noisy=task.least_noise > 0):
        work.warning(warning)
    return found


def _unknown_noise(task: Task, spec: ModelSpec, sigma: float) -> UsageError:
    """The error of a picture whose noise the model wasn't trained for. sigma: that noise in the network's range."""
    unit, span, least = spec.space.scale / spec.space.span, spec.space.span, spec.levels[-1]
    found, white = f"{parameter('noise')} {task.least_noise * span:g}", ""
    if isinstance(task.operator, Counted):
        found, white = shot_options(task.operator.shot, span), f"white noise of {unit * sigma:.3g} in its form; "
    brightest = 1.0 if task.inputs is None else float(task.inputs.max())
    fits = spec.space.bounded and sigma < least and 0 < brightest * least <= sigma
    hint = Hint(f"multiply the picture's values and its noise by {least / sigma:.3g} or more")
    return UsageError(
        f"{found}: {white}this model knows noise from {unit * least:.3g} to {unit * spec.levels[0]:.3g}",
        *([hint] if fits else []),
    )


def _of_tuned(
    task: Task, spec: ModelSpec, work: Work, changes: Sequence[Override], sampler: Sampler | Literal["fast"] | None
) -> Sampler:
    """One evaluation, at the noise of a picture: where the probability flow from it ends.

    Raises NcsnxError for another task, UsageError for another sampler.
    """
    if not task.how.begins_at_noise:
        raise NcsnxError(f"{task.name} needs a score network; {TUNED}")
    typed = [one.path for one in changes if one.path not in ("sampler.classes", "sampler.guidance")]
    if sampler is not None or typed:
        name = typed[0] if typed else parameter("sampler")
        raise UsageError(f"{name}: a network that was tuned for consistency denoises in one step", Hint("leave it out"))
    work.warning(f"this draws a sample in one evaluation, not the mean, which needs a score network; {TUNED}")
    one = apply_sampler_overrides(_begun(DPMSolverPPSDE(steps=1), spec, changes), list(changes))
    attrs.evolve(spec, sampler=one).require_classes()
    return one


def _begun(default: Sampler, spec: ModelSpec, changes: Sequence[Override]) -> Sampler:
    """The default with the classes and the guidance of the model, before what was typed."""
    begun: Sampler = attrs.evolve(
        default, **{field.name: getattr(spec.sampler, field.name) for field in attrs.fields(Sampler)}
    )
    if "sampler.classes" in {override.path for override in changes}:
        return begun
    return of_any_class(begun, spec)  # here, so that guidance that nobody typed falls


def _chosen(
    task: Task,
    source: HasSampler,
    spec: ModelSpec,
    work: Work,
    changes: Sequence[Override],
    sampler: Sampler | Literal["fast"] | None,
    *,
    quick: bool,
) -> Sampler:
    """The sampler before it is fitted to the noise of the measurement."""
    paths = {override.path for override in changes}
    named = {override.text for override in changes if override.path == "sampler"}
    is_own = tag_of(type(spec.sampler)) in named and not isinstance(spec.sampler, GridSampler)
    is_chosen = sampler is not None or FAST_OVERRIDE in changes or is_own
    if is_chosen or not spec.any_sigma or task.how.sampler is None:
        chosen = chosen_sampler(work, source, changes, sampler)
        if chosen.guidance != 1 and not chosen.classes and ("sampler.guidance" in paths or sampler is not None):
            raise UsageError(
                "guidance needs a class to guide towards, which the picture doesn't say",
                Hint("say it", adds="sampler.classes=0"),
            )
        return of_any_class(chosen, spec)
    fills = isinstance(task.operator, Masking) and cuts_patches(spec.data)
    default = FILLING if fills and task.how.sampler == RESTORING else task.how.sampler
    chosen = apply_sampler_overrides(_begun(default, spec, changes), list(changes))
    if isinstance(chosen, GridSampler) and "sampler.steps" not in paths:
        chosen = attrs.evolve(chosen, steps=PREVIEW_STEPS if quick else default.steps)
    if isinstance(chosen, ConsistentAnnealed) and chosen.steps < FEWEST_STEPS and "sampler.eta" not in paths:
        chosen = attrs.evolve(chosen, eta=1.0)
    return checked_sampler(work, chosen, spec)


def of_any_class(sampler: Sampler, spec: ModelSpec) -> Sampler:
    """The sampler of images of any class, without guidance, unless classes are asked for.

    Raises UsageError for a network that knows images of a class only.
    """
    if spec.model is None or spec.model.classes == 0 or sampler.classes:
        return sampler
    if spec.model.class_dropout == 0:
        raise UsageError(
            "this network draws images of a class, which the picture doesn't say",
            Hint("say it", adds="sampler.classes=0"),
        )
    return attrs.evolve(sampler.unguided, classes=(OF_ANY_CLASS,))


def begun_at(sampler: Sampler, sigma: float, lowest: float, noise_of_data: float = 0.0) -> Sampler:
    """The sampler that begins at σ, the noise of a picture, and ends at `lowest`, or at σ/10 if that isn't below σ/2.

    noise_of_data: that of the training images, at which it ends if σ is above: see `Space.noise`.
    Raises UsageError for the grid of trained levels.
    """
    if not isinstance(sampler, GridSampler):
        return sampler
    if not isinstance(sampler.grid, FreeGrid):
        raise UsageError("sampler.grid=levels doesn't begin at the noise of a picture", Hint("leave it out"))
    end = sampler.grid.sigma_min or (lowest if lowest < sigma / 2 else sigma / 10)
    end = noise_of_data if 0 < noise_of_data < sigma * (1 - NOISE_TOLERANCE) else min(end, sigma / 2)
    return attrs.evolve(sampler, grid=attrs.evolve(sampler.grid, sigma_max=sigma, sigma_min=end))


def at_noise(sampler: Sampler, sigma: float) -> Sampler:
    """The sampler for a measurement with noise of σ: below, `cas` follows the flow.

    A trained network's errors add up where much of the noise is renewed, and below σ nothing has to be made up for.
    """
    if isinstance(sampler, ConsistentAnnealed) and sampler.eta_min is None:
        return attrs.evolve(sampler, eta_min=sigma)
    return sampler

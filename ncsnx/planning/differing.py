"""Where an experiment's own noise levels and sampler differ from what the techniques make of its data."""

import attrs

from ncsnx.config.experiment import Experiment
from ncsnx.config.sampler import AnnealedLangevin
from ncsnx.config.schedule import Geometric
from ncsnx.config.variants import tag_of
from ncsnx.noise import techniques
from ncsnx.noise.level_plan import NoisePlan
from ncsnx.quantities import counted

SIGMA_TOLERANCE = 0.01
"""Relative difference of σ_1, and of L beyond one level, that is none."""
STEP_TOLERANCE = 0.03
"""Relative difference of ε that is none: published ones have two digits."""
_CHURCH = (788, 4, 4.9e-6)
"""L, T and ε as published for LSUN church."""


@attrs.frozen
class PlanDifference:
    """A value of an experiment that isn't the plan's."""

    field: str
    own: float | int | str
    planned: float | int | str
    meaning: str


def plan_differences(experiment: Experiment, plan: NoisePlan) -> list[PlanDifference]:
    """Where the experiment differs from the plan for its data by more than rounding, with what it means."""
    found = [_schedule(experiment), _sigma_max(experiment, plan), _levels(experiment, plan)]
    if isinstance(experiment.sampler, AnnealedLangevin):
        found += [_steps_per_level(experiment.sampler, plan), _step_size(experiment, experiment.sampler, plan)]
    return [difference for difference in found if difference is not None]


def _schedule(experiment: Experiment) -> PlanDifference | None:
    if isinstance(experiment.schedule, Geometric):
        return None
    tag = tag_of(type(experiment.schedule)) or type(experiment.schedule).__name__
    return PlanDifference("schedule", tag, "geometric", "technique 2 asks for a constant ratio of neighbouring levels")


def _sigma_max(experiment: Experiment, plan: NoisePlan) -> PlanDifference | None:
    own = experiment.schedule.sigma_max
    if abs(own / plan.sigma_max - 1) <= SIGMA_TOLERANCE:
        return None
    if own < plan.sigma_max:
        meaning = "images that are farther apart are not bridged by the largest noise: samples may lack variety"
    else:
        meaning = "above every distance that was found: safe, and a few levels more than needed"
    return PlanDifference("sigma_max", own, plan.sigma_max, meaning)


def _levels(experiment: Experiment, plan: NoisePlan) -> PlanDifference | None:
    own = experiment.schedule
    if abs(own.levels - plan.levels) <= max(1, SIGMA_TOLERANCE * plan.levels):
        return None
    meaning = f"{'more' if own.levels > plan.levels else 'fewer'} than σ_1 to σ_L take"
    if isinstance(own, Geometric):
        ratio = techniques.spaced_ratio(own.sigma_max, own.sigma_min, own.levels)
        share = techniques.level_overlap(plan.dimensions, ratio)
        meaning = f"its levels overlap by {share:.3g}, the plan's by {plan.overlap:.3g}: "
        meaning += "safe, at more evaluations" if share > plan.overlap else "cheaper, and samples may suffer"
        if abs(share / plan.overlap - 1) <= STEP_TOLERANCE:
            meaning = "follows from σ_1: the levels overlap as the plan's do"
    return PlanDifference("levels", own.levels, plan.levels, meaning)


def _steps_per_level(sampler: AnnealedLangevin, plan: NoisePlan) -> PlanDifference | None:
    own = sampler.steps_per_level
    if own == plan.steps_per_level:
        return None
    meaning = "the more the better (technique 4), at as many more evaluations"
    if own > plan.steps_per_level:
        meaning = "more than are needed to stay near the published number of evaluations: better, and slower"
    return PlanDifference("steps_per_level", own, plan.steps_per_level, meaning)


def _step_size(experiment: Experiment, sampler: AnnealedLangevin, plan: NoisePlan) -> PlanDifference | None:
    """ε is judged by the experiment's own levels and T, so that it isn't blamed for what differs in them."""
    own, schedule, steps = sampler.step_size, experiment.schedule, sampler.steps_per_level
    if not isinstance(schedule, Geometric):
        return (
            None
            if _close(own, plan.step_size)
            else PlanDifference("step_size", own, plan.step_size, "follows from γ, T")
        )
    ratio = techniques.spaced_ratio(schedule.sigma_max, schedule.sigma_min, schedule.levels)
    best = techniques.best_step_size(schedule.sigma_min, ratio, steps)
    if _close(own, best):
        if _close(own, plan.step_size):
            return None
        return PlanDifference("step_size", own, plan.step_size, "the optimum for the experiment's own levels and steps")
    reached, reachable = (techniques.remaining_variance(step, schedule.sigma_min, ratio, steps) for step in (own, best))
    published = "the published value " if (schedule.levels, steps, own) == _CHURCH else ""
    meaning = (
        f"{published}is not the optimum of technique 4, which for {counted(schedule.levels, 'level')} and T = {steps} "
        f"is {best:.3g}: the variance that remains is {reached:.4f} of a level's, not {reachable:.4f} (ideally 1)"
    )
    if (reached - 1) / (reachable - 1) <= 1 + STEP_TOLERANCE:
        meaning += ", which matters little"
    return PlanDifference("step_size", own, plan.step_size, meaning)


def _close(one: float, other: float) -> bool:
    return abs(one / other - 1) <= STEP_TOLERANCE

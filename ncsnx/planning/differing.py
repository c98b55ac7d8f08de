"""Differences between an experiment's noise levels and sampler and the plan for its data."""

import attrs

from ncsnx.config.experiment import Experiment
from ncsnx.config.sampler import AnnealedLangevin
from ncsnx.config.schedule import Geometric
from ncsnx.config.variants import tag_of
from ncsnx.noise import techniques
from ncsnx.noise.level_plan import NoisePlan
from ncsnx.quantities import counted

SIGMA_TOLERANCE = 0.01
"""Relative tolerance of σ_1, and of L beyond one level."""
STEP_TOLERANCE = 0.03
"""Relative tolerance of ε; published values have two digits."""
_CHURCH = (788, 4, 4.9e-6)
"""L, T and ε as published for LSUN church."""


@attrs.frozen
class PlanDifference:
    """A value of an experiment that differs from the plan."""

    field: str
    own: float | int | str
    planned: float | int | str
    meaning: str


def plan_differences(experiment: Experiment, plan: NoisePlan) -> list[PlanDifference]:
    """Values in which the experiment differs from the plan by more than rounding, with their meaning."""
    found = [_schedule(experiment), _sigma_max(experiment, plan), _levels(experiment, plan)]
    if isinstance(experiment.sampler, AnnealedLangevin):
        found += [_steps_per_level(experiment.sampler, plan), _step_size(experiment, experiment.sampler, plan)]
    return [difference for difference in found if difference is not None]


def _schedule(experiment: Experiment) -> PlanDifference | None:
    if isinstance(experiment.schedule, Geometric):
        return None
    tag = tag_of(type(experiment.schedule)) or type(experiment.schedule).__name__
    return PlanDifference("schedule", tag, "geometric", "technique 2 uses a constant ratio of neighbouring levels")


def _sigma_max(experiment: Experiment, plan: NoisePlan) -> PlanDifference | None:
    own = experiment.schedule.sigma_max
    if abs(own / plan.sigma_max - 1) <= SIGMA_TOLERANCE:
        return None
    if own < plan.sigma_max:
        meaning = "the largest noise does not bridge images that are farther apart, so samples may lack diversity"
    else:
        meaning = "above the largest distance found: safe, at the cost of a few more levels than needed"
    return PlanDifference("sigma_max", own, plan.sigma_max, meaning)


def _levels(experiment: Experiment, plan: NoisePlan) -> PlanDifference | None:
    own = experiment.schedule
    if abs(own.levels - plan.levels) <= max(1, SIGMA_TOLERANCE * plan.levels):
        return None
    meaning = f"{'more' if own.levels > plan.levels else 'fewer'} than needed from σ_1 to σ_L"
    if isinstance(own, Geometric):
        ratio = techniques.spaced_ratio(own.sigma_max, own.sigma_min, own.levels)
        share = techniques.level_overlap(plan.dimensions, ratio)
        meaning = f"its levels overlap by {share:.3g}, those of the plan by {plan.overlap:.3g}: "
        meaning += "safe, with more evaluations" if share > plan.overlap else "faster, but samples may suffer"
        if abs(share / plan.overlap - 1) <= STEP_TOLERANCE:
            meaning = "follows from σ_1: the levels overlap as in the plan"
    return PlanDifference("levels", own.levels, plan.levels, meaning)


def _steps_per_level(sampler: AnnealedLangevin, plan: NoisePlan) -> PlanDifference | None:
    own = sampler.steps_per_level
    if own == plan.steps_per_level:
        return None
    meaning = "more steps are better (technique 4), with proportionally more evaluations"
    if own > plan.steps_per_level:
        meaning = "better but slower: more evaluations than in the published experiments"
    return PlanDifference("steps_per_level", own, plan.steps_per_level, meaning)


def _step_size(experiment: Experiment, sampler: AnnealedLangevin, plan: NoisePlan) -> PlanDifference | None:
    """Compares ε with the optimum for the experiment's own levels and T, so that their differences aren't counted."""
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
        f"{published}is not the optimum of technique 4, which is {best:.3g} for {counted(schedule.levels, 'level')} "
        f"and T = {steps}: the variance after a level is {reached:.4f} of σ², not {reachable:.4f} (ideally 1)"
    )
    if (reached - 1) / (reachable - 1) <= 1 + STEP_TOLERANCE:
        meaning += ", a negligible difference"
    return PlanDifference("step_size", own, plan.step_size, meaning)


def _close(one: float, other: float) -> bool:
    return abs(one / other - 1) <= STEP_TOLERANCE

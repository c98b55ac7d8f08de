"""Settings of samplers that are worth trying on a checkpoint."""

import math
from collections.abc import Callable, Sequence

import attrs

from ncsnx.config.checks import quoted
from ncsnx.config.experiment import Experiment
from ncsnx.config.sampler import (
    AnnealedLangevin,
    ConsistentAnnealed,
    DPMSolverPP,
    DPMSolverPPSDE,
    EulerAncestral,
    Exponential,
    Grid,
    GridSampler,
    Heun,
    Karras,
    PredictorCorrector,
    ProbabilityFlowODE,
    Sampler,
    TrainedLevels,
)
from ncsnx.config.variants import tag_of
from ncsnx.errors import UsageError
from ncsnx.samplers.building import evaluations

EVALUATIONS = (6, 8, 10, 20)
"""How many evaluations a sampler of few steps is tried with, at the least."""
LEAST_SAVING = 12
"""By so much fewer evaluations than the experiment's own sampler takes, at the least, is called fast."""

_Settings = Callable[[int, "_Grids"], list[GridSampler]]


@attrs.frozen
class _Grids:
    """The grids that are tried."""

    even: Grid
    """A constant ratio from σ_1 to σ_L."""
    whole: Grid
    """Karras's, from σ_1 to σ_L."""
    inner: Grid
    """Karras's between σ_1/4 and 5 σ_L: where what images look like is decided; ρ = 9, for more steps at small σ, where
    noise may be left."""
    snr: float
    """Of a Langevin step as in the experiment's own annealing."""
    any_sigma: bool
    """Whether the network takes any σ."""


def settings(
    experiment: Experiment, tags: Sequence[str] | None = None, counts: Sequence[int] | None = None
) -> list[Sampler]:
    """The experiment's own sampler first, then for each of the tags (None: all) what is tried with so many evaluations,
    and the adaptive solver. counts: None for those of `default_counts`.

    Networks that are conditional on their trained levels get those levels only. Raises UsageError for a tag without
    settings, and for the adaptive solver by its tag where the network can't take it.
    """
    known = [*_TRIED]
    if unknown := [tag for tag in tags or () if tag not in known]:
        raise UsageError(f"--samplers {quoted(','.join(unknown))}: expected all, or some of {', '.join(known)}")
    grids = _grids(experiment)
    if "ode" in (tags or ()) and not grids.any_sigma:
        raise UsageError(
            f"--samplers ode: it goes between the trained levels, and {tag_of(type(experiment.model))} knows no other "
            "σ; leave it out"
        )
    found: list[Sampler] = [experiment.sampler]
    for tag in known if tags is None else tags:
        for count in default_counts(experiment) if counts is None else counts:
            for one in _TRIED[tag](count, grids):
                if one not in found and _is_possible(one, experiment, grids) and (evaluations(one, 0) or 0) <= count:
                    found.append(one)
    return found


def default_counts(experiment: Experiment) -> list[int]:
    """Of evaluations: a few small ones, and the largest number that would be called fast."""
    own = evaluations(experiment.sampler, experiment.schedule.levels) or 0
    return sorted({*EVALUATIONS, max(own // LEAST_SAVING, EVALUATIONS[0])})


def _grids(experiment: Experiment) -> _Grids:
    schedule, own = experiment.schedule, experiment.sampler
    any_sigma = experiment.model.any_sigma
    snr = math.sqrt(own.step_size / 2) / schedule.sigma_min if isinstance(own, AnnealedLangevin) else 0.16
    high, low = schedule.sigma_max / 4, 5 * schedule.sigma_min
    ends = {"sigma_max": float(f"{high:.3g}"), "sigma_min": float(f"{low:.3g}")} if high > low else {}
    inner = Karras(rho=9.0, **ends)
    if not any_sigma:
        return _Grids(TrainedLevels(), TrainedLevels(), TrainedLevels(), snr, any_sigma)
    return _Grids(Exponential(), Karras(), inner, float(f"{snr:.3g}"), any_sigma)


def _is_possible(sampler: GridSampler, experiment: Experiment, grids: _Grids) -> bool:
    if grids.any_sigma:
        return True
    between = isinstance(sampler, ProbabilityFlowODE) or (isinstance(sampler, Heun) and sampler.churn > 0)
    return sampler.steps <= experiment.schedule.levels and not between


_TRIED: dict[str, Callable[[int, _Grids], list[GridSampler]]] = {
    "cas": lambda count, grids: [
        ConsistentAnnealed(steps=count, order=1, grid=grids.even),
        ConsistentAnnealed(steps=count, grid=grids.whole),
        ConsistentAnnealed(steps=count, grid=grids.inner),
    ],
    "pc": lambda count, grids: [PredictorCorrector(steps=max(1, count // 2), snr=grids.snr, grid=grids.even)],
    "heun": lambda count, grids: [
        Heun(steps=(count + 1) // 2, grid=grids.whole),
        Heun(steps=(count + 1) // 2, churn=float(count), grid=grids.whole),
    ],
    "ode": lambda count, grids: [ProbabilityFlowODE(steps=2, tolerance=1e-2, grid=grids.even)],
    "euler-ancestral": lambda count, grids: [EulerAncestral(steps=count, grid=grids.whole)],
    "dpmpp": lambda count, grids: [DPMSolverPP(steps=count, grid=grids.whole)],
    "dpmpp-sde": lambda count, grids: [
        DPMSolverPPSDE(steps=count, grid=grids.whole),
        DPMSolverPPSDE(steps=count, eta=3.0, grid=grids.inner),
    ],
}

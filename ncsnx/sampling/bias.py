"""Known biases of samplers: the variance that they give Gaussian data with an exact score.

Some settings have a bias at any number of levels, deterministic solvers in few steps.
"""

import math
from functools import singledispatch

from ncsnx.config.experiment import Experiment
from ncsnx.config.sampler import AnnealedLangevin, ConsistentAnnealed, DPMSolverPP, Heun, PredictorCorrector, Sampler
from ncsnx.config.variants import tag_of
from ncsnx.noise.levels import sigmas
from ncsnx.noise.techniques import langevin_variance

_SMALL = 0.05
"""Relative error of the variance up to which no bias is reported: that of `cas` of order 1 with η = 0.1."""


@singledispatch
def known_bias(sampler: Sampler, experiment: Experiment) -> str | None:
    """A sentence on how the samples' variance differs from the data's; None if the difference is small or unknown."""
    return None


@known_bias.register
def _annealed_langevin(sampler: AnnealedLangevin, experiment: Experiment) -> str | None:
    steps = sampler.steps_per_level
    factor = langevin_variance(sigmas(experiment.schedule), sampler.step_size, steps, denoise=sampler.denoise)
    remedy = "more levels do not cure that, more steps per level lessen it"
    return _sentence(f"sampler=ald with steps_per_level={steps}", remedy, factor)


@known_bias.register
def _consistent_annealed(sampler: ConsistentAnnealed, experiment: Experiment) -> str | None:
    factor = 1.0 if sampler.order == 2 else 1 - sampler.eta / 2
    return _sentence(
        f"sampler=cas with order=1 and eta={sampler.eta:g}", "more steps do not cure that, sampler.order=2 does", factor
    )


@known_bias.register
def _predictor_corrector(sampler: PredictorCorrector, experiment: Experiment) -> str | None:
    if sampler.corrector == "ald" or sampler.corrector_steps == 0:
        return None
    # (1 + 2/D)/(1 − r²): steps are small where the norm of the score happens to be large
    small_steps = 1 + 2 / math.prod(experiment.data.shape)
    factor = math.inf if sampler.snr >= 1 else small_steps / (1 - sampler.snr**2)
    remedy = "more steps do not cure that, sampler.corrector=ald does"
    return _sentence(f"sampler=pc with corrector=langevin and snr={sampler.snr:g}", remedy, factor)


@known_bias.register
def _deterministic_solver(sampler: Heun | DPMSolverPP, experiment: Experiment) -> str | None:
    """Bias for data with standard deviations from 10 σ_L to σ_1/10, as images have them."""
    import torch

    from ncsnx.samplers.building import build_sampler, sampler_levels

    if isinstance(sampler, Heun) and sampler.churn > 0:
        return None
    trained = sigmas(experiment.schedule)
    first, last = (sampler_levels(sampler, trained)[place] ** 2 for place in (0, -1))
    v = torch.logspace(math.log10(10 * trained[-1]), math.log10(trained[0] / 10), 9, dtype=torch.float64) ** 2
    v = v.view(-1, 1, 1, 1)
    # the score is linear, so that the solver multiplies x by a number
    solver, start = build_sampler(sampler), torch.ones_like(v)
    *_, end = solver(lambda x, sigma: -x / (v + sigma**2), start, trained, noise=torch.zeros)
    exact = v**2 / ((v + first) * (v + last))
    factors = (end.x**2 / exact).flatten().tolist()
    return _sentence(f"sampler={tag_of(type(sampler))} with steps={sampler.steps}", "more steps lessen that", *factors)


def _sentence(sampler: str, remedy: str, *factors: float) -> str | None:
    if all(abs(factor - 1) <= _SMALL + 1e-9 for factor in factors):
        return None
    percents = " to ".join(dict.fromkeys(f"{100 * factor:.3g}" for factor in (min(factors), max(factors))))
    variance = f"{percents} % of its variance" if math.isfinite(max(factors)) else "a variance without bound"
    return f"{sampler} gives Gaussian data {variance}; {remedy}"

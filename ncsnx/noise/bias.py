"""Known biases of samplers: the variance that they give Gaussian data with an exact score, at any number of levels."""

import math
from functools import singledispatch

from ncsnx.config.experiment import Experiment
from ncsnx.config.sampler import AnnealedLangevin, ConsistentAnnealed, PredictorCorrector, Sampler
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
    return _sentence(f"sampler=ald with steps_per_level={steps}", factor, remedy)


@known_bias.register
def _consistent_annealed(sampler: ConsistentAnnealed, experiment: Experiment) -> str | None:
    factor = 1.0 if sampler.order == 2 else 1 - sampler.eta / 2
    return _sentence(
        f"sampler=cas with order=1 and eta={sampler.eta:g}", factor, "more steps do not cure that, sampler.order=2 does"
    )


@known_bias.register
def _predictor_corrector(sampler: PredictorCorrector, experiment: Experiment) -> str | None:
    if sampler.corrector == "ald" or sampler.corrector_steps == 0:
        return None
    # (1 + 2/D)/(1 − r²): steps are small where the norm of the score happens to be large
    small_steps = 1 + 2 / math.prod(experiment.data.shape)
    factor = math.inf if sampler.snr >= 1 else small_steps / (1 - sampler.snr**2)
    remedy = "more steps do not cure that, sampler.corrector=ald does"
    return _sentence(f"sampler=pc with corrector=langevin and snr={sampler.snr:g}", factor, remedy)


def _sentence(sampler: str, factor: float, remedy: str) -> str | None:
    if abs(factor - 1) <= _SMALL + 1e-9:
        return None
    variance = f"{100 * factor:.3g} % of its variance" if math.isfinite(factor) else "a variance without bound"
    return f"{sampler} gives Gaussian data {variance}; {remedy}"

"""Known biases of samplers: the variance that they give Gaussian data with an exact score.

Some settings have a bias at any number of levels, deterministic solvers in few steps.
"""

import math
from collections.abc import Sequence
from functools import singledispatch
from typing import TYPE_CHECKING

from ncsnx.config.experiment import Experiment
from ncsnx.config.pretrained import Declared
from ncsnx.config.sampler import AnnealedLangevin, ConsistentAnnealed, DPMSolverPP, Heun, PredictorCorrector, Sampler
from ncsnx.config.variants import tag_of
from ncsnx.model_spec import learns_scores
from ncsnx.schedules.levels import sigmas
from ncsnx.schedules.techniques import langevin_variance
from ncsnx.space import Space

if TYPE_CHECKING:
    from torch import Tensor

_SMALL = 0.05
"""Relative error of the variance up to which no bias is reported: that of `cas` of order 1 with η = 0.1."""


def bias_of(declared: Declared) -> str | None:
    """The known bias of a model's own sampler; None for a network that was tuned for consistency."""
    if not learns_scores(declared):
        return None
    shape = declared.data.shape if isinstance(declared, Experiment) else declared.shape
    return known_bias(declared.sampler, sigmas(declared.schedule), shape)


def end_in_words(sampler: Sampler, space: Space) -> str | None:
    """What samples are of a model that learned from noisy images; None for clean ones."""
    if not space.noise:
        return None
    is_denoised = getattr(sampler, "denoise", True)
    end = "each is the mean of the clean images behind a noisy one, which is smoother than they are"
    return (
        f"the model learned from images with noise of σ = {space.noise:.4g} in its range, where samples end: "
        f"{end if is_denoised else 'they have that noise'}"
    )


@singledispatch
def known_bias(sampler: Sampler, levels: Sequence[float], shape: tuple[int, int, int]) -> str | None:
    """A sentence on how the samples' variance differs from the data's; None if the difference is small or unknown.

    levels: those of the network, σ_1 first. shape: (C, H, W) of an image.
    """
    return None


@known_bias.register
def _annealed_langevin(sampler: AnnealedLangevin, levels: Sequence[float], shape: tuple[int, int, int]) -> str | None:
    steps = sampler.steps_per_level
    factor = langevin_variance(levels, sampler.step_size, steps, denoise=sampler.denoise)
    remedy = "more levels do not cure that, more steps per level lessen it"
    return _sentence(f"sampler=ald with steps_per_level={steps}", remedy, factor)


@known_bias.register
def _consistent_annealed(
    sampler: ConsistentAnnealed, levels: Sequence[float], shape: tuple[int, int, int]
) -> str | None:
    factor = 1.0 if sampler.order == 2 else 1 - sampler.eta / 2
    return _sentence(
        f"sampler=cas with order=1 and eta={sampler.eta:g}", "more steps do not cure that, sampler.order=2 does", factor
    )


@known_bias.register
def _predictor_corrector(
    sampler: PredictorCorrector, levels: Sequence[float], shape: tuple[int, int, int]
) -> str | None:
    if sampler.corrector == "ald" or sampler.corrector_steps == 0:
        return None
    # (1 + 2/D)/(1 − r²): steps are small where the norm of the score happens to be large
    small_steps = 1 + 2 / math.prod(shape)
    factor = math.inf if sampler.snr >= 1 else small_steps / (1 - sampler.snr**2)
    remedy = "more steps do not cure that, sampler.corrector=ald does"
    return _sentence(f"sampler=pc with corrector=langevin and snr={sampler.snr:g}", remedy, factor)


@known_bias.register
def _deterministic_solver(
    sampler: Heun | DPMSolverPP, levels: Sequence[float], shape: tuple[int, int, int]
) -> str | None:
    """Bias for data with standard deviations from 10 σ_L to σ_1/10, as images have them."""
    import torch

    from ncsnx.samplers.building import build_sampler, sampler_levels

    if isinstance(sampler, Heun) and sampler.churn > 0:
        return None
    first, last = (sampler_levels(sampler, levels)[place] ** 2 for place in (0, -1))
    v = torch.logspace(math.log10(10 * levels[-1]), math.log10(levels[0] / 10), 9, dtype=torch.float64) ** 2
    v = v.view(-1, 1, 1, 1)
    # the score is linear, so that the solver multiplies x by a number
    solver, start = build_sampler(sampler), torch.ones_like(v)

    def model(x: "Tensor", sigma: "Tensor", cond: object) -> "Tensor":
        each = sigma.view(-1, 1, 1, 1)
        return -each * x / (v + each**2)

    *_, end = solver(model, start, levels, noise=torch.zeros)
    exact = v**2 / ((v + first) * (v + last))
    factors = (end.x**2 / exact).flatten().tolist()
    return _sentence(f"sampler={tag_of(type(sampler))} with steps={sampler.steps}", "more steps lessen that", *factors)


def _sentence(sampler: str, remedy: str, *factors: float) -> str | None:
    if all(abs(factor - 1) <= _SMALL + 1e-9 for factor in factors):
        return None
    percents = " to ".join(dict.fromkeys(f"{100 * factor:.3g}" for factor in (min(factors), max(factors))))
    variance = f"{percents} % of its variance" if math.isfinite(max(factors)) else "a variance without bound"
    return f"{sampler} gives Gaussian data {variance}; {remedy}"

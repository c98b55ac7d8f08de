"""Samplers with many steps and an exact score draw from the data, or with the documented bias of their settings."""

import math

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.config import (
    AnnealedLangevin,
    ConsistentAnnealed,
    DPMSolverPP,
    Experiment,
    Geometric,
    Heun,
    PredictorCorrector,
    Sampler,
)
from ncsnx.config.discovery import resolve
from ncsnx.config.sampler import GridSampler
from ncsnx.samplers.building import build_sampler
from ncsnx.samplers.contract import definition_of
from ncsnx.sampling.bias import bias_of
from ncsnx.sampling.generation import sampler_draws
from ncsnx.schedules.levels import sigmas
from ncsnx.schedules.techniques import NoisePlan, best_step_size, langevin_variance, spaced_ratio
from tests.samplers.registry import PLAN, SAMPLERS, default_of, in_steps
from tests.samplers.toy import DEVIATION, MEAN, Mixture, levels_of_plan, scaled
from tests.spaces import unit_space

TOP, BOTTOM = PLAN.sigma_max, PLAN.sigma_min
SHAPE, COUNT = (1, 32, 32), 4
STEPS = 1600
GAUSSIAN = Mixture((1.0,), (MEAN,), (DEVIATION,))
MIXTURE = Mixture((0.3, 0.7), (0.2, 0.8), (0.05, 0.1))


def converged(variant: type[Sampler]) -> Sampler:
    """The defaults with many steps, unless the sampler is adaptive."""
    config = default_of(variant)
    return config if definition_of(variant).adaptive else in_steps(config, STEPS)


def left_bias(config: Sampler) -> float:
    """Relative error of variances and weights that remains with this number of steps.

    With 1,600 steps, ln γ is at most 7 · 0.00046/0.52 = 0.006 (ρ = 7), which is about the error of a first-order
    method. Annealed Langevin dynamics lags behind its levels, by the exact recursion of `langevin_variance`.
    """
    return 0.01 if isinstance(config, GridSampler) else langevin_factor(PLAN) - 1


def langevin_factor(plan: NoisePlan) -> float:
    return langevin_variance(levels_of_plan(plan), plan.step_size, plan.steps_per_level, denoise=False)


def drawn(config: Sampler, data: Mixture, shape: tuple[int, ...] = SHAPE, count: int = COUNT) -> Tensor:
    """Pixels of images that start from the data with noise of σ_1, so that any error is the sampler's."""
    generator = torch.Generator().manual_seed(11)

    def unit_normal(k: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    x = data.mean + math.sqrt(TOP**2 + data.variance) * unit_normal(0)
    *_, last = build_sampler(config)(scaled(data.score), x, levels_of_plan(PLAN), noise=unit_normal)
    return last.x.double().flatten()


def denoised(variance: float) -> float:
    """Variance of denoised images if the data has `variance`: the last σ counts as noise."""
    return variance**2 / (variance + BOTTOM**2)


VARIANTS = pytest.mark.parametrize("variant", SAMPLERS.values(), ids=SAMPLERS.keys())


@VARIANTS
def test_the_defaults_of_every_sampler_draw_the_modes_of_a_mixture_and_their_weights(variant: type[Sampler]) -> None:
    config = converged(variant)
    values = drawn(config, MIXTURE)
    n, bias = len(values), left_bias(config)
    low, high = values[values < 0.45], values[values >= 0.45]
    # five standard errors; the share of N(0.8, 0.1²) below 0.45 is 2e-4
    assert len(low) / n == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / n) + bias)
    for part, mean, deviation in zip((low, high), MIXTURE.means, MIXTURE.deviations, strict=True):
        assert float(part.mean()) == pytest.approx(mean, abs=(5 / math.sqrt(len(part)) + bias) * deviation)
        expected = math.sqrt(denoised(deviation**2))
        assert float(part.std()) == pytest.approx(expected, rel=5 / math.sqrt(2 * len(part)) + bias)


def test_the_probability_flow_has_the_weights_of_a_mixture_if_it_starts_around_the_mean_of_the_data() -> None:
    """σ_1 is near the largest distance, so a start around 0.5 would give the lower mode a weight of 0.35 and more."""
    schedule = Geometric(sigma_max=2.0, sigma_min=0.01, levels=50)
    experiment = attrs.evolve(resolve("digits").experiment, schedule=schedule, sampler=Heun(steps=40))
    space = attrs.evolve(unit_space(1, 32, 32), mean=(MIXTURE.mean,))
    x = sampler_draws(experiment.sampler, sigmas(schedule), space, 5, None).initial(torch.arange(COUNT))
    *_, last = build_sampler(experiment.sampler)(
        scaled(MIXTURE.score), x, sigmas(schedule), noise=lambda k: torch.zeros(1)
    )
    n, low = last.x.numel(), int((last.x < 0.45).sum())
    # five standard errors, and the error of a start without the variance of the data: 0.087/2/2² = 0.011
    assert low / n == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / n) + 0.011)


@pytest.mark.parametrize("eta", [1.0, 0.5])
def test_consistent_annealing_of_first_order_lacks_half_of_eta_of_a_variance(eta: float) -> None:
    for order, expected in ((1, 1 - eta / 2), (2, 1.0)):
        values = drawn(ConsistentAnnealed(steps=400, eta=eta, order=order), GAUSSIAN)
        # ln γ is at most 0.025 in 400 steps
        margin = 5 * math.sqrt(2 / len(values)) + 0.025
        assert float(values.var()) == pytest.approx(expected * DEVIATION**2, rel=margin)


@pytest.mark.parametrize(("steps_per_level", "levels"), [(1, 200), (3, 400), (20, 100)])
def test_the_variance_of_annealed_langevin_dynamics_is_that_of_the_recursion(steps_per_level: int, levels: int) -> None:
    """Linear response: x is a linear function of its start and its draws, so the variance is a sum of squares."""
    ratio = spaced_ratio(5.0, 0.01, levels)
    schedule = sigmas(Geometric(sigma_max=5.0, sigma_min=0.01, levels=levels))
    config = AnnealedLangevin(step_size=best_step_size(0.01, ratio, steps_per_level), steps_per_level=steps_per_level)
    draws = levels * steps_per_level + 1
    start = torch.zeros(draws, dtype=torch.float64)
    start[0] = math.sqrt(1.0 + 5.0**2)  # image k of the batch responds to a unit impulse in draw k alone

    def impulse(k: int) -> Tensor:
        return (torch.arange(draws) == k + 1).double().view(-1, 1, 1, 1)

    def score(x: Tensor, sigma: float) -> Tensor:
        return -x / (1.0 + sigma**2)  # of data of variance 1, which is (100 σ_L)²

    *_, last = build_sampler(config)(scaled(score), start.view(-1, 1, 1, 1), schedule, noise=impulse)
    expected = langevin_variance(schedule, config.step_size, steps_per_level, denoise=True)
    assert float(last.x.square().sum()) == pytest.approx(expected, rel=1e-9)


def bias(sampler: Sampler, experiment: Experiment) -> str | None:
    return bias_of(attrs.evolve(experiment, sampler=sampler))


@pytest.mark.parametrize(
    ("name", "percent"), [("digits", 132), ("cifar10", 114), ("celeba64", 113), ("church96", 107), ("bedroom128", 120)]
)
def test_the_published_samplers_tell_of_their_bias(name: str, percent: int) -> None:
    experiment = resolve(name).experiment
    told = bias(experiment.sampler, experiment)
    assert told is not None
    assert f"gives Gaussian data {percent} % of its variance" in told


def test_a_sampler_tells_of_its_bias_where_it_is_more_than_a_twentieth() -> None:
    digits = resolve("digits").experiment
    told = bias(ConsistentAnnealed(order=1), digits)
    assert told is not None
    assert "order=1 and eta=1 gives Gaussian data 50 % of its variance" in told
    assert bias(ConsistentAnnealed(order=1, eta=0.1), digits) is None
    ncsn = resolve("cifar10_ncsn").experiment
    assert bias(ncsn.sampler, ncsn) is None
    grids = [in_steps(default_of(cls), 40) for cls in SAMPLERS.values() if issubclass(cls, GridSampler)]
    assert {bias(config, digits) for config in grids} == {None}


def test_deterministic_solvers_tell_of_their_bias_in_few_steps() -> None:
    """The factors are those of the solvers' formulas, multiplied by hand."""
    published, digits = resolve("cifar10_edm").experiment, resolve("digits_edm").experiment
    told = bias(published.sampler, published)
    assert told == "sampler=heun with steps=18 gives Gaussian data 105 to 132 % of its variance; more steps lessen that"
    assert "113 to 122 % of its variance" in str(bias(Heun(steps=9), digits))
    assert "109 to 114 % of its variance" in str(bias(DPMSolverPP(steps=9), digits))
    assert bias(DPMSolverPP(steps=17), digits) is None
    assert bias(Heun(steps=9, churn=20.0), digits) is None


def test_the_langevin_corrector_tells_of_its_bias_in_small_images() -> None:
    langevin = PredictorCorrector(corrector="langevin")
    digits, cifar10 = resolve("digits").experiment, resolve("cifar10").experiment
    told = [bias(langevin, digits), bias(langevin, cifar10)]
    assert [None if one is None else one.partition("data ")[2][:5] for one in told] == ["106 %", None]
    coarse = bias(attrs.evolve(langevin, snr=0.5), cifar10)
    assert coarse is not None
    assert "133 % of its variance" in coarse
    endless = bias(attrs.evolve(langevin, snr=1.0), cifar10)
    assert endless is not None
    assert "without bound" in endless
    assert bias(attrs.evolve(langevin, corrector_steps=0), digits) is None


@pytest.mark.parametrize(("pixels", "langevin"), [(4, 1.67), (16, 1.15), (64, 1.06)])
def test_the_langevin_corrector_is_biased_as_said_and_that_of_annealing_is_not(pixels: int, langevin: float) -> None:
    """The formula (1 + 2/D)/(1 − r²) gives 1.54, 1.15, 1.06; for D = 4, steps of r = 0.16 are too coarse for it."""
    n = 32_768
    for corrector, expected in (("langevin", langevin), ("ald", 1.0)):
        config = PredictorCorrector(steps=200, corrector=corrector)
        values = drawn(config, GAUSSIAN, shape=(1, 1, pixels), count=n // pixels)
        # five standard errors, up to twice as large for a variance that differs between images, and part of ln γ, which
        # is at most 0.05 with 200 steps
        margin = 5 * math.sqrt(2 / n) * (2 if pixels == 4 else 1) + 0.015
        assert float(values.var()) / DEVIATION**2 == pytest.approx(expected, rel=margin)

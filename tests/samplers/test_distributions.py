"""Samplers with many steps and an exact score draw from the data, or with the documented bias of their settings."""

import math

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.config import ConsistentAnnealed, PredictorCorrector, Sampler
from ncsnx.config.sampler import GridSampler
from ncsnx.noise.level_plan import NoisePlan
from ncsnx.samplers.building import build_sampler
from ncsnx.samplers.contract import definition_of
from tests.samplers.registry import PLAN, SAMPLERS, default_of, in_steps
from tests.samplers.toy import DEVIATION, MEAN, Mixture, levels_of_plan

TOP, BOTTOM = PLAN.sigma_max, PLAN.sigma_min
SHAPE, COUNT = (1, 32, 32), 8
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
    method. Annealing at trained levels lags: the variance of x falls by σ²(γ² − 1) per level, and T steps of ε/σ_L²
    reduce the excess by a fraction of 2T ε/σ_L² · σ²/v. The two balance at an excess of v ln γ/(T ε/σ_L²).
    """
    return 0.01 if isinstance(config, GridSampler) else lag(PLAN)


def lag(plan: NoisePlan) -> float:
    return math.log(plan.ratio) / (plan.steps_per_level * plan.step_size / plan.sigma_min**2)


def drawn(config: Sampler, data: Mixture, shape: tuple[int, ...] = SHAPE, count: int = COUNT) -> Tensor:
    """Pixels of images that start from the data with noise of σ_1, so that any error is the sampler's."""
    generator = torch.Generator().manual_seed(11)

    def unit_normal(k: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    x = data.mean + math.sqrt(TOP**2 + data.variance) * unit_normal(0)
    *_, last = build_sampler(config)(data.score, x, levels_of_plan(PLAN), noise=unit_normal)
    return last.x.double().flatten()


def denoised(variance: float) -> float:
    """Variance of denoised images if the data has `variance`: the last σ counts as noise."""
    return variance**2 / (variance + BOTTOM**2)


VARIANTS = pytest.mark.parametrize("variant", SAMPLERS.values(), ids=SAMPLERS.keys())


@VARIANTS
def test_the_defaults_of_every_sampler_draw_gaussian_data(variant: type[Sampler]) -> None:
    config = converged(variant)
    values = drawn(config, GAUSSIAN)
    n, bias = len(values), left_bias(config)
    # five standard errors of the mean and of the variance of n independent normal values
    assert float(values.mean()) == pytest.approx(MEAN, abs=(5 / math.sqrt(n) + bias) * DEVIATION)
    assert float(values.var()) == pytest.approx(denoised(DEVIATION**2), rel=5 * math.sqrt(2 / n) + 1.1 * bias)


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


@pytest.mark.parametrize("eta", [1.0, 0.5])
def test_consistent_annealing_of_first_order_lacks_half_of_eta_of_a_variance_and_of_second_order_nothing(
    eta: float,
) -> None:
    for order, expected in ((1, 1 - eta / 2), (2, 1.0)):
        values = drawn(ConsistentAnnealed(steps=400, eta=eta, order=order), GAUSSIAN)
        # ln γ is at most 0.025 in 400 steps
        margin = 5 * math.sqrt(2 / len(values)) + 0.025
        assert float(values.var()) == pytest.approx(expected * DEVIATION**2, rel=margin)


def test_a_sampler_tells_of_its_bias_where_it_is_more_than_a_twentieth() -> None:
    told = ConsistentAnnealed(order=1).known_bias(64)
    assert told is not None
    assert "order=1 and eta=1 gives Gaussian data 50 % of its variance" in told
    assert ConsistentAnnealed(order=1, eta=0.1).known_bias(64) is None
    assert {default_of(variant).known_bias(1) for variant in SAMPLERS.values()} == {None}


def test_the_langevin_corrector_tells_of_its_bias_in_small_images() -> None:
    langevin = PredictorCorrector(corrector="langevin")
    told = [langevin.known_bias(dimensions) for dimensions in (16, 64, 256)]
    assert [None if one is None else one.partition("about ")[2][:5] for one in told] == ["115 %", "106 %", None]
    coarse = attrs.evolve(langevin, snr=0.5).known_bias(3072)
    assert coarse is not None
    assert "dimension 3,072 about 133 % of its variance" in coarse
    endless = attrs.evolve(langevin, snr=1.0).known_bias(3072)
    assert endless is not None
    assert "without bound" in endless
    assert attrs.evolve(langevin, corrector_steps=0).known_bias(4) is None


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

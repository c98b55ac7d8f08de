"""Conditioning on a measurement: as published, exact, and from the posterior of Gaussian data."""

import itertools
from collections.abc import Sequence

import attrs
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ncsnx.config import AnnealedLangevin, ConsistentAnnealed, Sampler
from ncsnx.config.discovery import resolve
from ncsnx.config.overrides import apply_sampler_overrides, parse_overrides
from ncsnx.config.sampler import GridSampler
from ncsnx.config.variants import variants
from ncsnx.inverse import (
    Averaging,
    Blurring,
    Condition,
    Fourier,
    Graying,
    LinearOperator,
    Masking,
    MatrixOperator,
    Measured,
)
from ncsnx.noise.levels import sigmas
from ncsnx.samplers.building import build_sampler, first_sigma
from ncsnx.samplers.contract import definition_of
from ncsnx.sampling.sampler_choice import FEWEST_STEPS, RESTORING, measurement_warnings
from tests.forked import REPOSITORY
from tests.golden_networks import load_golden, relative_error
from tests.inverse.linear_response import Source, law
from tests.samplers.toy import RecordedNoise

GENERATOR = torch.Generator().manual_seed(3)
SEEN = torch.rand(4, 4, generator=GENERATOR)
OPERATORS: dict[str, LinearOperator] = {
    "mask": Masking((SEEN < 0.5).view(1, 4, 4)),
    "averaging": Averaging((1, 4, 4), 2),
    "graying": Graying((3, 2, 3)),
    "blurring": Blurring((1, 4, 4), 1.2, cutoff=0.05),
    "fourier, real": Fourier((1, 4, 4), SEEN < 0.3),
    "fourier, complex": Fourier((2, 3, 3), SEEN[:3, :3] < 0.4),
    "matrix": MatrixOperator((1, 4, 4), torch.randn(5, 16, generator=GENERATOR)),
}
LEVELS = tuple(3.0 * (0.05 / 3.0) ** (number / 29) for number in range(30))
DATA_DEVIATION = 0.6


def gaussian(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Mean and covariance of data with correlated neighbours."""
    channels, height, width = shape
    axes = (0.8 * torch.arange(channels), torch.arange(height) * 1.0, torch.arange(width) * 1.0)
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).view(-1, 3).double()
    covariance = DATA_DEVIATION**2 * torch.exp(-torch.cdist(places, places) / 1.5) + 0.02 * torch.eye(len(places))
    return torch.linspace(0.2, 0.8, len(places)).double(), covariance


@attrs.frozen(eq=False)
class Posterior:
    """A measurement of one image, and the exact posterior."""

    values: Tensor
    mean: Tensor
    covariance: Tensor


def posterior(operator: LinearOperator, noise: float) -> Posterior:
    prior_mean, prior = gaussian(operator.shape)
    generator = torch.Generator().manual_seed(5)
    truth = prior_mean + torch.linalg.cholesky(prior) @ torch.randn(len(prior), generator=generator).double()
    deviations = noise / operator.singular_values.double()
    values = operator.coefficients(truth.view(1, *operator.shape))[0]
    values = values + deviations * torch.randn(len(values), generator=generator).double()
    directions = operator.images(torch.eye(len(values)).double()).flatten(1)
    gain = prior @ directions.T @ torch.linalg.inv(directions @ prior @ directions.T + torch.diag(deviations**2))
    mean = prior_mean + gain @ (values - directions @ prior_mean)
    return Posterior(values, mean, prior - gain @ directions @ prior)


def drawn(
    operator: LinearOperator,
    values: Tensor,
    noise: float,
    sampler: Sampler,
    count: int,
    source: Source,
    levels: Sequence[float],
) -> Tensor:
    """Images of the Gaussian data under a condition, with the exact score and these draws, (count, D)."""
    mean, covariance = gaussian(operator.shape)
    variances, axes = torch.linalg.eigh(covariance)

    def score(x: Tensor, sigma: float | Tensor) -> Tensor:
        along = (x.flatten(1) - mean.to(x)) @ axes.to(x)
        level = sigma.view(-1, 1) if isinstance(sigma, Tensor) else sigma
        return -((along / (variances.to(x) + level**2)) @ axes.to(x).T).view_as(x)

    measured = Measured(operator, values.expand(count, -1), noise)
    condition = Condition(measured, source("measurement"), lowest=levels[-1])
    x = 0.5 + first_sigma(sampler, levels) * source("start")(0)
    *_, last = build_sampler(sampler)(score, x, levels, noise=source("steps"), constrain=condition)
    return last.x.double().flatten(1)


def judged(name: str, noise: float, sampler: Sampler) -> tuple[float, float]:
    """Error of the mean, as a fraction of the way from the data's to the posterior's, and variance along measured
    directions, as a multiple of the posterior's: exact, at the levels of `cifar10`.
    """
    operator = OPERATORS[name]
    exact, (prior_mean, _) = posterior(operator, noise), gaussian(operator.shape)
    levels = sigmas(resolve("cifar10").experiment.schedule)
    mean, covariance = law(
        lambda count, source: drawn(operator, exact.values, noise, sampler, count, source, levels), operator.shape
    )
    error = (mean - exact.mean).norm() / (prior_mean - exact.mean).norm()
    ratios = along(operator, covariance) / along(operator, exact.covariance)
    return float(error), float(ratios.mean())


def along(operator: LinearOperator, covariance: Tensor) -> Tensor:
    """Variances along the measured directions, (M,)."""
    directions = operator.images(torch.eye(len(operator.singular_values)).double()).flatten(1)
    return (directions @ covariance @ directions.T).diagonal()


@pytest.mark.parametrize("noise", [1e-6, LEVELS[-1], 4 * LEVELS[-1]])
def test_langevin_dynamics_meet_a_measurement_whatever_its_noise_beside_that_of_the_last_level(noise: float) -> None:
    """A denoised result lacks σ_L² of its variance, or all of it if that is less."""
    operator, sampler = OPERATORS["mask"], AnnealedLangevin(step_size=0.5 * LEVELS[-1] ** 2, steps_per_level=5)
    exact, left = posterior(operator, noise), LEVELS[-1] ** 2
    mean, covariance = law(
        lambda count, source: drawn(operator, exact.values, noise, sampler, count, source, LEVELS), operator.shape
    )
    away = along(operator, covariance) - along(operator, exact.covariance)
    assert bool((away < 0.4 * left).all())
    assert bool((away > -left - 1e-9).all())
    assert float(operator.coefficients((mean - exact.mean).view(1, *operator.shape)).abs().max()) < 4 * left


@pytest.mark.parametrize("name", OPERATORS)
def test_restores_sampler_draws_nearly_from_the_posterior_of_gaussian_data(name: str) -> None:
    assert judged(name, 0.0, RESTORING)[0] < 0.03
    error, ratio = judged(name, 0.1, RESTORING)
    assert error < 0.03
    assert 0.8 < ratio < 1.25


def test_more_steps_bring_restores_sampler_nearer_to_an_exact_measurement() -> None:
    for name in ("mask", "averaging"):
        few, usual = (judged(name, 0.0, attrs.evolve(RESTORING, steps=steps))[0] for steps in (50, RESTORING.steps))
        assert usual < 0.75 * few


@pytest.mark.parametrize("sampler", variants(Sampler).values(), ids=variants(Sampler).keys())
def test_a_sampler_that_never_reaches_an_exact_measurement_is_warned_of(sampler: type[GridSampler]) -> None:
    """Twice the steps bring `pc` 0.02 of the way nearer, and these 0.01 at most. `ode` follows the flow of `heun`."""
    if not issubclass(sampler, GridSampler) or definition_of(sampler).adaptive:
        return
    before, after = (judged("mask", 0.0, sampler(steps=steps))[0] for steps in (30, 60))
    is_stuck = after > 0.15 and before - after < 0.015
    assert bool(list(measurement_warnings(sampler(steps=60), noisy=False))) == is_stuck


def test_few_steps_along_a_noisy_measurement_are_warned_of() -> None:
    for steps, is_few in ((10, True), (FEWEST_STEPS - 1, True), (FEWEST_STEPS, False)):
        sampler = ConsistentAnnealed(steps=steps)
        assert bool(list(measurement_warnings(sampler, noisy=True))) == is_few
        assert not list(measurement_warnings(sampler, noisy=False))
    assert judged("mask", 0.1, ConsistentAnnealed(steps=10))[1] > 9
    assert judged("mask", 0.1, ConsistentAnnealed(steps=FEWEST_STEPS))[1] < 1.7


def documented() -> list[tuple[Sampler, str]]:
    """The samplers in the guide's table of noisy measurements, each with the ratios that it gives."""
    lines = (REPOSITORY / "docs/guides/inverse-problems.md").read_text().splitlines()
    (title,) = [number for number, line in enumerate(lines) if line.startswith("| sampler | `sampler.steps=")]
    columns = [column.strip(" `") for column in lines[title].strip(" |").split("|")][1:]
    found = []
    for line in itertools.takewhile(str.strip, lines[title + 2 :]):
        words, *ratios = [cell.strip(" `") for cell in line.strip(" |").split("|")]
        for steps, ratio in zip(columns, ratios, strict=True):
            typed = parse_overrides([*words.split(), steps])
            found.append((apply_sampler_overrides(resolve("cifar10").experiment, typed).sampler, ratio))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "ratios"), documented(), ids=repr)
def test_few_steps_spread_along_a_noisy_measurement_as_the_guide_says(sampler: Sampler, ratios: str) -> None:
    found = [judged(name, 0.1, sampler)[1] for name in ("mask", "averaging")]
    low, high = (float(end) for end in ratios.split(" to "))
    # the guide's are of 1,000 draws: five relative standard errors of a mean over four directions, √(2/4n)
    margin = {"rel": 5 * (2 / 4000) ** 0.5, "abs": 0.005}
    assert min(found) == pytest.approx(low, **margin)
    assert max(found) == pytest.approx(high, **margin)


def test_inpainting_is_the_published_one_when_it_is_fed_its_draws() -> None:
    golden = load_golden("ncsnv2")
    tensors, network = golden.tensors, golden.network
    init, reference = tensors["inpaint.init"].flatten(0, 1), tensors["inpaint.reference"]
    known = torch.zeros(init.shape[1:], dtype=torch.bool)
    known[:, :, : known.shape[-1] // 2] = True
    operator = Masking(known)
    values = operator.coefficients(reference.repeat_interleave(2, dim=0))
    half = known.shape[-1] - known.shape[-1] // 2
    draws = RecordedNoise(functional.pad(tensors["inpaint.noise_known"], (0, half)))
    condition = Condition(Measured(operator, values), draws)
    sampler = build_sampler(AnnealedLangevin(step_size=5e-6, steps_per_level=2, denoise=False))
    noise = RecordedNoise(tensors["inpaint.noise"])
    states = list(sampler(network.score, init, network.noise_levels, noise=noise, constrain=condition))
    assert relative_error(states[-2].x, tensors["inpaint.last_recorded"]) < 1e-5


def test_a_result_is_brought_between_black_and_white_and_keeps_its_measurement() -> None:
    operator = Averaging((1, 4, 4), 2)
    values = operator.coefficients(torch.full((1, 1, 4, 4), 0.9))
    x = 0.9 + 0.6 * torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    condition = Condition(Measured(operator, values), RecordedNoise(torch.zeros(0)), ends=(0.0, 1.0))
    result = condition(x, 0.0, 0)
    torch.testing.assert_close(operator.coefficients(result), values)
    assert float(result.max()) < 1 + 1e-4
    assert float(result.std()) > 0.01, "not just the mean"


@pytest.mark.parametrize("deviation", [0.0, 0.002])
def test_a_third_of_the_frequencies_and_both_ends_are_kept_by_each_image_for_itself(deviation: float) -> None:
    """Pictures with much black and white, for which alternating projections take thousands of iterations."""
    generator = torch.Generator().manual_seed(0)
    operator = Fourier((1, 16, 16), torch.rand(16, 16, generator=generator) < 0.3)
    truth = (torch.rand(4, 1, 16, 16, generator=generator) * 3 - 1).clamp(0, 1)
    values = operator.coefficients(truth)
    values = values + deviation / operator.singular_values * torch.randn(values.shape, generator=generator)
    x = truth + 0.1 * torch.randn(truth.shape, generator=generator)

    def result(rows: slice) -> Tensor:
        measured = Measured(operator, values[rows], deviation)
        return Condition(measured, RecordedNoise(torch.zeros(0)), 0.01, ends=(0.0, 1.0))(x[rows], 0.0, 0)

    found = result(slice(None))
    away = (operator.coefficients(found) - values).abs()
    assert bool((away <= 4 * deviation / operator.singular_values + 1e-5).all())
    assert float((found - found.clamp(0, 1)).abs().max()) < 2e-4
    for row in range(4):
        torch.testing.assert_close(result(slice(row, row + 1)), found[row : row + 1], atol=1e-6, rtol=0)


def test_a_result_keeps_what_was_measured_better_than_the_last_level_is() -> None:
    operator = MatrixOperator((1, 1, 3), torch.diag(torch.tensor([1.0, 0.01, 0.001])))
    values, x = operator.coefficients(torch.full((1, 1, 1, 3), 0.5)), torch.zeros(1, 1, 1, 3)
    condition = Condition(Measured(operator, values, 0.001), RecordedNoise(torch.zeros(0)), lowest=0.2)
    torch.testing.assert_close(condition(x, 0.0, 0), torch.tensor([[[[0.5, 0.5, 0.0]]]]), atol=1e-6, rtol=0)


def test_the_likelihood_score_of_a_noisy_measurement_is_that_of_its_noise_beyond_the_levels() -> None:
    operator = Masking(torch.tensor([[[True, False]]]))
    condition = Condition(Measured(operator, torch.tensor([[1.0]]), 0.5), RecordedNoise(torch.ones(1, 1, 1, 1, 2)))
    x = torch.tensor([[[[0.2, 0.3]]]])
    # (value − x) / (τ² − σ²), on the known pixel only
    torch.testing.assert_close(condition.likelihood_score(x, 0.1), torch.tensor([[[[0.8 / (0.25 - 0.01), 0.0]]]]))
    torch.testing.assert_close(condition.likelihood_score(x, 0.49), torch.tensor([[[[0.8 / 0.49**2, 0.0]]]]))
    torch.testing.assert_close(condition.likelihood_score(x, 0.6), torch.zeros_like(x))
    assert torch.equal(condition(x, 0.1, 0), x)
    # the measured value with as much noise as the level has beyond its own
    topped_up = torch.tensor([[[[1.0 + (0.36 - 0.25) ** 0.5, 0.3]]]])
    torch.testing.assert_close(condition(x, 0.6, 0), topped_up)

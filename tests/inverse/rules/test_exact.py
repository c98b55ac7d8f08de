"""Conditioning on a measurement: as published, exact, and from the posterior of Gaussian data."""

import itertools
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

from ncsnx.config import AnnealedLangevin, ConsistentAnnealed, Sampler
from ncsnx.config.discovery import resolve
from ncsnx.config.overrides import apply_sampler_overrides, parse_overrides
from ncsnx.config.sampler import DPMSolverPP, DPMSolverPPSDE, EulerAncestral, GridSampler, Heun
from ncsnx.config.variants import variants
from ncsnx.inverse import Averaging, Blurring, Fourier, Graying, LinearOperator, Masking, MatrixOperator
from ncsnx.inverse.operators.pixels import Identity
from ncsnx.inverse.posterior_sampler import FEWEST_STEPS, at_noise, begun_at, measurement_warnings
from ncsnx.inverse.rules.contract import RESTORING, rules
from ncsnx.inverse.rules.exact import ExactRule
from ncsnx.inverse.rules.likelihood import DataConsistency
from ncsnx.inverse.rules.reverse import DENOISING, ReverseRule
from ncsnx.samplers.building import build_sampler, first_sigma
from ncsnx.samplers.contract import definition_of
from ncsnx.samplers.state import Score, State
from ncsnx.schedules.levels import sigmas
from tests.forked import REPOSITORY
from tests.golden_networks import load_golden, relative_error
from tests.inverse.linear_response import Source, law
from tests.samplers.toy import Mixture, RecordedNoise, scaled

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


def slow(value: Any) -> Any:
    """A parameter for `nox -s slow` alone."""
    return pytest.param(value, marks=pytest.mark.slow)


def gaussian(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Mean and covariance of data with correlated neighbors."""
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

    condition = ExactRule(operator, values.expand(count, -1), source("measurement"), noise, lowest=levels[-1])
    x = 0.5 + first_sigma(sampler, levels) * source("start")(0)
    *_, last = build_sampler(sampler)(scaled(score), x, levels, noise=source("steps"), rule=condition)
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


@pytest.mark.parametrize("noise", [1e-6, slow(LEVELS[-1]), 4 * LEVELS[-1]])
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


@pytest.mark.parametrize("name", [name if name in ("mask", "matrix") else slow(name) for name in OPERATORS])
def test_restores_sampler_draws_nearly_from_the_posterior_of_gaussian_data(name: str) -> None:
    assert judged(name, 0.0, RESTORING)[0] < 0.09
    least = 0.1 / float(OPERATORS[name].singular_values.max())
    error, ratio = judged(name, 0.1, at_noise(RESTORING, least))
    assert error < 0.09
    assert 0.8 < ratio < 1.1


def test_more_steps_bring_restores_sampler_nearer_to_an_exact_measurement() -> None:
    for name in ("mask", "averaging"):
        few, usual = (judged(name, 0.0, attrs.evolve(RESTORING, steps=steps))[0] for steps in (50, RESTORING.steps))
        assert usual < 0.75 * few


@pytest.mark.parametrize("sampler", variants(Sampler).values(), ids=variants(Sampler).keys())
def test_a_sampler_that_stays_short_of_an_exact_measurement_is_warned_of(sampler: type[GridSampler]) -> None:
    """`ode` follows the flow of `heun`."""
    if not issubclass(sampler, GridSampler) or definition_of(sampler).adaptive:
        return
    is_short = judged("mask", 0.0, sampler(steps=60))[0] > 0.15
    assert bool(list(measurement_warnings(sampler(steps=60), rules()["exact"], noisy=False))) == is_short


def test_few_steps_along_a_noisy_measurement_are_warned_of() -> None:
    for steps, is_few in ((10, True), (FEWEST_STEPS - 1, True), (FEWEST_STEPS, False)):
        sampler = ConsistentAnnealed(steps=steps)
        assert bool(list(measurement_warnings(sampler, rules()["exact"], noisy=True))) == is_few
        assert not list(measurement_warnings(sampler, rules()["exact"], noisy=False))
    assert judged("averaging", 0.1, ConsistentAnnealed(steps=10))[1] > 1.9
    assert judged("averaging", 0.1, ConsistentAnnealed(steps=FEWEST_STEPS))[1] < 1.3


BIMODAL = Mixture((0.3, 0.7), (0.2, 0.8), (0.05, 0.1))
"""Weights, means and deviations of two images; all pixels of an image are of the same one."""
RIGHT_WEIGHT = 0.302


def images_of_one_mixture(sampler: Sampler, count: int) -> Tensor:
    """Images (count, 16) of `BIMODAL`, of which one pixel was measured with noise of ½."""
    noise, shape = 0.5, (1, 4, 4)
    weights, means, deviations = (torch.tensor(row).double() for row in attrs.astuple(BIMODAL))

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        away, variances = means - x.flatten(1)[..., None], deviations**2 + sigma[0].flatten() ** 2
        logits = weights.log() - 8 * variances.log() - 0.5 * away.square().sum(dim=1) / variances
        slopes = logits.softmax(dim=1)[:, None] * away / variances
        return slopes.sum(dim=2).view_as(x)

    variances = deviations**2 + noise**2
    odds = RIGHT_WEIGHT / (1 - RIGHT_WEIGHT) * weights[1] / weights[0] * (variances[0] / variances[1]).sqrt()
    ys = torch.linspace(-3, 3, 100_001).double()
    found = (-0.5 * (ys - means[0]) ** 2 / variances[0] + 0.5 * (ys - means[1]) ** 2 / variances[1]).exp()
    y = ys[(found - odds).abs().argmin()]
    generator = torch.Generator().manual_seed(0)

    def draw(k: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator).double()

    levels = sigmas(resolve("cifar10").experiment.schedule)
    operator = Masking((torch.arange(16) == 0).view(shape))
    condition = ExactRule(operator, y.expand(count, 1), draw, noise, lowest=levels[-1])
    x = 0.62 + first_sigma(sampler, levels) * draw(0)
    *_, last = build_sampler(sampler)(scaled(score), x, levels, noise=draw, rule=condition)
    return last.x.flatten(1)


@pytest.mark.parametrize("steps", [40, slow(100), slow(400)])
def test_alternatives_that_differ_as_a_whole_get_their_weights(steps: int) -> None:
    """The weight is 0.27 with η = 1, and went to 0 where the measurement was extrapolated. 4,000 draws have a standard
    error of 0.007, the bias of η = ½ is 0.017."""
    images = images_of_one_mixture(at_noise(attrs.evolve(RESTORING, steps=steps), 0.5), 4000)
    assert float((images.mean(dim=1) < 0.45).double().mean()) == pytest.approx(RIGHT_WEIGHT, abs=0.03)


@pytest.mark.slow
def test_more_steps_bring_the_labels_of_half_digits_nearer_to_their_law_by_either_rule() -> None:
    """Total variation from the posterior of the labels, of 6 digits with 100 alternatives each: 0.32 and 0.22."""
    data, labels = load_digits(return_X_y=True)
    digits, noise, wide, count = torch.tensor(data) / 16, 0.05, 0.05, 600
    shown = digits[[3, 140, 701, 1002, 1503, 1701]].view(6, 1, 8, 8)
    operator, generator = Masking((torch.arange(8) < 4).expand(1, 8, 8)), torch.Generator().manual_seed(3)

    def draw(k: int) -> Tensor:
        return torch.randn(count, 1, 8, 8, generator=generator).double()

    def score(x: Tensor, sigma: float | Tensor) -> Tensor:
        level = sigma.view(-1, 1) if isinstance(sigma, Tensor) else sigma
        variance = level**2 + wide**2
        shares = (-(torch.cdist(x.flatten(1), digits) ** 2) / (2 * variance)).softmax(dim=1)
        return ((shares @ digits - x.flatten(1)) / variance).view_as(x)

    def by_label(shares: Tensor) -> Tensor:
        return torch.zeros(6, 10).double().index_add_(1, torch.tensor(labels), shares)

    y = operator.coefficients(shown)
    y = y + noise * torch.randn(y.shape, generator=generator).double()
    away = torch.cdist(y, operator.coefficients(digits.view(-1, 1, 8, 8)))
    right = by_label((-(away**2) / (2 * (noise**2 + wide**2))).softmax(dim=1))
    levels, given = tuple(10 * 0.001 ** (k / 99) for k in range(100)), y.repeat_interleave(100, dim=0)
    conditions = {
        "exact": ExactRule(operator, given, draw, noise, lowest=levels[-1]),
        "cg": DataConsistency(map=operator, y=given, noise=noise, norm=1.0),
    }
    variation = {}
    for rule, condition in conditions.items():
        for steps in (100, 400):
            sampler = at_noise(attrs.evolve(RESTORING, steps=steps), noise)
            x = digits.mean(dim=0).view(1, 8, 8) + levels[0] * draw(0)
            *_, last = build_sampler(sampler)(scaled(score), x, levels, noise=draw, rule=condition)
            nearest = torch.cdist(last.x.flatten(1), digits).argmin(dim=1).view(6, 100)
            found = by_label(functional.one_hot(nearest, len(digits)).double().mean(dim=1))
            variation[rule, steps] = float((found - right).abs().sum(dim=1).mean() / 2)
        assert variation[rule, 400] < variation[rule, 100]
    assert variation["exact", 400] < variation["cg", 400] + 0.05


@pytest.mark.parametrize("steps", [40, 400, slow(2000)])
@pytest.mark.parametrize("deviation", [0.0, 0.05])
def test_measured_pixels_keep_their_law_at_any_number_of_steps(deviation: float, steps: int) -> None:
    """Data that varies less than the noise of 0.1. Hundreds of means of 2,000 squares reach 1.1."""
    levels, noise, shape = sigmas(resolve("cifar10").experiment.schedule), 0.1, (1, 1, 4)
    generator = torch.Generator().manual_seed(0)

    def draw(k: int) -> Tensor:
        return torch.randn(500, *shape, generator=generator).double()

    sampler, operator = ConsistentAnnealed(steps=steps), Masking(torch.ones(shape, dtype=torch.bool))
    values = torch.tensor([[0.1, -0.1, 0.05, 0.0]]).double()
    condition = ExactRule(operator, values.expand(500, -1), draw, noise, lowest=levels[-1])
    states = build_sampler(sampler)(
        scaled(lambda x, sigma: -x / (deviation**2 + sigma**2)),
        levels[0] * draw(0),
        levels,
        noise=draw,
        rule=condition,
    )
    largest = 0.0
    for state in states:
        if (room := noise**2 - state.sigma**2) > 0.3 * noise**2 and state.sigma > 0:
            variance = deviation**2 + state.sigma**2
            right = values * variance / (variance + room)
            away = (state.x.flatten(1) - right).square().mean() / (variance * room / (variance + room))
            largest = max(largest, float(away.sqrt()))
    assert largest < 1.5


@pytest.mark.parametrize("steps", [100, slow(400)])
@pytest.mark.parametrize("sampler", [RESTORING, Heun(), DPMSolverPP(), DPMSolverPPSDE(), EulerAncestral()], ids=repr)
def test_the_mean_of_alternatives_of_a_noisy_picture_is_its_denoised_image(sampler: GridSampler, steps: int) -> None:
    """Tweedie's formula; also of a network whose score is 3 % too large: its errors must not add up."""
    noise, shape, levels = 0.1, (1, 1, 4), sigmas(resolve("cifar10").experiment.schedule)
    operator, data = Masking(torch.ones(shape, dtype=torch.bool)), torch.tensor([0.0, 0.01, 0.04, 0.3]).double()
    values = torch.tensor([[0.1, -0.1, 0.2, -0.3]]).double()
    draws_images = build_sampler(at_noise(attrs.evolve(sampler, steps=steps), noise))
    for factor, share in ((1.0, 0.01), (1.03, 0.1)):

        def score(x: Tensor, sigma: float, factor: float = factor) -> Tensor:
            return -factor * x / (data + sigma**2)

        def images(count: int, source: Source, score: Score = score) -> Tensor:
            draw = source("measurement")
            condition = ExactRule(operator, values.expand(count, -1), draw, noise, lowest=levels[-1])
            x = levels[0] * source("start")(0)
            *_, last = draws_images(scaled(score), x, levels, noise=source("steps"), rule=condition)
            return last.x.flatten(1)

        mean, covariance = law(images, shape)
        denoised = values[0] + noise**2 * score(values[0], noise)
        assert float((mean - denoised).square().sum()) < share * float(covariance.diagonal().sum())


@pytest.mark.parametrize("steps", [5, 20, slow(400)])
def test_the_reverse_diffusion_of_a_noisy_picture_ends_at_its_posterior_of_gaussian_data(steps: int) -> None:
    """Exact but for the steps. The flow would give one image."""
    operator, noise, lowest = Identity((1, 4, 4)), 0.3, 0.01
    exact = posterior(operator, noise)
    mean, covariance = gaussian(operator.shape)

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        away = (x.flatten(1) - mean).T
        return -torch.linalg.solve(covariance + sigma[0, 0, 0, 0] ** 2 * torch.eye(16).double(), away).T.view_as(x)

    def images(count: int, source: Source) -> Tensor:
        sampler = begun_at(attrs.evolve(DENOISING, steps=steps), noise, lowest)
        y = exact.values.expand(count, -1).view(-1, 1, 4, 4)
        condition, x = ReverseRule(y, noise), source("start")(0)
        *_, last = build_sampler(sampler)(scaled(score), x, (9.0, lowest), noise=source("steps"), rule=condition)
        return last.x.flatten(1)

    found, spread = law(images, operator.shape)
    ratios = spread.diagonal() / exact.covariance.diagonal()
    assert float((found - exact.mean).norm() / (mean - exact.mean).norm()) < (0.03 if steps < 20 else 0.005)
    assert bool(((ratios - 1).abs() < (0.25 if steps < 20 else 0.03)).all()), ratios


@pytest.mark.parametrize("steps", [20, slow(400)])
def test_the_reverse_diffusion_of_a_noisy_picture_gives_two_kinds_of_images_their_weights(steps: int) -> None:
    """The likelier kind has 0.05 more with 20 steps. 4,000 draws: a standard error of 0.008 of the weight, and of 0.7 %
    of the narrow images' variance."""
    noise, shape, count = 0.5, (1, 4, 4), 4000
    weights, means, deviations = (torch.tensor(row).double() for row in attrs.astuple(BIMODAL))
    generator = torch.Generator().manual_seed(0)
    y = 0.47 + torch.linspace(-0.1, 0.1, 16).double()

    def odds(x: Tensor, sigma: float) -> Tensor:
        away, variances = means - x[..., None], deviations**2 + sigma**2
        return (weights.log() - 8 * variances.log() - 0.5 * away.square().sum(dim=1) / variances).softmax(dim=1)

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        level = float(sigma[0, 0, 0, 0])
        slopes = odds(x.flatten(1), level)[:, None] * (means - x.flatten(1)[..., None]) / (deviations**2 + level**2)
        return slopes.sum(dim=2).view_as(x)

    def draw(k: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator).double()

    sampler = begun_at(attrs.evolve(DENOISING, steps=steps), noise, 0.01)
    condition = ReverseRule(y.view(1, *shape).expand(count, -1, -1, -1), noise)
    *_, last = build_sampler(sampler)(scaled(score), draw(0), (9.0, 0.01), noise=draw, rule=condition)
    narrow = last.x.flatten(1)[last.x.flatten(1).mean(dim=1) < 0.45]
    right = float(odds(y[None], noise)[0, 0])
    assert 0.2 < right < 0.8
    assert len(narrow) / count == pytest.approx(right, abs=0.08 if steps == 20 else 0.035)
    assert float(narrow.var(dim=0).mean()) == pytest.approx(float(1 / (1 / deviations[0] ** 2 + 1 / noise**2)), rel=0.1)


def documented() -> list[tuple[Sampler, str]]:
    """The samplers in the page's table of noisy measurements, each with the ratios that it gives."""
    lines = (REPOSITORY / "docs/project/inverse-problems.md").read_text().splitlines()
    (title,) = [number for number, line in enumerate(lines) if line.startswith("| sampler | `sampler.steps=")]
    columns = [column.strip(" `") for column in lines[title].strip(" |").split("|")][1:]
    found = []
    for line in itertools.takewhile(str.strip, lines[title + 2 :]):
        words, *ratios = [cell.strip(" `") for cell in line.strip(" |").split("|")]
        for steps, ratio in zip(columns, ratios, strict=True):
            typed = parse_overrides([*words.split(), steps])
            found.append((apply_sampler_overrides(RESTORING, typed), ratio))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "ratios"), documented(), ids=repr)
def test_few_steps_spread_along_a_noisy_measurement_as_the_guide_says(sampler: Sampler, ratios: str) -> None:
    found = []
    for name in ("mask", "averaging"):
        least = 0.1 / float(OPERATORS[name].singular_values.max())
        found.append(judged(name, 0.1, at_noise(sampler, least))[1])
    low, *others = (float(end) for end in ratios.split(" to "))
    assert min(found) == pytest.approx(low, abs=0.006)
    assert max(found) == pytest.approx(others[0] if others else low, abs=0.006)


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
    condition = ExactRule(operator, values, draws)
    sampler = build_sampler(AnnealedLangevin(step_size=5e-6, steps_per_level=2, denoise=False))
    noise = RecordedNoise(tensors["inpaint.noise"])
    states = list(sampler(network.scaled_score, init, network.noise_levels, noise=noise, rule=condition))
    assert relative_error(states[-2].x, tensors["inpaint.last_recorded"]) < 1e-5


def test_a_result_is_brought_between_black_and_white_and_keeps_its_measurement() -> None:
    operator = Averaging((1, 4, 4), 2)
    values = operator.coefficients(torch.full((1, 1, 4, 4), 0.9))
    x = 0.9 + 0.6 * torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    condition = ExactRule(operator, values, RecordedNoise(torch.zeros(0)), ends=(0.0, 1.0))
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
        draw = RecordedNoise(torch.zeros(0))
        return ExactRule(operator, values[rows], draw, deviation, lowest=0.01, ends=(0.0, 1.0))(x[rows], 0.0, 0)

    found = result(slice(None))
    away = (operator.coefficients(found) - values).abs()
    assert bool((away <= 4 * deviation / operator.singular_values + 1e-5).all())
    assert float((found - found.clamp(0, 1)).abs().max()) < 2e-4
    for row in range(4):
        torch.testing.assert_close(result(slice(row, row + 1)), found[row : row + 1], atol=1e-6, rtol=0)


def test_a_result_keeps_what_was_measured_better_than_the_last_level_is() -> None:
    operator = MatrixOperator((1, 1, 3), torch.diag(torch.tensor([1.0, 0.01, 0.001])))
    values, x = operator.coefficients(torch.full((1, 1, 1, 3), 0.5)), torch.zeros(1, 1, 1, 3)
    condition = ExactRule(operator, values, RecordedNoise(torch.zeros(0)), 0.001, lowest=0.2)
    torch.testing.assert_close(condition(x, 0.0, 0), torch.tensor([[[[0.5, 0.5, 0.0]]]]), atol=1e-6, rtol=0)


def arrived(sigma: float, denoised: Tensor) -> State:
    return State(0, sigma, denoised, denoised, 1.0)


@pytest.mark.parametrize("sampler", [Heun(steps=60), DPMSolverPPSDE(steps=60), RESTORING], ids=repr)
def test_a_measurement_with_more_noise_than_the_first_level_keeps_the_posterior(sampler: Sampler) -> None:
    """Values with 1,000 times the data's deviation say next to nothing."""
    operator, levels = Masking(torch.ones(1, 1, 2, dtype=torch.bool)), sigmas(resolve("cifar10").experiment.schedule)
    values = torch.tensor([[500.0, -500.0]]).double()

    def score(x: Tensor, sigma: float | Tensor) -> Tensor:
        return -x / (1 + sigma**2)

    def images(count: int, source: Source) -> Tensor:
        condition = ExactRule(operator, values.expand(count, -1), source("measurement"), 1000.0)
        x = levels[0] * source("start")(0)
        *_, last = build_sampler(sampler)(scaled(score), x, levels, noise=source("steps"), rule=condition)
        return last.x.flatten(1)

    mean, covariance = law(images, operator.shape)
    assert bool((mean.abs() < 0.01).all())
    torch.testing.assert_close(covariance.diagonal(), torch.ones(2).double(), rtol=0, atol=0.1)


def test_a_noisy_measurement_and_what_the_sampler_has_are_weighted_by_their_precision() -> None:
    operator = Masking(torch.tensor([[[True, False]]]))
    condition = ExactRule(operator, torch.tensor([[1.0]]), RecordedNoise(torch.ones(3, 1, 1, 1, 2)), 0.5)
    x, last = torch.tensor([[[[0.2, 0.3]]]]), arrived(0.45, torch.tensor([[[[0.4, 0.4]]]]))
    c = (1 - 0.3**2 / 0.5**2) ** 0.5
    u = 0.4 + (0.2 - 0.4) / c
    network = (1.0 / 0.5**2 + u * c**2 / 0.3**2) * 0.3**2
    torch.testing.assert_close(condition(x, 0.3, 0, last), torch.tensor([[[[network, 0.3]]]]))
    begun = 0.4 + 0.3 / c  # below the measurement's noise for the first time: from the denoised image, with fresh noise
    network = (1.0 / 0.5**2 + begun * c**2 / 0.3**2) * 0.3**2
    torch.testing.assert_close(condition(x, 0.3, 1, arrived(0.6, last.denoised)), torch.tensor([[[[network, 0.3]]]]))
    # the measured value with as much noise as the level has beyond its own
    topped_up = torch.tensor([[[[1.0 + (0.36 - 0.25) ** 0.5, 0.3]]]])
    torch.testing.assert_close(condition(x, 0.6, 2), topped_up)

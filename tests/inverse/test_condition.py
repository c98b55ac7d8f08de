"""Images that agree with a measurement: as published, exactly, and from the posterior of Gaussian data."""

import attrs
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ncsnx.config import AnnealedLangevin, ConsistentAnnealed, DPMSolverPPSDE, Heun, PredictorCorrector, Sampler
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
from ncsnx.sampling import RecordedNoise, build_sampler
from ncsnx.sampling.state import Noise
from tests.golden_networks import load_golden, relative_error

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
    """Mean and covariance of data whose neighbours are correlated."""
    channels, height, width = shape
    axes = (0.8 * torch.arange(channels), torch.arange(height) * 1.0, torch.arange(width) * 1.0)
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).view(-1, 3).double()
    covariance = DATA_DEVIATION**2 * torch.exp(-torch.cdist(places, places) / 1.5) + 0.02 * torch.eye(len(places))
    return torch.linspace(0.2, 0.8, len(places)).double(), covariance


@attrs.frozen(eq=False)
class Posterior:
    """What is known of one image, and its exact posterior."""

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


def unit_normal(seed: int, shape: tuple[int, ...]) -> Noise:
    """Cheaper than noise that depends on the image alone."""
    generator = torch.Generator().manual_seed(seed)
    return lambda step: torch.randn(shape, generator=generator)


def sampled(operator: LinearOperator, values: Tensor, noise: float, sampler: Sampler, count: int) -> Tensor:
    """(count, D) images of the Gaussian data under a condition, with the exact score."""
    mean, covariance = gaussian(operator.shape)
    variances, axes = torch.linalg.eigh(covariance)

    def score(x: Tensor, sigma: float) -> Tensor:
        along = (x.flatten(1) - mean.to(x)) @ axes.to(x)
        return -((along / (variances.to(x) + sigma**2)) @ axes.to(x).T).view_as(x)

    shape = (count, *operator.shape)
    condition = Condition(Measured(operator, values.expand(count, -1).float(), noise), unit_normal(1, shape))
    x = 0.5 + LEVELS[0] * unit_normal(2, shape)(0)
    draws = unit_normal(3, shape)
    *_, last = build_sampler(sampler)(condition.score(score), x, LEVELS, noise=draws, constrain=condition)
    return last.x.double().flatten(1)


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS.keys())
def test_langevin_dynamics_draw_from_the_posterior_of_gaussian_data(operator: LinearOperator, noise: float) -> None:
    """In units of the data's deviation; a sample of n has errors of 1/√n in a mean and √(2/n) in a variance.

    To five of those come what 30 levels of 20 steps leave: a direction of the variance v follows a level for as long as
    its steps, of σ²/2, are together more than v + σ²: 20 · σ²/2 > v down to σ² = v/10. What it knows of the measurement
    is then as noisy as that: an error of up to σ²/(v + σ²) = 0.09 of the share that the measurement explains.
    """
    n = 1000
    exact = posterior(operator, noise)
    values = sampled(operator, exact.values, noise, AnnealedLangevin(step_size=0.5 * 0.05**2, steps_per_level=20), n)
    variance = DATA_DEVIATION**2
    assert float((values.mean(dim=0) - exact.mean).abs().max()) < (5 / n**0.5 + 0.03) * DATA_DEVIATION
    assert float((torch.cov(values.T) - exact.covariance).abs().max()) < (5 * (2 / n) ** 0.5 * 0.5 + 0.045) * variance


@pytest.mark.parametrize(
    "sampler",
    [
        ConsistentAnnealed(steps=40, order=2),
        PredictorCorrector(steps=20),
        DPMSolverPPSDE(steps=40),
        Heun(steps=20, churn=20.0),
    ],
    ids=repr,
)
def test_every_sampler_keeps_an_exact_measurement_and_comes_nearer_to_the_posterior_than_the_prior_is(
    sampler: Sampler,
) -> None:
    operator = OPERATORS["averaging"]
    exact = posterior(operator, 0.0)
    values = sampled(operator, exact.values, 0.0, sampler, count=500)
    measured = operator.coefficients(values.view(-1, *operator.shape))
    torch.testing.assert_close(measured, exact.values.expand_as(measured), atol=1e-5, rtol=0)
    prior_mean, prior = gaussian(operator.shape)
    error = (values.mean(dim=0) - exact.mean).norm()
    assert error < 0.3 * (prior_mean - exact.mean).norm()
    assert (torch.cov(values.T) - exact.covariance).norm() < 0.5 * (prior - exact.covariance).norm()


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
    assert float(result.std()) > 0.01, "it isn't just the mean"


def test_a_result_keeps_what_was_measured_better_than_the_last_level_is() -> None:
    operator = MatrixOperator((1, 1, 3), torch.diag(torch.tensor([1.0, 0.01, 0.001])))
    values, x = operator.coefficients(torch.full((1, 1, 1, 3), 0.5)), torch.zeros(1, 1, 1, 3)
    condition = Condition(Measured(operator, values, 0.001), RecordedNoise(torch.zeros(0)), lowest=0.2)
    torch.testing.assert_close(condition(x, 0.0, 0), torch.tensor([[[[0.5, 0.5, 0.0]]]]), atol=1e-6, rtol=0)


def test_a_noisy_measurement_pulls_as_its_likelihood_does_below_its_noise() -> None:
    operator = Masking(torch.tensor([[[True, False]]]))
    condition = Condition(Measured(operator, torch.tensor([[1.0]]), 0.5), RecordedNoise(torch.zeros(1, 1, 1, 1, 2)))
    x = torch.tensor([[[[0.2, 0.3]]]])
    given = condition.score(lambda x, sigma: torch.zeros_like(x))
    # (value − x) / (τ² − σ²), on the known pixel alone
    torch.testing.assert_close(given(x, 0.1), torch.tensor([[[[0.8 / (0.25 - 0.01), 0.0]]]]))
    torch.testing.assert_close(given(x, 0.49), torch.tensor([[[[0.8 / 0.49**2, 0.0]]]]))
    torch.testing.assert_close(given(x, 0.6), torch.zeros_like(x))
    assert torch.equal(condition(x, 0.1, 0), x)
    torch.testing.assert_close(condition(x, 0.6, 0), torch.tensor([[[[1.0, 0.3]]]]))

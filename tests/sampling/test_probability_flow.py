"""Densities by the ODE against closed forms, quadrature, and normalization."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ncsnx.errors import DivergedError
from ncsnx.randomness import Purpose, Stream
from ncsnx.samplers import dormand_prince
from ncsnx.sampling.probability_flow import ProbabilityFlow, Probes, log_normal, probe
from tests.samplers.toy import scaled

SHAPE = (1, 2, 4)
D = math.prod(SHAPE)
MEANS = torch.linspace(0.2, 0.8, D, dtype=torch.float64).view(SHAPE)
VARIANCES = torch.logspace(-3, 0, D, dtype=torch.float64).view(SHAPE)
"""Values far below and far above those of pixels."""


def basis(count: int, shape: tuple[int, ...]) -> Probes:
    """Probes that give the exact divergence."""
    dimensions = math.prod(shape)
    return Probes(torch.eye(dimensions, dtype=torch.float64).view(-1, 1, *shape).expand(-1, count, *shape), weight=1.0)


def gaussian_score(x: Tensor, sigma: Tensor) -> Tensor:
    return (MEANS - x) / (VARIANCES + sigma**2)


def gaussian_images(count: int, seed: int = 0) -> Tensor:
    draws = torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return MEANS + VARIANCES.sqrt() * draws


def test_the_density_of_gaussian_data_is_within_half_a_percent() -> None:
    """σ_max is so large that the prior matches the blurred data."""
    x, low, high = gaussian_images(64), 0.01, 50.0
    flow = ProbabilityFlow(scaled(gaussian_score), low, high, tolerance=1e-4).to_prior(x, basis(64, SHAPE))
    found = log_normal(flow.x, 0.5, high) + flow.log_volume
    blurred = VARIANCES + low**2
    exact = -0.5 * ((x - MEANS).square() / blurred + (2 * math.pi * blurred).log()).flatten(1).sum(dim=1)
    assert float(found.mean()) == pytest.approx(float(exact.mean()), rel=0.005)
    assert torch.allclose(found, exact, atol=0.005 * D)


CENTERS = torch.tensor([[-1.0, 0.0], [0.8, 0.6], [0.5, -0.9]], dtype=torch.float64)
SPREADS = torch.tensor([0.2, 0.3, 0.15], dtype=torch.float64)
SHARES = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def mixture_log_density(x: Tensor, sigma: float) -> Tensor:
    """Log density (B,) of a mixture of three Gaussians in the plane at noise level σ, at x (B, 1, 1, 2)."""
    variances = SPREADS**2 + sigma**2
    distances = (x.view(-1, 1, 2) - CENTERS).square().sum(dim=2)
    return torch.logsumexp(SHARES.log() - (2 * math.pi * variances).log() - distances / (2 * variances), dim=1)


def mixture_score(x: Tensor, sigma: Tensor) -> Tensor:
    variances = SPREADS**2 + sigma.view(-1, 1) ** 2
    towards = CENTERS - x.view(-1, 1, 2)
    of_each = torch.softmax(SHARES.log() - variances.log() - towards.square().sum(dim=2) / (2 * variances), dim=1)
    return (of_each[..., None] * towards / variances[..., None]).sum(dim=1).view_as(x)


def test_the_density_of_a_mixture_is_within_half_a_percent_of_quadrature_and_integrates_to_one() -> None:
    axis = torch.linspace(-2.5, 2.5, 51, dtype=torch.float64)
    # half of the smallest standard deviation: the trapezoidal rule is accurate to 1e-8
    cell = float(axis[1] - axis[0]) ** 2
    x = torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2)
    low, high = 0.05, 30.0
    flow = ProbabilityFlow(scaled(mixture_score), low, high, tolerance=1e-4).to_prior(x, basis(len(x), (1, 1, 2)))
    found, exact = log_normal(flow.x, 0.0, high) + flow.log_volume, mixture_log_density(x, low)
    assert float(found.exp().sum()) * cell == pytest.approx(1.0, rel=0.005)
    weights = exact.exp() * cell
    assert float((weights * found).sum()) == pytest.approx(float((weights * exact).sum()), rel=0.005)


def test_estimates_of_the_divergence_are_unbiased_and_as_noisy_as_they_should_be() -> None:
    count = 40_000
    generator = torch.Generator().manual_seed(3)
    jacobian = torch.randn(D, D, generator=generator, dtype=torch.float64) + torch.diag(torch.arange(D).double())
    x = torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64).requires_grad_()
    slope = (x.flatten(1) @ jacobian.T).view_as(x)

    assert basis(count, SHAPE).divergence(slope, x).tolist() == pytest.approx([float(jacobian.trace())] * count)

    slope = (x.flatten(1) @ jacobian.T).view_as(x)
    places = torch.arange(count)
    vectors = torch.stack([probe(Stream(1, Purpose.PROBES), places, SHAPE, number) for number in range(2)])
    estimates = Probes(vectors.double(), weight=0.5).divergence(slope, x)
    symmetric = (jacobian + jacobian.T) / 2
    # for the mean of two probes
    variance = float(2 * (symmetric.square().sum() - symmetric.diagonal().square().sum())) / 2
    # five standard errors of the mean, and of the variance for a kurtosis below 15
    assert abs(float(estimates.mean() - jacobian.trace())) < 5 * math.sqrt(variance / count)
    assert float(estimates.var()) == pytest.approx(variance, rel=5 * math.sqrt(14 / count))


def test_an_image_has_the_steps_that_it_has_alone_and_takes_its_own_number_of_evaluations() -> None:
    images = MEANS.expand(64, *SHAPE).clone()
    images[17] = gaussian_images(1)[0] + 3
    alone = ProbabilityFlow(scaled(gaussian_score), 0.01, 5.0, tolerance=1e-4).to_prior(images[17:18], basis(1, SHAPE))
    among = ProbabilityFlow(scaled(gaussian_score), 0.01, 5.0, tolerance=1e-4).to_prior(images, basis(64, SHAPE))
    assert torch.allclose(among.x[17], alone.x[0], rtol=1e-12, atol=0)
    assert float(among.log_volume[17]) == pytest.approx(float(alone.log_volume[0]), rel=1e-12)
    assert float(among.evaluations[17]) == float(alone.evaluations[0])
    assert len(set(among.evaluations.tolist())) == 2, "the other images are equal, and easier"


def explodes(x: Tensor, sigma: Tensor) -> Tensor:
    """The solution of dx/dσ = x² is infinite at σ_min + 1/x."""
    return -x.square() / sigma


def is_not_finite(x: Tensor, sigma: Tensor) -> Tensor:
    return x * torch.where(sigma > 1, math.nan, -1.0)


@pytest.mark.parametrize(("score", "told"), [(explodes, "cannot be kept|not finite"), (is_not_finite, "not finite")])
def test_a_flow_that_ends_nowhere_is_a_clear_error(score: Callable[[Tensor, Tensor], Tensor], told: str) -> None:
    x = torch.ones(2, *SHAPE, dtype=torch.float64)
    with pytest.raises(DivergedError, match=told):
        ProbabilityFlow(scaled(score), 0.5, 5.0, tolerance=1e-3).to_prior(x, basis(2, SHAPE))


def test_a_flow_that_takes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dormand_prince, "MOST_EVALUATIONS", 20)
    with pytest.raises(DivergedError, match=r"the solver is only at σ = 0\.0.* after 20 evaluations"):
        ProbabilityFlow(scaled(gaussian_score), 0.01, 5.0, tolerance=1e-6).to_prior(gaussian_images(2), basis(2, SHAPE))

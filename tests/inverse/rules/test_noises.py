"""Noise that differs between the values of a measurement: closed forms, and every rule and sampler."""

import math
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.config import AnnealedLangevin, DPMSolverPPSDE, Heun, Sampler
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.inverse import (
    Blurring,
    Fourier,
    LinearMap,
    LinearOperator,
    Masking,
    MatrixOperator,
    NoisyPicture,
    Radon,
    Task,
)
from ncsnx.inverse.operators.pixels import Identity
from ncsnx.inverse.posterior_sampler import at_noise
from ncsnx.inverse.rules.contract import RESTORING, rules
from ncsnx.inverse.rules.likelihood import DataConsistency
from ncsnx.samplers.building import build_sampler, first_sigma
from ncsnx.samplers.state import Score
from tests.inverse.linear_response import Source, law
from tests.inverse.rules.test_exact import gaussian
from tests.samplers.toy import scaled
from tests.spaces import unit_space

SHAPE = (1, 4, 4)
LEVELS = tuple(10.0 * (0.01 / 10.0) ** (number / 119) for number in range(120))
LOW, HIGH = 0.05, 0.3
HALVES = torch.where(torch.arange(16) < 8, LOW, HIGH).double()
SAMPLERS: dict[str, Sequence[Sampler]] = {
    "exact": (RESTORING, Heun(steps=40), DPMSolverPPSDE(steps=40)),
    "cg": (RESTORING, Heun(steps=40), DPMSolverPPSDE(steps=40)),
    "dps": (RESTORING, Heun(steps=40), DPMSolverPPSDE(steps=40)),
    "langevin": (AnnealedLangevin(step_size=0.3 * LEVELS[-1] ** 2, steps_per_level=2),),
}


def images(task: Task, score: Score, sampler: Sampler, count: int, source: Source, start: float = 0.5) -> Tensor:
    """Images that agree with the task's picture, (count, N). start: the middle of the initial noise."""
    rule = task.ruled(unit_space(*task.operator.shape), LEVELS[-1], 0, count)(torch.arange(count))
    if task.rule == "exact":
        rule = attrs.evolve(rule, noise=source("measurement"))
    x = start + first_sigma(sampler, LEVELS) * source("start")(0)
    *_, last = build_sampler(sampler)(scaled(score), x, LEVELS, noise=source("steps"), rule=rule)
    return last.x.double().flatten(1)


def two_values(x: Tensor, sigma: float | Tensor) -> Tensor:
    """The score of independent pixels that are 0.2 or 0.8, each with a deviation of 0.08."""
    level = sigma if isinstance(sigma, Tensor) else torch.tensor(sigma)
    variance = 0.08**2 + level**2
    away = torch.stack([0.2 - x, 0.8 - x])
    shares = (torch.tensor([0.4, 0.6]).log().view(2, 1, 1, 1, 1) - away**2 / (2 * variance)).softmax(dim=0)
    return (shares.to(x) * away).sum(dim=0) / variance


@pytest.mark.parametrize(
    ("rule", "sampler"), [(rule, one) for rule, some in SAMPLERS.items() for one in some], ids=lambda one: str(one)[:20]
)
def test_independent_pixels_are_drawn_as_with_one_noise_each(rule: str, sampler: Sampler) -> None:
    """Pixels of two values each, not Gaussian: with the same draws, a pixel doesn't see the noise of the others."""

    def source(name: str):  # type: ignore[no-untyped-def]
        generator = torch.Generator().manual_seed(sum(name.encode()))
        return lambda k: torch.randn(50, *SHAPE, generator=generator).double()

    def drawn(noise: float | Tensor) -> Tensor:
        y = torch.linspace(0.1, 0.9, 16).double().view(1, 1, 4, 4)
        task = Task.of_measurement(Identity(SHAPE), y, noise=noise, rule=rule)
        return images(task, two_values, sampler, 50, source)

    low, high, both = (drawn(noise) for noise in (LOW, HIGH, HALVES.view(1, *SHAPE)))
    torch.testing.assert_close(both, torch.where(torch.arange(16) < 8, low, high), atol=2e-3, rtol=0)
    assert float((low - high).abs().mean()) > 0.01


def judged(task: Task, rule: str, sampler: Sampler, matrix: Tensor, y: Tensor) -> tuple[float, Tensor]:
    """Error of the mean, as a fraction of the way from the data's to the posterior's, and the variance along what was
    measured, as multiples of the posterior's."""
    mean, prior = gaussian(task.operator.shape)
    variances, axes = torch.linalg.eigh(prior)

    def score(x: Tensor, sigma: float | Tensor) -> Tensor:
        level = sigma.view(-1, 1) if isinstance(sigma, Tensor) else sigma
        along = (x.flatten(1) - mean.to(x)) @ axes.to(x)
        return -((along / (variances.to(x) + level**2)) @ axes.to(x).T).view_as(x)

    noise = task.noise if isinstance(task.noise, Tensor) else torch.full_like(y, task.noise)
    weighted = matrix.T / noise.flatten() ** 2
    covariance = torch.linalg.inv(torch.linalg.inv(prior) + weighted @ matrix)
    right = mean + covariance @ weighted @ (y.flatten() - matrix @ mean)
    task = attrs.evolve(task, rule=rule)
    found, spread = law(lambda count, source: images(task, score, sampler, count, source), task.operator.shape)
    error = (found - right).norm() / (mean - right).norm()
    measured = torch.linalg.qr(matrix.T)[0][:, : len(matrix)]
    return float(error), (measured.T @ spread @ measured).diagonal() / (measured.T @ covariance @ measured).diagonal()


@pytest.mark.parametrize("rule", ["exact", "cg"])
def test_a_gaussian_of_which_half_is_noisier_is_drawn_as_near_as_with_one_noise(rule: str) -> None:
    """Pixels that depend on one another, so that the better half says something of the other."""
    truth = gaussian(SHAPE)[0] + 0.1 * torch.randn(16, generator=torch.Generator().manual_seed(2)).double()
    found = []
    for noise in (LOW, HIGH, HALVES.view(1, *SHAPE)):
        task = Task.of_measurement(Identity(SHAPE), truth.view(1, *SHAPE), noise=noise)
        sampler = at_noise(attrs.evolve(RESTORING, steps=60), task.least_noise)
        found.append(judged(task, rule, sampler, torch.eye(16).double(), truth))
    (_, low), (_, high), (error, ratio) = found
    assert error < 0.02
    assert float(ratio.mean()) == pytest.approx(float((low + high).mean() / 2), abs=0.15)


def counts_of(matrix: Tensor, truth: Tensor, sent: float) -> tuple[Tensor, Tensor]:
    """Line integrals by counted photons, and their noise: −log(counts / sent), 1/√counts."""
    expected = sent * torch.exp(-matrix @ truth)
    counts = torch.poisson(expected, generator=torch.Generator().manual_seed(0)).clamp(min=1)
    return -torch.log(counts / sent), counts.rsqrt()


def test_a_tomogram_of_counts_is_drawn_from_its_posterior() -> None:
    radon, mean = Radon(SHAPE, [0.0, 45.0, 90.0, 135.0]), gaussian(SHAPE)[0]
    matrix = radon.apply(torch.eye(16).double().view(16, *SHAPE)).flatten(1).T
    y, noise = counts_of(matrix, mean, sent=300.0)
    shape = (1, *radon.measured_shape)
    task = Task.of_measurement(radon, y.view(shape), noise=noise.view(shape))
    assert float(noise.max() / noise.min()) > 1.5
    assert task.rule == "cg"
    sampler = at_noise(attrs.evolve(RESTORING, steps=60), task.sigma(unit_space(*SHAPE)))
    error, ratios = judged(task, "cg", sampler, matrix, y)
    assert error < 0.09
    assert 0.7 < float(ratios.mean()) < 1.3


def test_an_operator_that_mixes_values_is_taken_as_the_map_to_them() -> None:
    matrix = torch.randn(5, 16, generator=torch.Generator().manual_seed(1)).double()
    noise = torch.linspace(0.1, 0.5, 5)
    for operator, y, each in (
        (MatrixOperator(SHAPE, matrix), torch.ones(2, 5), noise),
        (Blurring(SHAPE, 0.8), torch.ones(2, *SHAPE), torch.rand(SHAPE) + 0.1),
    ):
        task = Task.of_measurement(operator, y, noise=each)
        assert task.rule == "cg"
        task.operator.check()
        x = torch.rand(1, *SHAPE).double()
        mixed = operator.of_measurement(task.operator.apply(x))
        torch.testing.assert_close(mixed, operator.apply(x), atol=1e-6, rtol=1e-6)
        with pytest.raises(UsageError, match="whose values have a noise of their own; expected one of auto, cg"):
            attrs.evolve(task, rule="exact")


def test_the_two_looks_at_a_frequency_are_weighted_by_their_noise() -> None:
    """A real image's frequency and its mirror image with noise of ½ and 1: the mean has noise of 1/√5 in each part."""
    mask, noise = torch.zeros(4, 4, dtype=torch.bool), torch.ones(1, 4, 4).double()
    mask[0, 1] = mask[0, 3] = True
    noise[0, 0, 1] = 0.5
    operator = Fourier((1, 4, 4), mask)
    torch.testing.assert_close(operator.of_noise(noise), torch.full((1, 2), math.sqrt(2 / 5)).double())
    spectrum = torch.zeros(1, 4, 4, dtype=torch.complex128)
    spectrum[0, 0, 1], spectrum[0, 0, 3] = 5.0, 10.0
    torch.testing.assert_close(operator.of_spectrum(spectrum, noise), torch.full((1, 2), 6.0).double())
    same = torch.full((1, 4, 4), 0.3).double()
    torch.testing.assert_close(operator.of_noise(same), torch.full((1, 2), 0.3).double())
    torch.testing.assert_close(operator.of_spectrum(spectrum, same), operator.of_spectrum(spectrum))


def test_each_picture_and_each_part_of_a_batch_keeps_its_noise() -> None:
    noise = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0)).double() + 0.1
    task = Task.of_measurement(Identity(SHAPE), torch.rand(2, *SHAPE), noise=noise)
    x = torch.rand(4, *SHAPE)
    for name in ("cg", "langevin", "dps"):
        made = attrs.evolve(task, rule=name).ruled(unit_space(*SHAPE), 0.01, 0, 2)(torch.arange(4))
        _, whole = made.scored(lambda x, sigma: -x, x, 0.5)
        _, part = made.of(torch.tensor([3, 1])).scored(lambda x, sigma: -x, x[[3, 1]], 0.5)
        torch.testing.assert_close(part, whole[[3, 1]])
    assert torch.equal(task.of(1).noise, noise[1:].flatten(1))
    assert task.protocol["noise"]["largest"] == float(noise.max())
    changed = attrs.evolve(task, noise=2 * task.noise)
    assert changed.protocol["noise"] != task.protocol["noise"]


def test_misfits_are_told_in_the_noise_of_each_value() -> None:
    task = Task.of_measurement(Identity(SHAPE), torch.zeros(1, *SHAPE), noise=HALVES.view(SHAPE))
    x = torch.zeros(1, *SHAPE)
    x[0, 0, 0, 0], x[0, 0, 3, 3] = 0.1, 0.3
    largest, in_noise = task.misfits(x)
    assert largest == pytest.approx(0.3)
    assert in_noise == pytest.approx(2.0)


@pytest.mark.parametrize("wrong", [torch.ones(3, 4), torch.zeros(SHAPE), torch.full(SHAPE, math.nan)])
def test_noise_of_another_shape_or_not_above_0_is_refused(wrong: Tensor) -> None:
    with pytest.raises(
        NcsnxError, match=r"expected a (number as noise, or one of the measurement's shape|noise above 0 for each)"
    ):
        Task.of_measurement(Identity(SHAPE), torch.zeros(1, *SHAPE), noise=wrong)


def test_every_rule_says_which_maps_it_fits() -> None:
    kinds: dict[str, type] = {"exact": LinearOperator, "reverse": NoisyPicture, "cg": LinearMap}
    for name, kind in kinds.items():
        assert rules()[name].fits is kind
    with pytest.raises(UsageError, match="reverse does not fit a noisy picture whose values have a noise of their own"):
        Task.of_measurement(Identity(SHAPE), torch.zeros(1, *SHAPE), noise=HALVES.view(SHAPE), rule="reverse")


@pytest.mark.parametrize("ratio", [6.0, 100.0, 1000.0])
def test_conjugate_gradients_solve_for_values_whose_noises_differ_much(ratio: float) -> None:
    """Of independent pixels the mean moves by the share r²/(r² + γ²) of the way to what was measured."""
    noise = torch.logspace(-math.log10(ratio), 0, 16).view(1, 16).double() / 2
    cg = DataConsistency(map=Masking(torch.ones(SHAPE, dtype=torch.bool)), y=torch.ones(1, 16), noise=noise, norm=1.0)
    for variance in (0.01, 0.2):
        moved = cg._corrected(torch.zeros(1, *SHAPE), torch.full((1, 1, 1, 1), variance)).flatten()
        torch.testing.assert_close(moved.double(), variance / (variance + noise[0] ** 2), atol=1e-4, rtol=0)


def test_a_tomogram_whose_noises_differ_much_is_solved_to_a_hundredth() -> None:
    radon = Radon(SHAPE, [0.0, 45.0, 90.0, 135.0])
    matrix = radon.apply(torch.eye(16).double().view(16, *SHAPE)).flatten(1).T
    y = matrix @ torch.rand(16, generator=torch.Generator().manual_seed(3)).double()
    noise = 0.01 * 300 ** torch.rand(len(y), generator=torch.Generator().manual_seed(4)).double()
    shape, variance = (1, *radon.measured_shape), 0.2
    cg = DataConsistency(map=radon, y=y.view(shape).float(), noise=noise.view(shape).float(), norm=radon.norm)
    right = variance * matrix.T @ torch.linalg.solve(torch.diag(noise**2) + variance * matrix @ matrix.T, y)
    moved = cg._corrected(torch.zeros(1, *SHAPE), torch.full((1, 1, 1, 1), variance)).flatten()
    assert float((moved - right).norm() / right.norm()) < 0.01


@pytest.mark.parametrize("noise", ["much", None, torch.ones(2, dtype=torch.complex64)])
def test_noise_that_is_no_real_number_is_refused(noise: Any) -> None:
    with pytest.raises(NcsnxError, match="expected a number or an array of real numbers as noise, found "):
        Task.of_measurement(Identity(SHAPE), torch.zeros(1, *SHAPE), noise=noise)

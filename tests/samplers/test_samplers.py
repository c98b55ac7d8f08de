"""Single samplers: published numbers, limits that equal other samplers, closed forms, steps, and errors."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.config import (
    AnnealedLangevin,
    ConsistentAnnealed,
    DPMSolverPP,
    DPMSolverPPSDE,
    EulerAncestral,
    Exponential,
    Heun,
    Karras,
    PredictorCorrector,
    ProbabilityFlowODE,
    Sampler,
    TrainedLevels,
)
from ncsnx.errors import NcsnxError
from ncsnx.samplers.building import build_sampler, evaluations
from ncsnx.samplers.grids import grid_of
from ncsnx.samplers.state import State
from ncsnx.sampling.generation import SeededNoise, initial_normal, interpolated_noise, sampler_draws
from ncsnx.sampling.probability_flow import ProbabilityFlow as FlowODE
from ncsnx.sampling.probability_flow import Probes
from ncsnx.schedules.levels import sigmas as levels_of
from tests.config.examples import minimal
from tests.golden_networks import Golden, load_golden, relative_error
from tests.samplers.toy import SHAPE, SIGMAS, Mixture, RecordedNoise, gaussian_score, scaled
from tests.spaces import space_of

mixture_score = Mixture((1 / 3, 2 / 3), (0.2, 0.8), (0.05, 0.1)).score


def run(
    config: Sampler, indices: Tensor, *, sigmas: Sequence[float] = SIGMAS, seed: int = 5, shape: tuple[int, ...] = SHAPE
) -> list[State]:
    x = initial_normal(seed, indices, shape, mean=0.5, sigma=sigmas[0])
    noise = SeededNoise(seed=seed, indices=indices, shape=shape)
    return list(build_sampler(config)(scaled(gaussian_score), x, sigmas, noise=noise))


def test_the_flow_leads_from_images_to_noise_and_back_to_the_images() -> None:
    """The flow of the likelihood leads to σ_max, and the sampler back, with the exact score of a mixture."""
    tolerance, levels = 1e-6, (5.0, 0.5, 0.05)
    generator = torch.Generator().manual_seed(4)
    images = 0.2 + 0.6 * torch.rand(20, *SHAPE, generator=generator, dtype=torch.float64)
    probes = Probes(torch.ones(1, *images.shape, dtype=torch.float64), weight=1.0)
    flow = FlowODE(scaled(mixture_score), levels[-1], levels[0], tolerance=tolerance).to_prior(images, probes)
    assert float(flow.x.std()) > 1, "noise at σ_max"
    config = ProbabilityFlowODE(steps=3, tolerance=tolerance, grid=TrainedLevels())
    states = list(build_sampler(config)(scaled(mixture_score), flow.x, levels, noise=RecordedNoise(torch.zeros(0))))
    returned = next(state.x for state in states if state.sigma == levels[-1])
    # errors of some 50 steps with varying signs; the way back multiplies each by the ratio of the densities at its two
    # ends, at most 10 between the modes
    torch.testing.assert_close(returned, images, rtol=0, atol=100 * tolerance)


def test_consistent_annealing_keeps_the_noise_of_each_level_around_a_single_point() -> None:
    count, true = 400, torch.full(SHAPE, 0.3)

    def perfect(x: Tensor, sigma: float) -> Tensor:
        return -(x - true) / sigma**2

    indices = torch.arange(count)
    x = true + SIGMAS[0] * SeededNoise(2, indices, SHAPE)(99)
    for config in (ConsistentAnnealed(steps=5, eta=0.7, grid=TrainedLevels()), ConsistentAnnealed(steps=20, eta=0.3)):
        states = list(build_sampler(config)(scaled(perfect), x, SIGMAS, noise=SeededNoise(2, indices, SHAPE)))
        for state in states[:-1]:
            variance = float(((state.x - true) ** 2).double().mean())
            # the relative standard error of the variance of n normal values is √(2/n)
            assert variance == pytest.approx(state.sigma**2, rel=5 * math.sqrt(2 / state.x.numel()))


def test_annealed_langevin_is_the_corrector_of_its_own_step_without_a_predictor() -> None:
    step_size, steps_per_level = 1e-3, 4
    published = AnnealedLangevin(step_size=step_size, steps_per_level=steps_per_level)
    snr = math.sqrt(step_size / 2) / SIGMAS[-1]
    same = PredictorCorrector(
        steps=len(SIGMAS),
        grid=TrainedLevels(),
        predictor="none",
        corrector="ald",
        corrector_steps=steps_per_level,
        snr=snr,
    )
    first, second = (run(config, torch.arange(4)) for config in (published, same))
    assert len(first) == len(second)
    for ours, theirs in zip(first, second, strict=True):
        torch.testing.assert_close(ours.x, theirs.x, rtol=1e-5, atol=1e-6)


def test_consistent_annealing_of_second_order_is_the_sde_solver_with_nothing_but_fresh_noise() -> None:
    consistent, limit = ConsistentAnnealed(steps=8), DPMSolverPPSDE(steps=8, eta=1e3)
    first, second = (run(config, torch.arange(4))[-1].x for config in (consistent, limit))
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)


def test_grids_go_from_the_first_to_the_last_level_as_they_say() -> None:
    assert grid_of(TrainedLevels(), 3, SIGMAS) == [1.0, 0.25, 0.05]
    assert grid_of(TrainedLevels(), 5, SIGMAS) == list(SIGMAS)
    exponential = grid_of(Exponential(), 9, SIGMAS)
    assert [exponential[0], exponential[-1]] == pytest.approx([1.0, 0.05])
    assert [a / b for a, b in pairwise(exponential)] == pytest.approx([20 ** (1 / 8)] * 8)
    karras = grid_of(Karras(rho=3, sigma_max=8.0, sigma_min=1.0), 3, SIGMAS)
    assert karras == pytest.approx([8.0, 1.5**3, 1.0])
    assert grid_of(Karras(rho=1), 3, SIGMAS) == pytest.approx([1.0, 0.525, 0.05])
    for config in (TrainedLevels(), Exponential(), Karras()):
        assert grid_of(config, 1, SIGMAS) == pytest.approx([1.0])


Z = torch.linspace(-1, 1, 16).view(1, *SHAPE)


def first_states(config: Sampler) -> list[State]:
    x = torch.full((1, *SHAPE), 0.7)
    return list(build_sampler(config)(scaled(gaussian_score), x, SIGMAS, noise=lambda k: (k + 1) * Z))


def test_draws_are_numbered_by_their_use_also_where_churn_begins_late() -> None:
    first = first_states(Heun(steps=5, churn=1.0, churn_max=0.6, grid=TrainedLevels()))[2]
    step = Heun(steps=5, churn=0.0, grid=TrainedLevels())
    before = first_states(step)[2]
    torch.testing.assert_close(first.x, before.x + math.sqrt(0.6**2 - 0.5**2) * Z)


def test_churn_raises_the_noise_by_its_share_within_its_bounds() -> None:
    levels = TrainedLevels()
    for churn, share in ((1.0, 0.2), (100.0, math.sqrt(2) - 1)):
        state = first_states(Heun(steps=5, churn=churn, grid=levels, noise_scale=1.5))[0]
        assert state.sigma == pytest.approx(1 + share)
        torch.testing.assert_close(state.x, 0.7 + 1.5 * math.sqrt((1 + share) ** 2 - 1) * Z)
    bounded = first_states(Heun(steps=5, churn=1.0, churn_min=0.2, churn_max=0.6, grid=levels))
    assert [state.sigma for state in bounded[::2]] == pytest.approx([1.0, 0.6, 0.3, 0.1, 0.05])


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_an_ancestral_step_replaces_the_share_eta_of_the_noise(eta: float) -> None:
    first, second, *_ = first_states(EulerAncestral(steps=5, eta=eta, grid=TrainedLevels()))
    up = eta * 0.5 * 0.75**0.5  # from σ = 1 to 0.5
    down = (0.5**2 - up**2) ** 0.5
    torch.testing.assert_close(second.x, first.denoised + down * (first.x - first.denoised) + up * Z)


@pytest.mark.parametrize(("predictor", "added"), [("reverse-diffusion", 0.75**0.5), ("ancestral", 0.5 * 0.75**0.5)])
def test_a_predictor_takes_the_difference_of_the_variances_and_adds_its_noise(
    predictor: Literal["reverse-diffusion", "ancestral"], added: float
) -> None:
    config = PredictorCorrector(steps=5, predictor=predictor, corrector="ald", snr=0.2, grid=TrainedLevels())
    start, corrected, predicted, *_ = first_states(config)
    step = 2 * 0.2**2  # at σ = 1
    torch.testing.assert_close(corrected.x, start.x + step * gaussian_score(start.x, 1.0) + math.sqrt(2 * step) * Z)
    torch.testing.assert_close(predicted.x, corrected.x + 0.75 * gaussian_score(corrected.x, 1.0) + added * 2 * Z)


@pytest.mark.parametrize(
    ("fields", "middle"),
    [
        ({"mean": (0.1,)}, 0.1),
        ({"mean_image": " ".join(["0.2"] * 64)}, 0.2),
        ({}, 0.5),
        ({"transform": "rescaled"}, 0.0),
        ({"transform": "logit"}, 0.0),
    ],
)
def test_images_start_from_noise_around_the_recorded_mean_or_the_middle(fields: dict[str, Any], middle: float) -> None:
    measured = {name: value for name, value in fields.items() if name != "transform"}
    data = attrs.evolve(minimal().data, transform=fields.get("transform", "none"))
    space = attrs.evolve(space_of(data), **measured)
    experiment = attrs.evolve(minimal(), data=data, sampler=ConsistentAnnealed(grid=Karras(sigma_max=2.0)))
    draws = sampler_draws(experiment.sampler, levels_of(experiment.schedule), space, 3, None)
    x = draws.initial(torch.arange(2_000)).double()
    assert float(x.mean()) == pytest.approx(middle, abs=5 * 2 / math.sqrt(x.numel()))
    assert float(x.std()) == pytest.approx(2.0, rel=5 / math.sqrt(2 * x.numel()))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (
            ConsistentAnnealed(steps=5, eta=0.2, grid=TrainedLevels()),
            r"eta=0\.2 at 5 levels leaves more noise than the next level has; use .* at least: sampler\.eta=0\.6$",
        ),
        (DPMSolverPP(steps=6, grid=TrainedLevels()), "steps=6 is more than the 5 trained levels"),
        (DPMSolverPP(grid=Karras(sigma_min=2.0)), "goes from σ = 1 down to 2"),
    ],
)
def test_what_cannot_be_sampled_is_refused_with_what_to_type(config: Sampler, told: str) -> None:
    with pytest.raises(NcsnxError, match=told):
        run(config, torch.arange(1))


TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load_golden("ncsnv2")


def test_the_trajectory_is_the_published_one(golden: Golden) -> None:
    tensors, network = golden.tensors, golden.network
    sampler = build_sampler(AnnealedLangevin(step_size=5e-6, steps_per_level=2, denoise=True))
    noise = RecordedNoise(tensors["ald.noise"])
    trajectory = list(sampler(network.scaled_score, tensors["ald.init"], network.noise_levels, noise=noise))
    assert relative_error(trajectory[2].x, tensors["ald.after_level_0"]) < TOLERANCE
    assert relative_error(trajectory[-2].x, tensors["ald.before_denoise"]) < TOLERANCE
    assert relative_error(trajectory[-1].x, tensors["ald.final"]) < TOLERANCE


def test_an_interpolation_is_the_published_one(golden: Golden) -> None:
    tensors, network = golden.tensors, golden.network
    noise = interpolated_noise(
        RecordedNoise(tensors["interp.noise_p"]), RecordedNoise(tensors["interp.noise_q"]), columns=3
    )
    sampler = build_sampler(AnnealedLangevin(step_size=5e-6, steps_per_level=2, denoise=False))
    x = tensors["ald.init"].repeat_interleave(3, dim=0)
    *_, last = sampler(network.scaled_score, x, network.noise_levels, noise=noise)
    assert relative_error(last.x, tensors["interp.final"]) < TOLERANCE


def test_a_sampler_that_nobody_registered_says_what_to_do() -> None:
    class Unknown(Sampler):
        pass

    for use in (build_sampler, lambda config: evaluations(config, 10)):
        with pytest.raises(
            NcsnxError, match=r"no sampler is registered for Unknown: .*@ncsnx\.samplers\.sampler\(Unknown\)"
        ):
            use(Unknown())

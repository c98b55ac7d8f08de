import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from ncsnx.config import AnnealedLangevin, Sampler
from ncsnx.errors import NcsnxError
from ncsnx.samplers.building import build_sampler, evaluations
from ncsnx.samplers.state import State
from ncsnx.sampling.draws import InterpolatedNoise, SeededNoise, initial_uniform, repeat_rows
from tests.golden_networks import Golden, load_golden, relative_error
from tests.samplers.recorded_noise import RecordedNoise
from tests.samplers.toy import DEVIATION, MEAN, SHAPE, SIGMAS, gaussian_score, unchanged

TOLERANCE = 1e-5
GOLDEN_STEPS = AnnealedLangevin(step_size=5e-6, steps_per_level=2, denoise=True)


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load_golden("ncsnv2")


@pytest.fixture(scope="module")
def trajectory(golden: Golden) -> list[State]:
    tensors, network = golden.tensors, golden.network
    sampler = build_sampler(GOLDEN_STEPS)
    noise = RecordedNoise(tensors["ald.noise"])
    return list(sampler(network.score, tensors["ald.init"], network.noise_levels, noise=noise))


def test_the_trajectory_is_the_published_one(golden: Golden, trajectory: Sequence[State]) -> None:
    tensors = golden.tensors
    assert relative_error(trajectory[2].x, tensors["ald.after_level_0"]) < TOLERANCE
    assert relative_error(trajectory[-2].x, tensors["ald.before_denoise"]) < TOLERANCE
    assert relative_error(trajectory[-1].x, tensors["ald.final"]) < TOLERANCE


def test_the_denoising_step_is_the_published_one(golden: Golden, trajectory: Sequence[State]) -> None:
    ours = trajectory[-1].x - trajectory[-2].x
    expected = golden.tensors["ald.final"] - golden.tensors["ald.before_denoise"]
    # x is large compared with the step, and each of the four x was rounded to half a unit in the last place
    rounding = 4 * torch.finfo(torch.float32).eps / 2 * float(golden.tensors["ald.final"].abs().max())
    assert float((ours - expected).abs().max()) < TOLERANCE * float(expected.abs().max()) + rounding


def test_an_interpolation_is_the_published_one(golden: Golden) -> None:
    tensors, network = golden.tensors, golden.network
    noise = InterpolatedNoise(
        RecordedNoise(tensors["interp.noise_p"]), RecordedNoise(tensors["interp.noise_q"]), columns=3
    )
    sampler = build_sampler(AnnealedLangevin(step_size=5e-6, steps_per_level=2, denoise=False))
    *_, last = sampler(network.score, repeat_rows(tensors["ald.init"], 3), network.noise_levels, noise=noise)
    assert relative_error(last.x, tensors["interp.final"]) < TOLERANCE


def test_every_state_holds_what_follows_from_the_score_at_it(golden: Golden, trajectory: list[State]) -> None:
    assert [state.step for state in trajectory] == list(range(22))
    assert [state.evaluations for state in trajectory] == [*range(1, 22), 21]
    levels = [sigma for sigma in golden.network.noise_levels for _ in range(2)]
    assert [state.sigma for state in trajectory] == [*levels, golden.network.noise_levels[-1], 0.0]
    with torch.no_grad():
        for state in trajectory[:-1]:
            score = golden.network.score(state.x, state.sigma)
            torch.testing.assert_close(state.denoised, state.x + state.sigma**2 * score)
    assert trajectory[-1].denoised is trajectory[-1].x
    assert torch.equal(trajectory[-1].x, trajectory[-2].denoised)


def test_without_denoising_the_result_still_holds_the_last_noise() -> None:
    sampler = build_sampler(AnnealedLangevin(step_size=1e-3, steps_per_level=2, denoise=False))
    indices = torch.arange(3)
    *_, last = sampler(
        gaussian_score,
        torch.zeros(3, *SHAPE),
        SIGMAS,
        noise=SeededNoise(seed=0, indices=indices, shape=SHAPE),
    )
    assert (last.step, last.evaluations, last.sigma) == (10, 10, SIGMAS[-1])
    assert last.denoised is last.x


@pytest.mark.parametrize(
    ("levels", "steps_per_level", "denoise", "published"),
    [
        (232, 5, True, 1161),  # CIFAR-10
        (500, 5, True, 2501),  # CelebA
        (788, 4, True, 3153),  # LSUN church
        (1086, 3, True, 3259),  # LSUN bedroom, tower
        (2311, 3, True, 6934),  # FFHQ
        (10, 100, False, 1000),  # the original NCSN on CIFAR-10
    ],
)
def test_evaluations_are_the_published_number_and_no_more(
    levels: int, steps_per_level: int, denoise: bool, published: int
) -> None:
    config = AnnealedLangevin(step_size=1e-6, steps_per_level=steps_per_level, denoise=denoise)
    calls = 0

    def counting_score(x: Tensor, sigma: float) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.zeros_like(x)

    x = torch.zeros(1, 1, 1, 1)
    *_, last = build_sampler(config)(counting_score, x, [0.01] * levels, noise=lambda k: x)
    assert calls == last.evaluations == evaluations(config, levels) == published


def test_gaussian_data_comes_out_with_its_mean_and_variance() -> None:
    step_size, steps_per_level, count = 2e-4, 200, 500
    indices = torch.arange(count)
    *_, last = build_sampler(AnnealedLangevin(step_size=step_size, steps_per_level=steps_per_level))(
        gaussian_score,
        initial_uniform(7, indices, SHAPE, unchanged),
        SIGMAS,
        noise=SeededNoise(seed=7, indices=indices, shape=SHAPE),
    )
    mean, variance = _exact_moments(step_size, steps_per_level)
    n = last.x.numel()
    # five standard errors of the mean and of the variance of n independent normal values
    assert abs(float(last.x.double().mean()) - mean) < 5 * math.sqrt(variance / n)
    assert abs(float(last.x.double().var()) - variance) < 5 * variance * math.sqrt(2 / n)
    # the algorithm itself is near the data: the mean to 1 %, the variance, which denoising reduces, to 10 %
    assert mean == pytest.approx(MEAN, rel=0.01)
    assert variance == pytest.approx(DEVIATION**2, rel=0.1)


def _exact_moments(step_size: float, steps_per_level: int) -> tuple[float, float]:
    """Mean and variance of the algorithm's result: for the score of a Gaussian each step is linear in x."""
    mean, variance = 1 / 2, 1 / 12
    for sigma in SIGMAS:
        alpha = step_size * (sigma / SIGMAS[-1]) ** 2
        pull = alpha / (DEVIATION**2 + sigma**2)
        for _ in range(steps_per_level):
            mean += pull * (MEAN - mean)
            variance = (1 - pull) ** 2 * variance + 2 * alpha
    pull = SIGMAS[-1] ** 2 / (DEVIATION**2 + SIGMAS[-1] ** 2)
    return mean + pull * (MEAN - mean), (1 - pull) ** 2 * variance


def test_no_graph_is_built_for_a_score_with_weights() -> None:
    weight = torch.nn.Parameter(torch.ones(()))
    x = torch.zeros(1, *SHAPE)
    sampler = build_sampler(AnnealedLangevin(step_size=1e-5, steps_per_level=1))
    states = sampler(lambda x, sigma: -weight * x, x, SIGMAS, noise=lambda k: x)
    for state in states:
        assert not state.x.requires_grad
        assert torch.is_grad_enabled()  # the consumer's own mode is unchanged


def test_a_sampler_that_nobody_registered_says_what_to_do() -> None:
    class Unknown(Sampler):
        pass

    for use in (build_sampler, lambda config: evaluations(config, 10)):
        with pytest.raises(
            NcsnxError, match=r"no sampler is registered for Unknown: .*@ncsnx\.samplers\.sampler\(Unknown\)"
        ):
            use(Unknown())

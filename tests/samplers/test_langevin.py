from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from ncsnx.config import AnnealedLangevin, Sampler
from ncsnx.errors import NcsnxError
from ncsnx.samplers.building import build_sampler, evaluations
from ncsnx.samplers.state import State
from ncsnx.sampling.draws import InterpolatedNoise, repeat_rows
from tests.golden_networks import Golden, load_golden, relative_error
from tests.samplers.recorded_noise import RecordedNoise
from tests.samplers.toy import SHAPE, SIGMAS

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


def test_an_interpolation_is_the_published_one(golden: Golden) -> None:
    tensors, network = golden.tensors, golden.network
    noise = InterpolatedNoise(
        RecordedNoise(tensors["interp.noise_p"]), RecordedNoise(tensors["interp.noise_q"]), columns=3
    )
    sampler = build_sampler(AnnealedLangevin(step_size=5e-6, steps_per_level=2, denoise=False))
    *_, last = sampler(network.score, repeat_rows(tensors["ald.init"], 3), network.noise_levels, noise=noise)
    assert relative_error(last.x, tensors["interp.final"]) < TOLERANCE


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

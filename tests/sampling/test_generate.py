"""Generating images: batches, stops, interpolations, frames."""

import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from ncsnx.config import AnnealedLangevin
from ncsnx.errors import NcsnxError, Stopped
from ncsnx.images import to_uint8
from ncsnx.samplers.building import build_sampler, state_count
from ncsnx.samplers.state import Score, State
from ncsnx.sampling.generation import Draws, frame_of, frame_steps, generate, interpolated, seeded_draws
from ncsnx.sampling.request import images_at_once
from tests.golden_networks import load_golden
from tests.samplers.toy import CPU, SHAPE, SIGMAS, clamped, gaussian_score, scaled
from tests.spaces import unit_space

SAMPLER = build_sampler(AnnealedLangevin(step_size=2e-4, steps_per_level=3))
PLAIN = seeded_draws(0, unit_space(*SHAPE))


def batches(
    indices: Sequence[int], batch_size: int, draws: Draws = PLAIN, score: Score = gaussian_score, **options: Any
) -> Iterator[tuple[Sequence[int], Tensor]]:
    return generate(SAMPLER, scaled(score), SIGMAS, draws, indices, batch_size=batch_size, device=CPU, **options)


def images(indices: Sequence[int], batch_size: int, draws: Draws = PLAIN) -> Tensor:
    return torch.cat([x for _, x in batches(indices, batch_size, draws)])


def test_a_network_makes_the_same_images_in_any_batch_to_one_gray_level() -> None:
    network = load_golden("ncsnv2").network
    sampler = build_sampler(AnnealedLangevin(step_size=6e-6, steps_per_level=1))
    draws = seeded_draws(0, unit_space(3, 16, 16))

    def made(count: int, batch_size: int) -> Tensor:
        found = generate(
            sampler,
            network.scaled_score,
            network.noise_levels[-2:],
            draws,
            range(count),
            batch_size=batch_size,
            device=CPU,
        )
        return to_uint8(clamped(torch.cat([x for _, x in found]))).int()

    in_one_batch = made(64, 64)
    assert int((made(14, 7) - in_one_batch[:14]).abs().max()) <= 1
    assert int((made(5, 1) - in_one_batch[:5]).abs().max()) <= 1


def test_earlier_states_are_let_go() -> None:
    seen: list[weakref.ref[Tensor]] = []
    most = 0

    def watch(indices: Sequence[int], state: State) -> None:
        nonlocal most
        seen.append(weakref.ref(state.x))
        most = max(most, sum(reference() is not None for reference in seen))

    for _ in batches(range(6), 2, on_state=watch):
        pass
    assert len(seen) == 3 * (len(SIGMAS) * 3 + 2)
    # initial x, last state and result of a batch, and the result of the previous batch, which the caller holds
    assert most <= 4
    assert not any(reference() is not None for reference in seen[:-1])


def test_a_stop_ends_the_sampling_before_the_next_evaluation() -> None:
    evaluated = 0

    def counting_score(x: Tensor, sigma: float) -> Tensor:
        nonlocal evaluated
        evaluated += 1
        return gaussian_score(x, sigma)

    def stop_after_five() -> None:
        if evaluated == 5:
            raise Stopped("stopped")

    with pytest.raises(Stopped):
        list(batches(range(3), 3, score=counting_score, check_stop=stop_after_five))
    assert evaluated == 5


def test_a_diverging_sampler_is_an_error_that_names_the_step() -> None:
    sampler = build_sampler(AnnealedLangevin(step_size=1e9, steps_per_level=20))
    with pytest.raises(NcsnxError, match=r"images 4 to 5 .*sampler\.step_size"):
        list(generate(sampler, scaled(gaussian_score), SIGMAS, PLAIN, [4, 5], batch_size=2, device=CPU))


def test_neither_gradients_nor_the_global_generator_are_touched() -> None:
    weight, before = torch.nn.Parameter(torch.ones(())), torch.get_rng_state()

    def score(x: Tensor, sigma: float) -> Tensor:
        return weight * gaussian_score(x, sigma)

    for _, x in batches(range(2), 1, score=score):
        assert not x.requires_grad
        assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)


def test_an_interpolation_has_whole_rows_in_a_batch() -> None:
    across = interpolated(PLAIN, seeded_draws(1, unit_space(*SHAPE)), columns=3)
    assert [(list(rows), len(x)) for rows, x in batches(range(3), 7, across)] == [([0, 1], 6), ([2], 3)]
    assert [len(x) for _, x in batches(range(2), 1, across)] == [3, 3]


@pytest.mark.parametrize(("size", "images"), [(1, 256), (8, 256), (10, 163), (15, 72), (16, 64), (17, 64), (256, 64)])
def test_the_default_batch_is_larger_for_images_below_16_px(size: int, images: int) -> None:
    assert images_at_once((3, size, size)) == images
    assert images_at_once((3, size, size), 1) == 1
    assert images == 64 or images * size**2 <= 64 * 16**2, "no more memory than 64 images of 16 px take"


def test_frames_are_evenly_spaced_and_end_with_the_result() -> None:
    assert frame_steps(states=1162, frames=5) == (0, 290, 580, 871, 1161)
    assert frame_steps(states=21, frames=2) == (0, 20)
    assert frame_steps(states=21, frames=1) == (20,)
    assert frame_steps(states=21, frames=0) == ()
    assert frame_steps(states=4, frames=100) == (0, 1, 2, 3), "no more than there are states"


def test_the_frames_of_a_batch_are_those_of_the_images_shown() -> None:
    config = AnnealedLangevin(step_size=2e-4, steps_per_level=2)
    steps = frame_steps(state_count(config, len(SIGMAS)), 4)
    recorded = list[Tensor]()

    def record(indices: Sequence[int], state: State) -> None:
        if state.step in steps:
            recorded.append(frame_of(state, indices, 3, clamped))

    draws = seeded_draws(0, unit_space(*SHAPE))
    made = generate(
        build_sampler(config),
        scaled(gaussian_score),
        SIGMAS,
        draws,
        range(5),
        batch_size=2,
        device=CPU,
        on_state=record,
    )
    finals = [x for _, x in made]
    frames = [torch.stack(recorded[place : place + 4]) for place in (0, 4, 8)]
    assert [tuple(batch.shape) for batch in frames] == [(4, 2, *SHAPE), (4, 1, *SHAPE), (4, 0, *SHAPE)]
    assert torch.equal(frames[0][-1], to_uint8(clamped(finals[0])))
    assert torch.equal(frames[0][0], to_uint8(draws.initial(torch.tensor([0, 1]))))

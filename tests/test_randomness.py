import math
import shutil
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ncsnx import randomness
from ncsnx.randomness import Purpose, Stream, philox

DEVICES = [
    "cpu",
    *(["cuda"] if torch.cuda.is_available() else []),
    *(["mps"] if torch.backends.mps.is_available() else []),
]

KNOWN_ANSWERS = [  # counter, key, output: from the test vectors of Random123
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]

PURPOSES = [
    "data_order", "flip", "dequantization", "noise_level", "training_noise", "held_out_noise", "weights",
    "initial_sample", "sampler_noise", "interpolation_noise", "sample_data", "feature_weights", "feature_order",
    "feature_augmentation", "subsets", "crop", "pairs", "probes", "measurement_noise", "simulated_coils",
    "phantoms", "augmentation", "dropout", "class_dropout",
]  # fmt: skip
"""Purposes in the order of their numbers, from 1."""

# of the training noise of seed 1234 in step 7, positions 0, 1 and 2**40 + 5: the first two words and normals of each
WORDS = [[3890057236, 2796555465], [3556020396, 1350011095], [734596785, 1755832181]]
NORMALS = [[-0.2590259, -0.3618642], [-0.2416474, 0.564987], [-1.5791788, 1.0187981]]
FROZEN_POSITIONS = torch.tensor([0, 1, 2**40 + 5])

N = 250_000
SIGMAS = 5  # a true value lies within 5 standard deviations with probability 1 − 6e-7


def stream(purpose: Purpose = Purpose.TRAINING_NOISE, seed: int = 1234) -> Stream:
    return Stream(seed=seed, purpose=purpose)


def reference_philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """The generator of the paper in Python integers."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        low, high = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (high >> 32) ^ c1 ^ k0, high & 0xFFFFFFFF, (low >> 32) ^ c3 ^ k1, low & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_the_generator_gives_the_known_answers(
    counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...], device: str
) -> None:
    c0, c1, c2, c3 = (torch.tensor([word], device=device) for word in counter)
    assert tuple(philox((c0, c1, c2, c3), key)[0].tolist()) == expected
    assert reference_philox(counter, key) == expected


@pytest.mark.parametrize("device", DEVICES)
def test_key_and_counter_are_laid_out_as_documented(device: str) -> None:
    position, step, seed = 2**40 + 5, 77, 2**32 - 1
    words = stream(seed=seed).words(torch.tensor([position], device=device), 10, step)[0].tolist()
    key = (seed, int(Purpose.TRAINING_NOISE))
    low, high = position % 2**32, position // 2**32
    assert words == [reference_philox((e // 4, low, high, step), key)[e % 4] for e in range(10)]


@pytest.mark.parametrize("device", DEVICES)
def test_the_first_values_are_frozen(device: str) -> None:
    positions, draws = FROZEN_POSITIONS.to(device), stream()
    assert draws.words(positions, 2, step=7).tolist() == WORDS
    assert draws.uniform(positions, (2,), step=7).tolist() == [[(w >> 8) / 2**24 for w in row] for row in WORDS]
    assert draws.integers(positions, 1000, (2,), step=7).tolist() == [[w * 1000 >> 32 for w in row] for row in WORDS]
    assert torch.allclose(draws.normal(positions, (2,), step=7).cpu(), torch.tensor(NORMALS), rtol=0, atol=1e-6)


def test_masks_are_products_of_a_word_of_the_channel_and_one_of_the_place() -> None:
    draws, positions = stream(Purpose.DROPOUT), torch.tensor([5, 2**40])
    words = (draws.words(positions, 3 + 8 + 2 + 1) - 2**31) | 1
    for mask, channels, places in zip(
        draws.masks(positions, 0.3, [(3, 2, 4), (2, 1, 1)], torch.channels_last),
        (words[:, :3], words[:, 11:13]),
        (words[:, 3:11], words[:, 13:]),
        strict=True,
    ):
        products = [
            [[(one * other + 2**31) % 2**32 for other in row] for one in column]
            for column, row in zip(channels.tolist(), places.tolist(), strict=True)
        ]
        assert torch.equal(mask.flatten(2), torch.tensor(products) < 0.3 * 2**32)
    assert all(mask.all() for mask in draws.masks(positions, 1 - 1e-12, [(3, 2, 4)]))


@pytest.mark.parametrize("chance", [0.5, 0.87])
def test_values_of_masks_have_their_chance_and_are_independent(chance: float) -> None:
    masks = stream(Purpose.DROPOUT).masks(torch.arange(N // 128), chance, [(16, 2, 4), (16, 2, 4)])
    z = (torch.stack([mask.flatten(2) for mask in masks], dim=1).double() - chance) / math.sqrt(chance * (1 - chance))
    products = {
        "chance": z,
        "channels": z[:, :, ::2] * z[:, :, 1::2],
        "places": z[..., ::2] * z[..., 1::2],
        "blocks": z[:, 0] * z[:, 1],
        "images": z[::2][: len(z) // 2] * z[1::2],
        "channels and places": z[:, :, ::2, ::2] * z[:, :, 1::2, 1::2],
        "rectangles": z[:, :, ::2, ::2] * z[:, :, 1::2, ::2] * z[:, :, ::2, 1::2] * z[:, :, 1::2, 1::2],
    }
    for name, product in products.items():
        # mean 0 and variance 1, if independent
        assert abs(product.mean()) < SIGMAS / math.sqrt(product.numel()), name


def test_the_numbers_of_the_purposes_are_frozen() -> None:
    assert {purpose.name.lower(): int(purpose) for purpose in Purpose} == {
        name: number for number, name in enumerate(PURPOSES, start=1)
    }


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [1, 3, 7, 64, 99])
def test_any_split_and_order_of_a_batch_gives_the_same_bits(size: int, device: str) -> None:
    positions = torch.arange(100, device=device) * 12_345_678_901
    shape = (1, 3, 7)
    draws: list[Callable[[Tensor], Tensor]] = [
        lambda p: stream().normal(p, shape, step=3),
        lambda p: stream().uniform(p, shape, step=3),
        lambda p: stream().integers(p, 10, shape, step=3),
        lambda p: stream().masks(p, 0.3, [shape])[0],
    ]
    for draw in draws:
        whole = draw(positions)
        assert whole.shape == (100, *shape)
        assert torch.equal(torch.cat([draw(positions[start : start + size]) for start in range(0, 100, size)]), whole)
        order = torch.randperm(100, generator=torch.Generator().manual_seed(size)).to(device)
        assert torch.equal(draw(positions[order]), whole[order])


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_in_a_tensor_gives_the_draws_of_the_integer(device: str) -> None:
    positions = torch.tensor([0, 1, 2**40 + 5], device=device)
    for draw in (
        lambda step: stream().words(positions, 10, step),
        lambda step: stream().normal(positions, (3, 3), step),
        lambda step: stream().uniform(positions, (3, 3), step),
        lambda step: stream().integers(positions, 10, (3, 3), step),
    ):
        for step in (0, 7, 2**32 - 1):
            assert torch.equal(draw(torch.tensor(step, device=device)), draw(step))


def test_a_step_in_a_tensor_is_not_read() -> None:
    # a value that is read raises an error on the meta device; on a GPU it would wait
    step = torch.zeros((), dtype=torch.int64, device="meta")
    assert stream().normal(torch.arange(2, device="meta"), (3,), step).shape == (2, 3)


def test_streams_that_are_drawn_together_have_the_draws_of_each() -> None:
    positions = torch.tensor([0, 1, 2**40 + 5])
    counts = {(Purpose.FLIP, 0): 1, (Purpose.TRAINING_NOISE, 7): 10, (Purpose.FLIP, 3): 2}
    streams = randomness.drawn_together(2**32 - 1, positions, counts)
    for purpose, step in (*counts, (Purpose.CROP, 0), (Purpose.FLIP, 7)):
        alone = stream(purpose, 2**32 - 1)
        for count in (1, 2, 10, 30):  # more than was drawn too
            assert torch.equal(streams(purpose).words(positions, count, step), alone.words(positions, count, step))
            assert torch.equal(
                streams(purpose).normal(positions, (count,), step), alone.normal(positions, (count,), step)
            )


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    positions = torch.arange(5)
    longest = stream().normal(positions, (40,))
    for count in range(1, 40):
        assert torch.equal(stream().normal(positions, (count,)), longest[:, :count])


def test_uniforms_have_the_moments_of_a_uniform() -> None:
    u = stream().uniform(torch.arange(N), ()).double()
    assert abs(u.mean() - 1 / 2) < SIGMAS * math.sqrt(1 / 12 / N)
    assert abs(u.square().mean() - 1 / 3) < SIGMAS * math.sqrt((1 / 5 - 1 / 9) / N)
    counts = torch.bincount((u * 256).long(), minlength=256)
    chi_square = ((counts - N / 256) ** 2 / (N / 256)).sum()
    assert abs(chi_square - 255) < SIGMAS * math.sqrt(2 * 255)


def test_normals_have_the_moments_of_a_normal() -> None:
    z = stream().normal(torch.arange(N // 2), (2,)).double().flatten()
    moments = {1: (0, 1), 2: (1, 3 - 1), 3: (0, 15), 4: (3, 105 - 9), 6: (15, 10395 - 225)}  # mean, variance
    for power, (mean, variance) in moments.items():
        assert abs(z.pow(power).mean() - mean) < SIGMAS * math.sqrt(variance / N)
    for bound in (1.0, 2.0, 3.0):
        inside = math.erf(bound / math.sqrt(2))
        assert abs((z.abs() < bound).double().mean() - inside) < SIGMAS * math.sqrt(inside * (1 - inside) / N)


@pytest.mark.parametrize("function", ["identity", "square"])
def test_neighboring_draws_are_uncorrelated(function: str) -> None:
    positions = torch.arange(N)
    base = stream().normal(positions, (4,), step=5)
    others = {
        "element": base[:, 1],
        "pair": base[:, 2],
        "position": stream().normal(positions + 1, (1,), step=5)[:, 0],
        "word of the position": stream().normal(positions + 2**32, (1,), step=5)[:, 0],
        "step": stream().normal(positions, (1,), step=6)[:, 0],
        "purpose": stream(Purpose.HELD_OUT_NOISE).normal(positions, (1,), step=5)[:, 0],
        "seed": stream(seed=1235).normal(positions, (1,), step=5)[:, 0],
    }

    def standardized(z: Tensor) -> Tensor:
        return (z.double().square() - 1) / math.sqrt(2) if function == "square" else z.double()

    for name, other in others.items():
        correlation = (standardized(base[:, 0]) * standardized(other)).mean()
        assert abs(correlation) < SIGMAS / math.sqrt(N), name


@pytest.mark.parametrize("high", [1, 2, 10, 1086])
def test_integers_cover_their_range_evenly(high: int) -> None:
    drawn = stream(Purpose.NOISE_LEVEL).integers(torch.arange(N), high)
    counts = torch.bincount(drawn, minlength=high).double()
    assert len(counts) == high
    chi_square = ((counts - N / high) ** 2 / (N / high)).sum()
    assert abs(chi_square - (high - 1)) <= SIGMAS * math.sqrt(2 * (high - 1))


@pytest.mark.parametrize("n", [1, 2, 1797, 50_000])
def test_a_permutation_is_a_permutation(n: int) -> None:
    assert torch.equal(stream(Purpose.DATA_ORDER).permutation(n, 3).sort().values, torch.arange(n))


def test_permutations_differ_between_epochs_and_are_frozen() -> None:
    order = stream(Purpose.DATA_ORDER)
    assert order.permutation(8, 3).tolist() == [5, 3, 0, 4, 1, 2, 6, 7]
    n = 10_000
    first, second = order.permutation(n, 0), order.permutation(n, 1)
    # The number of places where two independent permutations agree is Poisson with mean 1; P(> 15) = 2e-14.
    assert (first == second).sum() <= 15
    assert (first == torch.arange(n)).sum() <= 15


def test_every_order_is_equally_likely() -> None:
    epochs = 3_000
    orders = [tuple(stream(Purpose.DATA_ORDER).permutation(3, epoch).tolist()) for epoch in range(epochs)]
    expected = epochs / 6
    chi_square = sum((orders.count(order) - expected) ** 2 / expected for order in set(orders))
    assert len(set(orders)) == 6
    assert abs(chi_square - 5) < SIGMAS * math.sqrt(2 * 5)


@pytest.mark.parametrize("n", [1, 5, 300_000])
def test_a_choice_is_the_beginning_of_the_permutation(n: int) -> None:
    order = stream(Purpose.SUBSETS)
    whole = order.permutation(n, 3)
    for count in (0, 1, 3, n - 1, n, n + 1):
        assert torch.equal(order.choice(n, count, 3), whole[:count])
    assert not torch.equal(order.choice(300_000, 64, 3), order.choice(300_000, 64, 4))


class LargestTensor(TorchDispatchMode):
    """Bytes of the largest tensor that an operation returns."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.size = max(self.size, *(each.nbytes for each in (result,) if isinstance(each, Tensor)), 0)
        return result


def memory_of(draw: Callable[[], Tensor]) -> tuple[int, int]:
    """Bytes of the largest tensor within a call, and the most that numpy holds meanwhile."""
    with LargestTensor() as largest:
        tracemalloc.start()
        try:
            draw()
            return largest.size, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


def test_an_order_and_a_choice_take_a_few_bytes_per_number() -> None:
    n, order = 700_000, stream(Purpose.DATA_ORDER)
    memory_of(lambda: order.permutation(2, 0))  # what the first call imports isn't counted
    for draw, bytes_per_number in ((lambda: order.permutation(n, 0), 12), (lambda: order.choice(n, 64, 0), 8)):
        tensor, arrays = memory_of(draw)
        assert tensor <= 8 * n, "the keys"
        assert arrays <= bytes_per_number * n + 2**18, "the indices, and half as many to sort them"


@pytest.mark.parametrize("wrong", [-1, 2**32, 2**63])
def test_a_range_a_seed_and_a_step_that_no_draw_can_have_are_refused(wrong: int) -> None:
    for draw, told in (
        (lambda: stream().integers(torch.arange(2), wrong), "high must be"),
        (lambda: stream(seed=wrong), "seed must be from 0 to 4294967295"),
        (lambda: stream().words(torch.arange(2), 4, wrong), "step must be"),
    ):
        with pytest.raises(ValueError, match=told):
            draw()


@pytest.mark.parametrize("count", [1, 2, 6, 4096])
def test_the_kernel_to_be_compiled_has_equal_normals_in_eager_code(count: int) -> None:
    positions, step = torch.tensor([0, 1, 2**40 + 5]), torch.tensor(7)
    constants = randomness._constants((2**32 - 1, 5), positions.device)

    drawn = randomness._lane_normals(positions, step, *constants, count)

    assert torch.equal(drawn, Stream(2**32 - 1, Purpose.TRAINING_NOISE).normal(positions, (count,), step=7))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compilation needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own imports
def test_compiled_normals_are_the_eager_ones_for_every_batch_seed_and_step() -> None:
    for seed, batch, step, shape in [(0, 128, 0, (3, 16, 16)), (7, 1, 3, (5,)), (2**32 - 1, 5, 2**32 - 1, (1, 8, 8))]:
        positions = torch.arange(batch) + 2**33
        compiled = Stream(seed, Purpose.SAMPLER_NOISE, compiled=True).normal(positions, shape, step)
        eager = Stream(seed, Purpose.SAMPLER_NOISE).normal(positions, shape, step)
        assert (compiled - eager).abs().max() <= 1e-6  # two units in the last place of the largest normals


def test_a_program_that_draws_with_ever_new_seeds_keeps_the_constants_of_a_bounded_number() -> None:
    for seed in range(1_100):
        Stream(seed, Purpose.SUBSETS).words(torch.arange(1), 1)
    assert randomness._constants.cache_info().currsize <= 1_024
    for seed in range(6):
        randomness.drawn_together(seed, torch.arange(1), {(Purpose.SUBSETS, 0): 4})
    assert randomness._constants_together.cache_info().currsize <= 4

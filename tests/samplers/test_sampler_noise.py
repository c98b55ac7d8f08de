import math
from types import SimpleNamespace
from typing import Any

import torch

from ncsnx.config import AnnealedLangevin
from ncsnx.randomness import Purpose, Stream
from ncsnx.sampling.generation import (
    SeededNoise,
    interpolated,
    interpolated_noise,
    other_ends,
    sampler_draws,
    seeded_draws,
)
from tests.samplers.toy import SHAPE
from tests.spaces import unit_space


def test_every_draw_image_and_seed_has_noise_of_its_own() -> None:
    indices = torch.tensor([0, 1])
    draws = [SeededNoise(seed, indices, SHAPE)(k) for seed in (0, 1) for k in (0, 1)]
    flat = torch.stack(draws).flatten(0, 1).flatten(1)
    assert len(torch.unique(flat, dim=0)) == 8


def test_initial_samples_from_data_are_chosen_images_plus_the_largest_noise() -> None:
    indices = torch.arange(50)
    data = torch.rand(10, *SHAPE, generator=torch.Generator().manual_seed(0))
    images: Any = SimpleNamespace(dataset=data, at=lambda chosen: data[chosen])
    draws = sampler_draws(
        AnnealedLangevin(step_size=1e-4, steps_per_level=1, data_init=True), [2.0, 1.0], unit_space(*SHAPE), 4, images
    )
    x = draws.initial(indices)
    noise = Stream(4, Purpose.INITIAL_SAMPLE).normal(indices, SHAPE)
    rest = x - 2.0 * noise
    nearest = (rest[:, None] - data).flatten(2).norm(dim=-1).min(dim=1)
    assert float(nearest.values.max()) < 1e-5
    assert len(torch.unique(nearest.indices)) > 5
    assert torch.equal(draws.initial(indices[7:9]), x[7:9])


def test_column_zero_is_p_exactly_and_the_last_is_q() -> None:
    rows = torch.arange(3)
    p, q = SeededNoise(0, rows, SHAPE), SeededNoise(1, rows, SHAPE)
    noise = interpolated_noise(p, q, columns=5)(2).view(3, 5, *SHAPE)
    assert torch.equal(noise[:, 0], p(2))
    torch.testing.assert_close(noise[:, -1], q(2))
    middle = (p(2) + q(2)) / math.sqrt(2)
    torch.testing.assert_close(noise[:, 2], middle)


def test_all_columns_of_a_row_start_from_the_plain_samples_x() -> None:
    plain = seeded_draws(5, unit_space(*SHAPE))
    langevin = AnnealedLangevin(step_size=1e-4, steps_per_level=1)
    draws = interpolated(plain, other_ends(plain, langevin, [2.0, 1.0], unit_space(*SHAPE), 5), columns=4)
    rows = torch.tensor([2, 9])
    start = draws.initial(rows).view(2, 4, *SHAPE)
    assert draws.columns == 4
    for column in range(4):
        assert torch.equal(start[:, column], plain.initial(rows))

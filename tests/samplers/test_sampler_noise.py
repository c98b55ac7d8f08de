import math

import torch

from ncsnx.config import AnnealedLangevin
from ncsnx.randomness import Purpose
from ncsnx.sampling.generation import SeededNoise, interpolated, interpolated_noise, other_ends, seeded_draws
from tests.samplers.toy import SHAPE
from tests.spaces import unit_space


def test_every_draw_image_and_seed_has_noise_of_its_own() -> None:
    indices = torch.tensor([0, 1])
    draws = [SeededNoise(seed, indices, SHAPE)(k) for seed in (0, 1) for k in (0, 1)]
    flat = torch.stack(draws).flatten(0, 1).flatten(1)
    assert len(torch.unique(flat, dim=0)) == 8


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
    last = draws.noise(rows)(1).view(2, 4, *SHAPE)[:, -1]
    torch.testing.assert_close(last, SeededNoise(5, rows, SHAPE, Purpose.INTERPOLATION_NOISE)(1))

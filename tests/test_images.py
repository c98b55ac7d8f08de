from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ncsnx.images import (
    CELL_PIXELS,
    MOST_PIXELS,
    enlargement,
    grid,
    picture,
    save_film,
    save_png,
    square_columns,
    to_uint8,
)


def test_eight_bit_values_are_clamped_and_rounded_to_the_nearest() -> None:
    values = torch.tensor([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 1.5 / 255, 254.6 / 255, 1.0, 7.0])
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 2, 255, 255, 255]


def test_a_grid_lays_images_out_row_by_row_between_white_rules() -> None:
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 2, 4)
    table = grid(images, 3, padding=1, scale=1)
    assert table.shape == (3, 2 * (2 + 1) + 1, 3 * (4 + 1) + 1)
    cells = [[int(table[0, 1 + 3 * row, 1 + 5 * column]) for column in range(3)] for row in range(2)]
    assert cells == [[0, 1, 2], [3, 4, 255]]
    assert bool((table[:, ::3] == 255).all())
    assert bool((table[:, :, ::5] == 255).all())


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 50), st.integers(1, 1_000))
def test_an_enlargement_is_the_least_that_shows_an_image(height: int, width: int, rows: int, columns: int) -> None:
    factor = enlargement(height, width, rows=rows, columns=columns)
    largest = max(height * rows, width * columns)
    assert factor >= 1
    assert factor == 1 or (factor - 1) * min(height, width) < CELL_PIXELS, "no larger than necessary"
    assert factor == 1 or factor * largest <= MOST_PIXELS
    assert factor * min(height, width) >= CELL_PIXELS or (factor + 1) * largest > MOST_PIXELS


def test_a_grid_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 images"):
        grid(torch.empty(0, 1, 8, 8, dtype=torch.uint8), 4)


def test_the_columns_of_a_grid_make_it_square() -> None:
    assert [square_columns(n) for n in (1, 2, 4, 5, 9, 10, 36, 100)] == [1, 2, 2, 3, 3, 4, 6, 10]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_png_holds_the_very_pixels(tmp_path: Path, channels: int, mode: str) -> None:
    image = torch.arange(channels * 6 * 5, dtype=torch.uint8).view(channels, 6, 5)
    save_png(tmp_path / "image.png", image)
    with Image.open(tmp_path / "image.png") as read:
        assert (read.mode, read.size) == (mode, (5, 6))
        pixels = torch.from_numpy(np.array(read)).view(6, 5, channels)
    assert torch.equal(pixels, image.permute(1, 2, 0))


def test_other_numbers_of_channels_are_shown_side_by_side_in_gray() -> None:
    image = torch.arange(2 * 3 * 4, dtype=torch.uint8).view(2, 3, 4)
    shown = picture(image)
    assert (shown.mode, shown.size) == ("L", (8, 3))
    assert torch.equal(torch.from_numpy(np.array(shown)), torch.cat((image[0], image[1]), dim=1))


def test_a_film_shows_every_frame_for_ever_and_holds_the_last(tmp_path: Path) -> None:
    frames = [torch.full((3, 8, 8), 60 * level, dtype=torch.uint8) for level in range(4)]
    save_film(tmp_path / "film.gif", iter(frames), len(frames), frame_ms=50, last_ms=1_000)
    with Image.open(tmp_path / "film.gif") as film:
        assert film.format == "GIF"
        assert film.n_frames == 4  # type: ignore[attr-defined]
        assert film.info["loop"] == 0
        durations, levels = [], []
        for frame in range(4):
            film.seek(frame)
            durations.append(film.info["duration"])
            levels.append(film.convert("RGB").getpixel((0, 0)))
    assert durations == [50, 50, 50, 1_000]
    assert levels == [(60 * level,) * 3 for level in range(4)]

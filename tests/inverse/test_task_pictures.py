"""Pictures of tasks: transparency, 16 bits and objects of Pillow."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ncsnx.inverse.noisy_pictures.denoising import denoise
from ncsnx.inverse.saved_pictures import save_like
from ncsnx.inverse.task_pictures import as_file, read_pictures
from tests.spaces import unit_space

COLORS = np.random.default_rng(0).integers(0, 256, (6, 10, 3)).astype(np.uint8)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_picture_keeps_its_colors_below_its_transparency_and_is_white_where_it_has_none(
    mode: str, tmp_path: Path
) -> None:
    given = Image.fromarray(COLORS).convert(mode)
    given.putalpha(Image.fromarray(np.repeat(np.array([[0, 20, 128, 255, 255]], np.uint8), 6, axis=0).repeat(2, 1)))
    given.save(tmp_path / "given.png")
    space = unit_space(3, 6, 10)
    pixels = read_pictures(tmp_path / "given.png", space).pixels[0]
    colors = torch.from_numpy(np.array(given.convert("RGBA"))[..., :3]).movedim(-1, 0) / 255
    torch.testing.assert_close(pixels[..., 2:].float(), colors[..., 2:])
    assert bool((pixels[..., :2] == 1).all())
    save_like(tmp_path / "found.png", pixels, space, tmp_path / "given.png")
    with Image.open(tmp_path / "found.png") as found:
        assert np.array_equal(np.asarray(found)[:, 2:], np.asarray(given)[:, 2:])
    save_like(tmp_path / "found.bmp", pixels, space, tmp_path / "given.png")
    white = Image.new("RGBA", given.size, "white")
    shown = Image.alpha_composite(white, given.convert("RGBA")).convert("RGB")
    with Image.open(tmp_path / "found.bmp") as found:
        assert np.abs(np.asarray(found.convert("RGB")).astype(int) - np.asarray(shown)).max() <= 1


def test_a_picture_that_is_fitted_has_another_size_than_its_transparency_and_is_shown_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 12), (0, 0, 0, 128)).save(tmp_path / "given.png")
    space = unit_space(3, 6, 8)
    pixels = read_pictures(tmp_path / "given.png", space, fit=True).pixels[0]
    assert float((pixels - 127 / 255).abs().max()) < 1e-6
    save_like(tmp_path / "found.png", pixels, space, tmp_path / "given.png")
    with Image.open(tmp_path / "found.png") as found:
        assert found.mode == "L"


@pytest.mark.parametrize("fit", [None, True])
def test_16_bits_are_read_and_written_as_they_are(fit: bool | None, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2_207, (6, 10)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "given.png")
    space = unit_space(3, 6, 10)
    pixels = read_pictures(tmp_path / "given.png", space, fit=fit).pixels[0]
    assert np.array_equal(pixels[1].numpy(), values / 65_535)
    save_like(tmp_path / "found.png", pixels.float(), space, tmp_path / "given.png")
    with Image.open(tmp_path / "found.png") as found:
        assert np.array_equal(np.asarray(found), values)


def test_noise_below_what_the_model_knows_is_said_with_the_factor_up_to_white(tmp_path: Path) -> None:
    values = 1_000 + 100 * np.random.default_rng(0).standard_normal((64, 64))
    values[0, 0] = 2_184  # 30 times less than white
    Image.fromarray(values.round().astype(np.uint16)).save(tmp_path / "dark.png")
    Image.new("L", (64, 64), 33).save(tmp_path / "clean.png")
    space = unit_space(3, 64, 64)
    (told,) = denoise(tmp_path / "dark.png", space, least_noise=0.005).remarks
    assert "less than the 0.005 (1.3 of 255) that this model knows" in told
    assert told.endswith("multiply those of the picture by 30")
    assert "none to be seen" in denoise(tmp_path / "clean.png", space, least_noise=0.005).remarks[0]


def test_a_jpeg_of_pillow_is_its_file_until_its_pixels_change(tmp_path: Path) -> None:
    Image.fromarray(COLORS.repeat(4, 0).repeat(4, 1)).save(tmp_path / "given.jpg")
    space = unit_space(3, 24, 40)
    with Image.open(tmp_path / "given.jpg") as given:
        assert as_file("denoise", given, tmp_path, space) == tmp_path / "given.jpg"
        given.putpixel((0, 0), (1, 2, 3))
        changed = as_file("denoise", given, tmp_path, space)
        with Image.open(changed) as found:
            assert np.array_equal(np.asarray(found), np.asarray(given))
    with Image.open(tmp_path / "given.jpg") as given:
        given.thumbnail((20, 20))
        with Image.open(as_file("denoise", given, tmp_path, space)) as found:
            assert found.size == (20, 12)

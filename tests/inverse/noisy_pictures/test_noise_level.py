"""Noise estimated from photographs and drawn pictures to which known noise was added, or none."""

import functools
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage.restoration import estimate_sigma
from sklearn.datasets import load_sample_image

from ncsnx.inverse.noisy_pictures.noise_level import estimated_noise, estimated_noise_of_jpeg, estimated_shot_noise

Array = NDArray[np.float64]

SHOT_NOISE = [(200, 0.01), (30, 0.02)]
"""Counts at white, and read noise."""
TEXTURE = 3.5 / 255
"""What estimates of the color photographs without added noise stay below."""


@functools.cache
def photograph(name: str) -> Array:
    """The middle of a photograph at half its size, which averages its own noise: (3, 160, 160)."""
    side = 160
    small = Image.fromarray(load_sample_image(f"{name}.jpg")).reduce(2)
    left, top = (small.width - side) // 2, (small.height - side) // 2
    return np.moveaxis(np.asarray(small.crop((left, top, left + side, top + side))) / 255, -1, 0)


def luma(picture: Array) -> Array:
    return np.tensordot([0.299, 0.587, 0.114], picture, axes=1)[None]


def as_png(picture: Array) -> Array:
    return np.round(255 * picture.clip(0, 1)) / 255


def noisy(picture: Array, sigma: float) -> Array:
    """The picture with white noise, before clipping and rounding."""
    return picture + sigma * np.random.default_rng(0).standard_normal(picture.shape)


def with_shot_noise(picture: Array, counts: float, read: float) -> Array:
    generator = np.random.default_rng(0)
    return as_png(generator.poisson(counts * picture) / counts + read * generator.standard_normal(picture.shape))


def as_jpeg(picture: Array, quality: int) -> Array:
    file = io.BytesIO()
    Image.fromarray((255 * np.moveaxis(as_png(picture), 0, -1)).round().astype(np.uint8)).save(
        file, "JPEG", quality=quality
    )
    return np.moveaxis(np.asarray(Image.open(file)) / 255, -1, 0)


@pytest.mark.parametrize("name", ["china", "flower"])
@pytest.mark.parametrize("sigma", [5 / 255, 10 / 255, 25 / 255])
def test_white_noise_of_photographs_is_found_in_color_and_gray(name: str, sigma: float) -> None:
    for picture in (photograph(name), luma(photograph(name))):
        estimate = estimated_noise(as_png(noisy(0.2 + 0.6 * picture, sigma)))  # without clipping
        assert 0.92 * sigma < estimate < 1.06 * float(np.hypot(sigma, TEXTURE))


@pytest.mark.parametrize("name", ["china", "flower"])
def test_textures_of_photographs_are_not_taken_for_noise(name: str) -> None:
    picture = photograph(name)
    assert estimated_noise(picture) < TEXTURE < picture.std() / 10
    assert estimated_noise(luma(picture)) < 1 / 255


@pytest.mark.parametrize(("channels", "side", "margin"), [(1, 8, 0.4), (3, 8, 0.4), (1, 28, 0.1), (3, 32, 0.1)])
def test_small_pictures_have_enough_patches(channels: int, side: int, margin: float) -> None:
    assert estimated_noise(noisy(np.full((channels, side, side), 0.5), 0.1)) == pytest.approx(0.1, rel=margin)


@pytest.mark.parametrize(("offset", "scale"), [(-3.0, 1.0), (7.0, 1.0), (0.0, 100.0)])
def test_unbounded_data_have_noise_in_their_own_values(offset: float, scale: float) -> None:
    values = scale * noisy(luma(photograph("flower")), 0.1) + offset
    assert estimated_noise(values) == pytest.approx(0.1 * scale, rel=0.08)


def test_saturated_parts_are_left_out() -> None:
    picture = np.full((3, 96, 96), 0.5)
    picture[:, :, :48], picture[:, :, 48:64] = 9, -9
    assert estimated_noise(as_png(noisy(picture, 0.1))) == pytest.approx(0.1, rel=0.06)
    assert estimated_noise(as_png(noisy(picture, 0.1))[:1]) == pytest.approx(0.1, rel=0.06)


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("channels", [1, 3])
def test_saturated_parts_of_jpegs_are_left_out(channels: int, value: int) -> None:
    """The 9,000 coefficients that remain, and those of the whole, give an error of 2 %."""
    picture = noisy(np.full((channels, 256, 256), 0.5), 0.1)
    whole = estimated_noise_of_jpeg(picture)
    picture[..., :112] = value
    assert estimated_noise_of_jpeg(picture) == pytest.approx(whole, rel=0.06)


def test_a_jpeg_that_is_saturated_on_nearly_half_of_it_has_the_noise_of_the_rest() -> None:
    """The encoder removes up to 40 % of the noise of a flat part; if the saturated part counted, none would be left."""
    picture = noisy(np.full((3, 256, 256), 0.5), 0.1)
    whole = estimated_noise_of_jpeg(as_jpeg(picture, quality=75))
    picture[..., :112] = 1
    assert whole > 0.06
    assert estimated_noise_of_jpeg(as_jpeg(picture, quality=75)) == pytest.approx(whole, rel=0.1)


@pytest.mark.parametrize("paper", ["#ffffff", "#fcfcfc", "#f8f8f8", "#fff8dc", "#cccccc", "#ffff00", "#203a80"])
def test_documents_have_no_noise_that_their_letters_would_be_taken_for(paper: str) -> None:
    page = Image.new("RGB", (300, 200), paper)
    for line in range(10, 190, 20):
        ink = "white" if paper == "#203a80" else "black"
        ImageDraw.Draw(page).text((10, line), "The letters of a page on white paper have edges.", fill=ink)
    decoded = as_jpeg(np.moveaxis(np.asarray(page) / 255, -1, 0), quality=75)
    assert estimated_noise_of_jpeg(decoded) < 1 / 255, "the letters alone are 15 to 30 of 255"


def test_a_page_of_one_strong_color_is_not_taken_for_white() -> None:
    page = np.broadcast_to(np.array([1.0, 1.0, 0.4])[:, None, None], (3, 128, 128))
    assert estimated_noise_of_jpeg(noisy(page, 0.1)) == pytest.approx(0.1, rel=0.2)


def test_clipped_noise_is_estimated_as_what_remains() -> None:
    clipped = as_png(noisy(np.zeros((1, 96, 96)), 0.1))
    assert estimated_noise(clipped) == pytest.approx(clipped.std(), rel=0.1)
    assert clipped.std() < 0.06


def test_principal_components_find_the_noise_of_colors_that_quiet_parts_hide() -> None:
    sigma = np.where(np.arange(128) < 96, 0.02, 0.1)
    picture = 0.5 + sigma * noisy(np.zeros((3, 128, 128)), 1)
    assert estimated_noise(picture[:1]) < 0.03
    assert estimated_noise(picture) == pytest.approx(np.sqrt(np.mean(sigma**2)), rel=0.1)


def test_large_pictures_have_the_same_estimate_every_time() -> None:
    ramp = np.linspace(0.3, 0.7, 1200) * np.ones((1, 900, 1))
    assert estimated_noise(noisy(ramp, 0.05)) == estimated_noise(noisy(ramp, 0.05))
    assert estimated_noise(noisy(ramp, 0.05)) == pytest.approx(0.05, rel=0.03)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 3), (5, 5), (8, 8), (64, 9)])
def test_flat_pictures_have_no_noise(channels: int, size: tuple[int, int]) -> None:
    for value in (0.0, 0.3, 1.0, -40.0):
        picture = np.full((channels, *size), value)
        assert estimated_noise(picture) == pytest.approx(0, abs=1e-12)
        assert estimated_noise_of_jpeg(picture) == pytest.approx(0, abs=1e-12)
        assert estimated_shot_noise(picture) is None


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 3), (3, 3), (4, 5), (7, 7), (30, 3)])
def test_tiny_pictures_have_finite_estimates(size: tuple[int, int]) -> None:
    for channels in (1, 3):
        picture = noisy(np.zeros((channels, *size)), 0.1)
        for estimate in (estimated_noise(picture), estimated_noise_of_jpeg(picture)):
            assert 0 <= estimate < 0.4
        assert estimated_shot_noise(picture) is None


@pytest.mark.parametrize("shape", [(8, 8), (9, 13), (64, 65)])
def test_the_estimate_for_jpegs_is_a_multiple_of_scikit_images(shape: tuple[int, int]) -> None:
    channel = np.random.default_rng(1).random(shape)
    assert estimated_noise_of_jpeg(channel[None]) == pytest.approx(1.15 * float(estimate_sigma(channel)), rel=1e-9)


@pytest.mark.parametrize("name", ["china", "flower"])
def test_the_noise_of_jpegs_is_found_from_their_luma(name: str) -> None:
    decoded = as_jpeg(noisy(0.2 + 0.6 * photograph(name), 0.1), quality=90)
    assert estimated_noise_of_jpeg(decoded) == pytest.approx(0.1, rel=0.3)
    assert estimated_noise(decoded) < 0.08, "too low for JPEGs, which is why they have their own estimator"


@pytest.mark.parametrize(("counts", "read"), SHOT_NOISE)
def test_shot_noise_is_found_in_color_and_gray(counts: float, read: float) -> None:
    for picture in (photograph("flower"), luma(photograph("flower"))):
        found = estimated_shot_noise(with_shot_noise(picture, counts, read))
        assert found is not None
        assert found.gain == pytest.approx(1 / counts, rel=0.2)
        assert 0 <= found.read < 0.07
        brightness = float(picture.mean())
        expected = brightness / counts + read**2
        assert found.gain * brightness + found.read**2 == pytest.approx(expected, rel=0.15)


def test_gain_and_read_noise_are_separated_in_a_smooth_picture() -> None:
    ramp = np.linspace(0.1, 0.8, 256) * np.ones((1, 256, 1))
    for counts, read in ((500, 0.02), (200, 0.01), (50, 0.0)):
        found = estimated_shot_noise(with_shot_noise(ramp, counts, read))
        assert found is not None
        assert (found.gain, found.read) == (pytest.approx(1 / counts, rel=0.1), pytest.approx(read, abs=0.02))


@pytest.mark.parametrize("name", ["china", "flower"])
@pytest.mark.parametrize("sigma", [0, 2, 5, 10, 25, 50])
def test_white_noise_is_no_shot_noise(name: str, sigma: int) -> None:
    for picture in (photograph(name), luma(photograph(name))):
        assert estimated_shot_noise(as_png(noisy(picture, sigma / 255))) is None


def test_clipping_at_black_is_no_shot_noise() -> None:
    ramp = np.linspace(0, 0.2, 256) * np.ones((1, 256, 1))
    values = as_png(noisy(ramp, 0.1))
    assert values[..., :64].std() < 0.8 * values[..., 192:].std(), "the variance grows with brightness"
    assert estimated_shot_noise(values) is None


def test_correlated_noise_is_no_shot_noise() -> None:
    ramp = np.linspace(0.1, 0.8, 256) * np.ones((1, 256, 1))
    white = noisy(np.zeros((1, 256, 257)), 1)
    values = ramp + np.sqrt(ramp / 200) * (white[..., 1:] + white[..., :-1]) / np.sqrt(2)
    assert estimated_shot_noise(values) is None


def test_bright_textures_are_no_shot_noise() -> None:
    rows, columns = np.mgrid[:192, :192]
    texture = (columns / 192) * 0.2 * np.sin(rows * 0.9) * np.sin(columns * 1.1)
    assert estimated_shot_noise(as_png(noisy(0.1 + 0.6 * columns / 192 + texture, 0.02)[None])) is None


@pytest.mark.parametrize("name", ["china", "flower"])
@pytest.mark.parametrize("quality", [50, 75, 90])
def test_jpegs_have_no_shot_noise(name: str, quality: int) -> None:
    for sigma in (0, 10 / 255):
        assert estimated_shot_noise(as_jpeg(noisy(photograph(name), sigma), quality)) is None

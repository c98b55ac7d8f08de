"""Decoding of users' pictures."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import functional

from ncsnx.data.decoding import BrokenImageError, as_array, decode, fitted, fitted_pixels, is_gray, rgb

WHITE, BLUE = (255, 255, 255), (0, 0, 255)
VALUES = np.random.default_rng(3).integers(0, 256, (5, 7, 4), dtype=np.uint8)
COLORS = Image.fromarray(VALUES[..., :3])


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, bits: int, colors: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG written by hand from its specification. rows: each with its filter byte."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colors, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def read(content: bytes, channels: int = 3, background: tuple[int, int, int] = WHITE) -> Any:
    return as_array(decode(content, "x"), channels, background)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP"])
def test_colors_come_back_as_they_were_of_an_animation_those_of_the_first_frame(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    more = {} if kind == "BMP" else {"save_all": True, "append_images": [Image.new("RGB", COLORS.size)]}
    assert np.array_equal(read(saved(COLORS, kind, **options, **more)), VALUES[..., :3])


def test_gray_becomes_three_equal_channels_and_colors_become_gray_by_itu_601() -> None:
    gray = Image.fromarray(VALUES[..., 0])
    assert np.array_equal(read(saved(gray)), np.repeat(VALUES[..., :1], 3, axis=2))
    assert np.array_equal(read(saved(gray), channels=1), VALUES[..., 0])
    exact = VALUES[..., :3] @ np.array([0.299, 0.587, 0.114])
    # rounded, with weights of 16 bits: half a step and 255 · 3 / 2**17
    assert np.abs(read(saved(COLORS), channels=1) - exact).max() < 0.5 + 0.006


@pytest.mark.parametrize("background", [WHITE, BLUE])
def test_an_alpha_channel_is_composited_on_the_background(background: tuple[int, int, int]) -> None:
    values = VALUES.copy()
    values[0, 0, 3], values[0, 1, 3] = 0, 255
    alpha = values[..., 3:] / 255
    expected = values[..., :3] * alpha + np.array(background) * (1 - alpha)
    found = read(saved(Image.fromarray(values)), background=background)
    assert np.abs(found - expected).max() <= 1
    assert tuple(found[0, 0]) == background
    assert np.array_equal(found[0, 1], values[0, 1, :3])


def test_gray_with_alpha_is_composited_in_one_and_in_three_channels() -> None:
    values = np.stack([VALUES[..., 0], np.where(VALUES[..., 1] < 128, 0, 255).astype(np.uint8)], axis=-1)
    content = saved(Image.fromarray(values, mode="LA"))
    expected = np.where(values[..., 1] == 0, 255, values[..., 0])
    assert np.array_equal(read(content, channels=1), expected)
    assert np.array_equal(read(content), np.repeat(expected[..., None], 3, axis=2))


def test_a_palette_shows_its_colors_and_the_background_where_it_is_transparent() -> None:
    picture = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), mode="P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 9, 9, 9])
    assert read(saved(picture)).tolist() == [[[255, 0, 0], [0, 255, 0], [9, 9, 9]]]
    assert read(saved(picture, transparency=1), background=BLUE)[0].tolist() == [[255, 0, 0], [0, 0, 255], [9, 9, 9]]
    partly = read(saved(picture, transparency=bytes([0, 255, 128])), background=WHITE)[0]
    assert partly[:2].tolist() == [[255, 255, 255], [0, 255, 0]]
    assert np.abs(partly[2].astype(int) - (9 * 128 + 255 * 127) // 255).max() <= 1


def test_one_transparent_color_shows_the_background() -> None:
    picture = Image.fromarray(np.array([[[1, 2, 3], [3, 2, 1]]], dtype=np.uint8))
    assert read(saved(picture, transparency=(1, 2, 3)), background=BLUE)[0].tolist() == [[0, 0, 255], [3, 2, 1]]
    gray = Image.fromarray(np.array([[7, 8]], dtype=np.uint8))
    assert read(saved(gray, transparency=7), channels=1)[0].tolist() == [255, 8]


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "I;16"), ("TIFF", "I;16"), ("TIFF", "I;16B")])
def test_sixteen_bits_are_rounded_to_eight(kind: str, mode: str) -> None:
    values = np.array([[0, 128, 129, 257, 25_700, 40_000, 65_406, 65_407, 65_535]], dtype=np.uint16)
    order = ">u2" if mode == "I;16B" else "<u2"
    picture = Image.frombytes(mode, (9, 1), values.astype(order).tobytes())
    expected = [round(value / 257) for value in values[0].tolist()]
    assert expected[:3] == [0, 0, 1]
    assert read(saved(picture, kind), channels=1)[0].tolist() == expected
    assert read(saved(picture, kind))[0].tolist() == [[value] * 3 for value in expected]
    assert is_gray(decode(saved(picture, kind), "x"))


def test_sixteen_bits_in_color_are_cut_to_the_upper_eight() -> None:
    rows = b"\0" + struct.pack(">6H", 0x1234, 0x00FF, 0xFFFF, 0xAB00, 0x8000, 0x7FFF)
    assert read(png(2, 1, 16, 2, rows))[0].tolist() == [[0x12, 0x00, 0xFF], [0xAB, 0x80, 0x7F]]


def test_a_transparent_gray_of_sixteen_bits_shows_the_background() -> None:
    rows = b"\0" + struct.pack(">2H", 25_700, 25_701)
    content = png(2, 1, 16, 0, rows, chunk(b"tRNS", struct.pack(">H", 25_701)))
    assert read(content, background=BLUE)[0].tolist() == [[100, 100, 100], [0, 0, 255]]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_converted_to_the_right_colors(kind: str) -> None:
    flat = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red: cyan none, magenta and yellow full
    found = read(saved(flat, kind))
    assert np.abs(found.astype(int) - np.array([255, 0, 0])).max() <= 3
    white = read(saved(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), kind), channels=1)
    assert white.min() >= 252


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_are_rotated_by_exif(kind: str) -> None:
    upright = np.zeros((24, 40), dtype=np.uint8)
    upright[:8, :8], upright[:8, -8:] = 255, 128  # a mark at the top left, a weaker one at the top right
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright))).convert("RGB")
    options = {"lossless": True} if kind == "WEBP" else {}
    found = read(saved(stored, kind, exif=exif, **options), channels=1)
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).max() < 16  # the loss by JPEG


def test_unreadable_exif_data_leaves_a_picture_as_it_is() -> None:
    content = saved(COLORS, "PNG", exif=b"Exif\0\0MM\0*garbage")
    assert np.array_equal(read(content), VALUES[..., :3])


BROKEN = {
    "nothing": (b"", "is empty"),
    "a page": (b"<html>not found</html>", "is not a picture of a known format"),
    "a program for a printer": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "is not a picture"),
    "half a PNG": (saved(Image.effect_noise((64, 64), 50))[:2000], "truncated"),
    "half a JPEG": (saved(Image.effect_noise((64, 64), 50), "JPEG")[:1000], "truncated"),
    "measured values": (saved(Image.fromarray(np.ones((2, 2), dtype=np.float32)), "TIFF"), "mode F.*data=arrays"),
    "a bomb": (png(10_000, 10_000, 8, 0, bytes(100)), r"100000000 pixels.*decompression bomb"),
    "bad pixels": (saved(COLORS).replace(b"IDAT", b"IDAT\xff\xff\xff", 1), "."),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_picture_is_named_with_the_reason_in_one_line(case: str) -> None:
    content, reason = BROKEN[case]
    with pytest.raises(BrokenImageError, match=reason) as error:
        decode(content, "some/file.png")
    assert str(error.value) == f"some/file.png: {error.value.reason}"
    assert error.value.reason
    assert "\n" not in str(error.value)


def test_transparent_pixels_do_not_bleed_when_resized() -> None:
    values = np.zeros((8, 8, 4), dtype=np.uint8)
    values[:, :4] = (255, 255, 255, 255)  # white beside transparent black, on white: white
    assert (fitted_pixels(saved(Image.fromarray(values)), "x", size=4, channels=3, background=WHITE) == 255).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40))
def test_fitting_is_torchvisions_resize_and_center_crop(width: int, height: int, size: int) -> None:
    if max(width, height) > 20 * min(width, height):
        return  # cropped before resizing: see the next test
    values = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(values)
    expected = functional.center_crop(functional.resize(image, size, functional.InterpolationMode.BILINEAR), size)
    assert np.array_equal(np.array(fitted(image, size)), np.array(expected))


def test_an_extremely_long_picture_needs_little_memory() -> None:
    image = Image.new("L", (10_000_000, 1), 77)
    image.paste(3, (0, 0, 4_000_000, 1))
    assert np.array(fitted(image, 64)).tolist() == [[77] * 64] * 64


def test_colors_are_named_or_written_in_hexadecimal() -> None:
    assert rgb("black") == (0, 0, 0)
    assert rgb("#0a80FF") == (10, 128, 255)


@pytest.mark.parametrize("found", [(31, 17), (17, 31), (12, 8), (8, 12), (400, 3), (5, 5)])
@pytest.mark.parametrize("size", [(12, 8), (8, 12), (1, 30)])
def test_a_picture_is_resized_just_until_it_covers_the_size(found: tuple[int, int], size: tuple[int, int]) -> None:
    image = Image.new("L", (found[1], found[0]), 77)
    made = np.array(fitted(image, size))
    assert made.shape == size
    assert (made == 77).all()  # no border

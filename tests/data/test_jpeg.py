"""JPEG headers and the quantized coefficients of the planes."""

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image

from ncsnx.data.decoding import BrokenImageError
from ncsnx.data.jpeg import Jpeg, JpegPlane, dct_matrix
from ncsnx.errors import UsageError

PHOTO = load_sample_image("flower.jpg")[100:300:2, 200:400:2]
LUMA = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
)
"""T.81, table K.1."""


JFIF = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def saved(pixels: NDArray[np.uint8], mode: str | None = None, **options: Any) -> bytes:
    content = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(content, "JPEG", **options)
    return content.getvalue()


def read(content: bytes) -> Jpeg:
    jpeg = Jpeg.of(content, "x.jpg")
    assert jpeg is not None
    return jpeg


def samples(plane: JpegPlane) -> NDArray[np.float64]:
    """The plane that coefficients decode to, 0 to 255, not rounded."""
    (rows, columns, *_), dct = plane.values.shape, dct_matrix()
    blocks = (dct.T @ plane.values @ dct).swapaxes(1, 2)
    found: NDArray[np.float64] = (blocks.reshape(8 * rows, 8 * columns) + 128).clip(0, 255)
    return found


def encoded(plane: NDArray[Any], sampling: tuple[int, int], steps: NDArray[np.float32]) -> NDArray[np.float64]:
    """The coefficients that an encoder makes of a plane, divided by the steps and not rounded."""
    height, width = plane.shape
    down, across = sampling
    lacking = [(0, -height % (8 * down)), (0, -width % (8 * across))]
    whole = np.pad(plane.astype(float), lacking, mode="edge")
    means = whole.reshape(whole.shape[0] // down, down, whole.shape[1] // across, across).mean(axis=(1, 3))
    blocks = (means - 128).reshape(means.shape[0] // 8, 8, means.shape[1] // 8, 8).swapaxes(1, 2)
    found: NDArray[np.float64] = dct_matrix() @ blocks @ dct_matrix().T / steps
    return found


def with_frame(content: bytes, size: tuple[int, int], factors: int) -> bytes:
    """The file with another size and sampling of luma (T.81, B.2.2), for the same number of blocks in an MCU."""
    place = content.index(b"\xff\xc0") + 5
    edited = bytearray(content)
    edited[place : place + 4] = size[0].to_bytes(2) + size[1].to_bytes(2)
    edited[place + 6] = factors
    return bytes(edited)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("size", [(64, 48), (57, 43), (9, 100), (20, 20)])
def test_coefficients_are_those_that_an_encoder_rounds(
    size: tuple[int, int], subsampling: int, progressive: bool
) -> None:
    pixels = PHOTO[: size[0], : size[1]]
    jpeg = read(saved(pixels, quality=60, subsampling=subsampling, progressive=progressive))
    ycbcr = np.rint(pixels @ JFIF.T + (0, 128, 128))
    for number, plane in enumerate(jpeg.planes()):
        assert plane.sampling == ((1, 1) if number == 0 else {0: (1, 1), 1: (1, 2), 2: (2, 2)}[subsampling])
        exact = encoded(ycbcr[..., number], plane.sampling, plane.steps)
        beyond = np.abs(plane.values / plane.steps - exact) * plane.steps - plane.steps / 2
        # blocks of progressive chroma that are half known are estimated
        assert np.quantile(beyond, 0.98) < (2 if progressive else 0.5)
        known = beyond[: size[0] // 16, : size[1] // 16] if progressive else beyond
        # libjpeg rounds means of chroma to 8 bits, which moves a coefficient by 0.5 · 8 at most,
        # as its 64 weights have norm 1
        assert known.max(initial=0) < 4


@pytest.mark.parametrize("quality", [20, 75, 90])
def test_coefficients_decode_to_the_pixels(quality: int) -> None:
    content = saved(PHOTO, quality=quality, subsampling=0)
    found = np.stack([samples(plane)[:100, :100] for plane in read(content).planes()], axis=-1)
    with Image.open(io.BytesIO(content)) as image:
        image.draft("YCbCr", image.size)
        assert np.abs(found - np.asarray(image)).max() < 1.5


def test_clipped_samples_dont_change_the_coefficients_of_a_block() -> None:
    pixels = np.where(PHOTO[..., :1] > 120, 255, 0).astype(np.uint8).repeat(3, axis=2)
    plane, *_ = read(saved(pixels, quality=50)).planes()
    exact = encoded(pixels[..., 0], (1, 1), plane.steps)
    wrong = np.abs(plane.values / plane.steps - exact) > 0.6
    assert wrong.mean() < 0.03, "without the bounds of clipped samples 6 % are wrong"


@pytest.mark.parametrize(
    ("subsampling", "size", "factors", "sampling"), [(1, (96, 32), 0x12, (2, 1)), (2, (32, 96), 0x41, (1, 4))]
)
def test_rarer_samplings_have_the_same_blocks(
    subsampling: int, size: tuple[int, int], factors: int, sampling: tuple[int, int]
) -> None:
    """The MCUs of 4:2:2 as those of 4:4:0, and of 4:2:0 as of 4:1:1: a scrambled picture with the same chroma."""
    content = saved(PHOTO[:48, :64] if subsampling == 1 else PHOTO[:64, :48], quality=90, subsampling=subsampling)
    usual, rare = read(content).planes(), read(with_frame(content, size, factors)).planes()
    assert [plane.sampling for plane in rare] == [(1, 1), sampling, sampling]
    for one, other in zip(usual[1:], rare[1:], strict=True):
        assert np.array_equal(np.sort(one.values, axis=None), np.sort(other.values, axis=None))


def test_headers_tell_tables_orientation_and_software() -> None:
    exif = Image.Exif()
    exif[274], exif[305] = 6, "Darkroom 2"
    jpeg = read(saved(PHOTO[:40], quality=50, exif=exif))
    assert (jpeg.size, jpeg.components, jpeg.orientation, jpeg.software) == ((40, 100), 3, 6, "Darkroom 2")
    assert jpeg.factors == ((2, 2), (1, 1), (1, 1))
    assert np.array_equal(jpeg.tables[0].flatten(), list(map(int, LUMA.split())))
    mean = (16 + 11 + 12 + 14 + 12 + 10 + 16 + 14 + 13 + 14) / 10
    assert jpeg.sigma == pytest.approx(2.03 * mean**0.54 / 255)
    assert jpeg.sigma_in_box == pytest.approx(4.6 * mean**0.41 / 255)
    assert (read(saved(PHOTO)).orientation, read(saved(PHOTO)).software) == (1, None)


def test_exif_data_that_pillow_cannot_read_leaves_a_jpeg_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Image.Image) -> Image.Exif:
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", fail)
    assert (read(saved(PHOTO[:8, :8])).orientation, read(saved(PHOTO[:8, :8])).software) == (1, None)


def test_tables_of_16_bits_are_read() -> None:
    steps = np.arange(1, 65) * 10
    jpeg = read(saved(PHOTO[..., 0], qtables=[steps.tolist()]))
    assert sorted(jpeg.tables[0].flatten()) == steps.tolist()
    (plane,) = jpeg.planes()
    assert np.abs(plane.values / plane.steps - encoded(PHOTO[..., 0], (1, 1), plane.steps)).max() < 0.55


def test_a_phones_second_picture_isnt_read() -> None:
    content = io.BytesIO()
    first, second = Image.fromarray(PHOTO[:32, :32]), Image.fromarray(PHOTO[:64, :64])
    first.save(content, "MPO", save_all=True, append_images=[second], quality=75)
    mpo, alone = read(content.getvalue()), read(saved(PHOTO[:32, :32], quality=75))
    for one, other in zip(mpo.planes(), alone.planes(), strict=True):
        assert np.array_equal(one.values, other.values)


@pytest.mark.parametrize(("mode", "options"), [("CMYK", {}), ("RGB", {"keep_rgb": True})])
def test_other_colors_are_refused(mode: str, options: dict[str, bool]) -> None:
    jpeg = read(saved(PHOTO, mode, **options))
    with pytest.raises(UsageError, match=f"from gray and YCbCr JPEGs only.*found {mode}; .*denoise=.x.jpg"):
        jpeg.planes()


def test_chroma_of_unequal_sampling_is_refused() -> None:
    content = saved(PHOTO[:48, :48], subsampling=0)
    place = content.index(b"\xff\xc0") + 11
    edited = content[:place] + b"\x22" + content[place + 1 : place + 3] + b"\x21" + content[place + 4 :]
    with pytest.raises(UsageError, match="found the sampling factors 2×2, 2×1, 1×1"):
        read(edited).planes()


def test_damaged_files_and_other_formats() -> None:
    content, png = saved(PHOTO), io.BytesIO()
    Image.fromarray(PHOTO).save(png, "PNG")
    assert Jpeg.of(png.getvalue(), "x.png") is None
    with pytest.raises(BrokenImageError, match=r"x.jpg: .*truncated"):
        read(content[: len(content) // 2]).planes()
    with pytest.raises(BrokenImageError, match=r"x.jpg"):
        read(content[:200])

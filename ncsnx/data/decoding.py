"""Bytes of a picture (PNG, JPEG, WebP, TIFF, BMP, GIF or HEIC) → 8-bit pixels of one size.

The steps: decode the whole picture and rotate it by EXIF; composite it on a background and convert it to gray or RGB at
full size; resize until it covers the size; crop the center. Transparent pixels are composited before resizing, since
the colors stored under full transparency are arbitrary and would bleed into their neighbors.

Pillow's warnings are silenced while decoding. That is a process-wide setting, so decode in several processes, not in
several threads.
"""

import importlib.util
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ncsnx.config.checks import COLORS
from ncsnx.config.image_sizes import ImageSize, height_and_width
from ncsnx.errors import NcsnxError

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
"""Pillow's names of the decoded formats. Formats that start other programs, such as EPS, are left out."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
"""File suffixes of these formats, in lower case."""
GIF_SUFFIXES, HEIC_SUFFIXES = (".gif",), (".heic", ".heif", ".hif")
"""File suffixes that a data set reads if its configuration says so. These formats are decoded only under these names: a
GIF named .png has always counted as broken, and the files of a data set must stay the same."""
LONGEST = 20
"""Longest side of a picture, relative to the part of it that is used: longer ones are cropped before resizing."""

CODEC_NOISE = 2
"""Most that the channels of a gray picture differ by after WebP or JPEG, of 255."""
_EIGHT_BITS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
WIDE_MODES = ("I", *SIXTEEN_BITS)
"""Pillow's modes of gray pictures of 16 bits."""
GRAY_MODES = ("1", "L", "LA", "La", *WIDE_MODES)
"""Pillow's modes without colors."""


class BrokenImageError(NcsnxError):
    """A picture that can't be used: its name and the reason."""

    def __init__(self, name: str, reason: str = "") -> None:
        super().__init__(f"{name}: {reason}" if reason else name)
        self.reason = reason


def decodes_heic() -> bool:
    """Whether the HEIC decoder is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


@contextmanager
def opened_picture(content: bytes, name: str) -> Iterator[Image.Image]:
    """The picture in `content`, with its header read. Any exception in the block becomes a BrokenImageError."""
    if not content:
        raise BrokenImageError(name, "is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about tags and palettes don't concern the pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=_formats(name)) as picture:
                yield picture
    except UnidentifiedImageError as error:
        raise BrokenImageError(name, f"is not a picture of a known format ({', '.join(_formats(name))})") from error
    except BrokenImageError:
        raise
    except Exception as error:  # Pillow raises almost anything for a damaged file
        raise BrokenImageError(name, " ".join(str(error).split()) or type(error).__name__) from error


def _formats(name: str) -> tuple[str, ...]:
    """Pillow's names of the formats that a file of this name may have."""
    ending = name.lower()
    if ending.endswith(GIF_SUFFIXES):
        return (*FORMATS, "GIF")
    if ending.endswith(HEIC_SUFFIXES) and decodes_heic():
        import pillow_heif

        pillow_heif.register_heif_opener()
        return (*FORMATS, "HEIF")
    return FORMATS


def decode(content: bytes, name: str) -> Image.Image:
    """The picture in `content`, decoded whole and rotated by EXIF, in its stored mode.

    Animations give the first frame, TIFFs the first page. Raises BrokenImageError, with `name`, for files that are
    empty, truncated, damaged or not pictures, for decompression bombs (more pixels than Pillow's MAX_IMAGE_PIXELS), and
    for values that aren't 8-bit or 16-bit colors.
    """
    with opened_picture(content, name) as picture:
        _check_mode(picture, name)
        picture.load()  # rotates TIFFs, and reads EXIF at the end of PNGs
        with suppress(Exception):  # unreadable EXIF data is common, and the pixels may be fine
            return ImageOps.exif_transpose(picture)
        return picture.copy()


def further_pages(content: bytes, name: str) -> int:
    """Number of pages or frames after the first one of a valid picture; previews in a camera's JPEG don't count."""
    with opened_picture(content, name) as picture:
        return 0 if picture.format == "MPO" else getattr(picture, "n_frames", 1) - 1


def is_gray(image: Image.Image) -> bool:
    """Whether a decoded picture has no colors, whatever its stored mode. Transparency is composited on white.

    The channels of a pixel may differ by 2 of 255, since WebP and JPEG decode gray pictures with differences of 1.
    """
    if image.mode in GRAY_MODES:
        return True
    # a few pixels are enough to find the colors of most pictures
    sample = image.resize((min(image.width, 16), min(image.height, 16)), Image.Resampling.NEAREST)
    for part in (sample, image):
        pixels = as_array(part, 3, COLORS["white"])
        if int((pixels.max(axis=2) - pixels.min(axis=2)).max()) > CODEC_NOISE:
            return False
    return True


def flattened(image: Image.Image, channels: int, background: tuple[int, int, int] = COLORS["white"]) -> Image.Image:
    """A decoded picture at its own size, without transparency, in mode L (channels=1) or RGB (channels=3).

    Transparent pixels show the background, including transparency by palette or by color key. A 16-bit value v becomes
    v/257, rounded (for 16-bit color PNGs, Pillow keeps the upper 8 bits). Gray is 0.299 R + 0.587 G + 0.114 B (ITU-R
    601). Pillow converts CMYK, without a color profile, inverted where Adobe's marker says so.
    """
    mode = "L" if channels == 1 else "RGB"
    if image.mode in WIDE_MODES:
        image = _eight_bits(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (*background, 255)), layer).convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def as_array(image: Image.Image, channels: int, background: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A decoded picture as (H, W) uint8 (channels=1) or (H, W, 3) uint8 (channels=3); see `flattened`."""
    return np.array(flattened(image, channels, background), dtype=np.uint8)


def fitted(image: Image.Image, size: ImageSize) -> Image.Image:
    """The picture at a size: resized (bilinear, antialiased) until it just covers it, then a center crop.

    For squares, the short side is resized, and the pixels equal those of torchvision's Resize and CenterCrop. Smaller
    pictures are enlarged. `image` must be flattened.
    """
    height, width = height_and_width(size)
    longest = LONGEST * image.height * width // height, LONGEST * image.width * height // width
    image = _center(image, min(image.width, max(1, longest[0])), min(image.height, max(1, longest[1])))
    is_narrow = image.width * height <= image.height * width
    resized = (
        (width, int(width * image.height / image.width))
        if is_narrow
        else (int(height * image.width / image.height), height)
    )
    if resized != image.size:
        image = image.resize(resized, Image.Resampling.BILINEAR)
    return _center(image, width, height)


def fitted_pixels(
    content: bytes, name: str, *, size: ImageSize, channels: int, background: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """The picture in `content` as (channels, height, width) uint8. Raises BrokenImageError."""
    pixels = np.array(fitted(flattened(decode(content, name), channels, background), size), dtype=np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def rgb(text: str) -> tuple[int, int, int]:
    """Red, green and blue of a name in `COLORS` or of #rrggbb."""
    if text in COLORS:
        return COLORS[text]
    red, green, blue = bytes.fromhex(text.removeprefix("#"))
    return red, green, blue


def _check_mode(picture: Image.Image, name: str) -> None:
    sixteen = picture.mode in SIXTEEN_BITS or (picture.mode == "I" and picture.format == "PNG")
    if picture.mode not in _EIGHT_BITS and not sixteen:
        raise BrokenImageError(
            name,
            f"is neither 8-bit nor 16-bit (Pillow's mode {picture.mode}); save measured values as .npy, and read them "
            "with data=arrays and the range data.low to data.high",
        )


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64).clip(0, 65_535)
    reduced = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        opacity = np.where(values == transparent, 0, 255).astype(np.uint8)
        reduced = Image.merge("LA", (reduced, Image.fromarray(opacity)))
    return reduced


def _center(image: Image.Image, width: int, height: int) -> Image.Image:
    if image.size == (width, height):
        return image
    # rounded half to even, as torchvision's CenterCrop does
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))

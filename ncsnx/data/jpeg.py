"""The quantized coefficients of a JPEG, which say how much of a picture compression may have changed.

Names are those of ITU-T T.81: a component is stored as the DCT coefficients of 8×8 blocks, divided by its quantization
table and rounded. Pillow decodes whole planes only. Here their blocks are transformed again and rounded to multiples of
the table: 8-bit samples are off by 0.3 in each coefficient, so that the stored multiple is found unless a step is 1 or
2 (0.1 % are wrong at quality 90, 1 % at 95).
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property

import attrs
import numpy as np
from numpy.typing import NDArray
from PIL.ExifTags import Base
from PIL.JpegImagePlugin import JpegImageFile

from ncsnx.data.decoding import BrokenImageError, opened_picture
from ncsnx.errors import Hint, UsageError
from ncsnx.spelling import argument
from ncsnx.stopping import check_stop

BLOCK = 8
LEVEL_SHIFT = 128
"""Subtracted from samples of 8 bits before the DCT."""
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers SOFn; the others in this range are tables."""
_SCAN = 0xDA
_ROWS = 64  # of blocks, transformed at once
_CLIPPED_TURNS = 8


@attrs.frozen(kw_only=True, eq=False)
class JpegPlane:
    """The quantized coefficients of a component."""

    values: NDArray[np.float32]
    """(rows, columns, 8, 8): orthonormal DCT coefficients of each block of samples from −128 to 127, multiples of
    `steps`, vertical frequency first. Blocks cover the plane; the last ones may go beyond it."""
    steps: NDArray[np.float32]
    """(8, 8): the quantization table."""
    sampling: tuple[int, int]
    """Height and width in pixels of a sample."""


@attrs.frozen(kw_only=True, eq=False)
class Jpeg:
    """A JPEG file, with what its headers say."""

    name: str
    content: bytes = attrs.field(repr=False)
    size: tuple[int, int]
    """Height and width as stored, before `orientation`."""
    tables: tuple[NDArray[np.float32], ...]
    """Quantization table of each component, (8, 8), vertical frequency first, 1 to 65,535."""
    factors: tuple[tuple[int, int], ...]
    """Vertical and horizontal sampling factor of each component, 1 to 4."""
    is_jfif: bool
    """Whether the components are gray, or Y, Cb and Cr as in JFIF."""
    orientation: int
    """EXIF orientation, 1 (upright) to 8."""
    software: str | None
    """The program that EXIF names."""
    frame: int
    """Offset of the frame header's marker."""
    interleaved: bool
    """Whether one sequential scan has all components, so that all are coded in whole MCUs."""

    @classmethod
    def of(cls, content: bytes, name: str) -> "Jpeg | None":
        """The JPEG in the bytes of a file; None for other pictures. Raises BrokenImageError for a damaged header."""
        with opened_picture(content, name) as picture:
            if not isinstance(picture, JpegImageFile):  # phones' MPOs are a subclass
                return None
            frame, interleaved = _frame(content, name)
            exif: Mapping[int, object] = {}
            with suppress(Exception):  # unreadable EXIF data is common, and `decode` then leaves the picture as it is
                exif = picture.getexif()
            orientation, software = exif.get(Base.Orientation), exif.get(Base.Software)
            return cls(
                name=name,
                content=content,
                size=(picture.height, picture.width),
                tables=tuple(_table(picture.quantization[number]) for *_, number in picture.layer),
                # Pillow's comment calls the first one vertical, but T.81 has the horizontal one in the upper bits
                factors=tuple((down, across) for _, across, down, _ in picture.layer),
                is_jfif=_is_jfif(picture),
                orientation=orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1,
                software=str(software).strip("\0 ") or None if software else None,
                frame=frame,
                interleaved=interleaved,
            )

    @property
    def components(self) -> int:
        """Number of components: 1 for gray, 3 for colors, 4 for CMYK."""
        return len(self.tables)

    @property
    def sigma(self) -> float:
        """Standard deviation of white noise, white 1, at which a denoiser alone removes most of the errors.

        2.03 Q̄^0.54 of 255 with the mean Q̄ of the first ten luma entries in zigzag order: fitted to the best gain of the
        shipped network at qualities 10 to 90.
        """
        return float(2.03 * self._coarseness**0.54 / 255)

    @property
    def sigma_in_box(self) -> float:
        """The same for a denoiser whose result is brought near the coefficients, which lets it smooth more.

        4.6 Q̄^0.41 of 255, fitted likewise, and a tenth below the best for the sake of the worst pictures.
        """
        return float(4.6 * self._coarseness**0.41 / 255)

    @property
    def _coarseness(self) -> float:
        """Q̄."""
        return float(np.mean([self.tables[0][v, h] for v in range(4) for h in range(4 - v)]))

    def planes(self) -> tuple[JpegPlane, ...]:
        """The quantized coefficients of each component.

        The whole file is decoded, twice if it has colors: 12 megapixels take up to 0.5 GB. Raises BrokenImageError for
        a damaged file; UsageError for CMYK, RGB and lossless JPEGs, and for other sampling than of equal chroma planes.
        """
        self._require_supported()
        (luma_down, luma_across), *others = self.factors
        planes = [self._quantized(self._decoded("L")[..., 0], 0, (1, 1))]
        if others:
            factor = luma_down // others[0][0], luma_across // others[0][1]
            # at half the size libjpeg leaves halved chroma as it is: nothing has to be undone
            scale = 2 if factor == (2, 2) else 1
            pixels = self._decoded("YCbCr", scale)
            planes += [
                self._quantized(_samples(pixels[..., number], factor, scale), number, factor) for number in (1, 2)
            ]
        return tuple(planes)

    def _require_supported(self) -> None:
        """Raises UsageError for a JPEG whose planes can't be had."""
        first, *others = self.factors
        if not self.is_jfif:
            found = {3: "RGB", 4: "CMYK"}.get(self.components, f"{self.components} components")
        elif self.content[self.frame + 1] not in (*_SEQUENTIAL, *_PROGRESSIVE):
            found = "one that is lossless or hierarchical"
        elif len(set(others)) > 1 or any(a % b for other in others for a, b in zip(first, other, strict=True)):
            words = ", ".join(f"{across}×{down}" for down, across in self.factors)
            found = f"the sampling factors {words}"
        else:
            return
        raise UsageError(
            f"{self.name}: blocks can be removed from gray and YCbCr JPEGs only, with equal chroma planes that are not "
            f"larger than luma; found {found}",
            Hint("remove its noise instead", adds=argument("denoise", self.name)),
        )

    @cached_property
    def _blocks_high_and_wide(self) -> bytes:
        """The file with a frame header of whole blocks, so that Pillow decodes the hidden samples at the edges too.

        The coded data is the same for all sizes between: of whole MCUs if scans are interleaved; else of 8 pixels.
        """
        largest = np.array(self.factors).max(axis=0) if self.interleaved and self.components > 1 else (1, 1)
        height, width = (math.ceil(n / (BLOCK * k)) * BLOCK * int(k) for n, k in zip(self.size, largest, strict=True))
        if max(height, width) > 65_535:
            return self.content
        place = self.frame + 5  # behind marker, length and precision
        return b"".join((self.content[:place], height.to_bytes(2), width.to_bytes(2), self.content[place + 4 :]))

    def _decoded(self, mode: str, scale: int = 1) -> NDArray[np.uint8]:
        """Whole blocks as libjpeg decodes them at 1/scale of the size, (H, W, channels)."""
        check_stop()
        with opened_picture(self._blocks_high_and_wide, self.name) as picture:
            picture.draft(mode, (picture.width // scale, picture.height // scale))
            pixels = np.asarray(picture)
        return pixels.reshape(*pixels.shape[:2], -1)

    def _quantized(self, samples: NDArray[np.uint8], number: int, sampling: tuple[int, int]) -> JpegPlane:
        """The coefficients of a component's samples."""
        rows, columns = (math.ceil(math.ceil(n / k) / BLOCK) for n, k in zip(self.size, sampling, strict=True))
        samples = samples[: rows * BLOCK, : columns * BLOCK]
        # only chroma of a progressive file can lack samples; they are nearly those at the edge, as encoders fill in
        lacking = [(0, blocks * BLOCK - n) for blocks, n in zip((rows, columns), samples.shape, strict=True)]
        blocks = np.pad(samples, lacking, mode="edge").reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2)
        values = np.empty(blocks.shape, np.float32)
        for first in range(0, rows, _ROWS):
            check_stop()
            values[first : first + _ROWS] = _multiples(blocks[first : first + _ROWS], self.tables[number])
        return JpegPlane(values=values, steps=self.tables[number], sampling=sampling)


def dct_matrix() -> NDArray[np.float64]:
    """The orthonormal DCT-II of 8 samples, (8, 8), one row per frequency: T.81, A.3.3."""
    frequency, place = np.arange(BLOCK)[:, None], np.arange(BLOCK)
    rows: NDArray[np.float64] = np.sqrt(2 / BLOCK) * np.cos(np.pi * frequency * (place + 0.5) / BLOCK)
    return np.where(frequency == 0, rows / np.sqrt(2), rows)


_DCT = dct_matrix().astype(np.float32)


def _multiples(blocks: NDArray[np.uint8], steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """The multiples of the steps nearest to the coefficients of blocks, (…, 8, 8).

    Decoding clips samples to 0 and 255. Of those, the decoded value is only a bound: they are replaced by what the
    coefficients say beyond it, some times.
    """
    samples = blocks.astype(np.float32)
    found = np.rint(_DCT @ (samples - LEVEL_SHIFT) @ _DCT.T / steps) * steps
    is_clipped = ((blocks == 0) | (blocks == 255)).any(axis=(-2, -1))
    if is_clipped.any():
        given, clipped = samples[is_clipped], found[is_clipped]
        for _ in range(_CLIPPED_TURNS):
            beyond = _DCT.T @ clipped @ _DCT + LEVEL_SHIFT
            lower, upper = np.minimum(beyond, 0), np.maximum(beyond, 255)
            at = np.where(given == 0, lower, np.where(given == 255, upper, given)) - LEVEL_SHIFT
            clipped = np.rint(_DCT @ at @ _DCT.T / steps) * steps
        found[is_clipped] = clipped
    return found


def _samples(pixels: NDArray[np.uint8], factor: tuple[int, int], scale: int) -> NDArray[np.uint8]:
    """A plane's samples from pixels to which libjpeg enlarged it: by a triangle filter for 2×1 and 1×2, else copied."""
    if scale > 1:
        return pixels
    if factor == (1, 2):
        return _without_triangle(pixels)
    if factor == (2, 1):
        return _without_triangle(pixels.T).T
    return pixels[:: factor[0], :: factor[1]]


def _without_triangle(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Samples whose rows libjpeg made twice as long: (H, 2 W) → (H, W).

    Sample s_i became (s_{i−1} + 3 s_i)/4 and (3 s_i + s_{i+1})/4, with the ends repeated. The sums of both are a system
    in which the diagonal dominates: Jacobi's steps leave a third of the error, at first at most 255.
    """
    sums = pixels[:, ::2].astype(np.float32) + pixels[:, 1::2]
    samples = sums / 2
    for _ in range(8):
        padded = np.pad(samples, ((0, 0), (1, 1)), mode="edge")
        samples = (4 * sums - padded[:, :-2] - padded[:, 2:]) / 6
    return np.rint(samples).clip(0, 255).astype(np.uint8)


def _table(entries: list[int]) -> NDArray[np.float32]:
    """A quantization table; Pillow has undone the zigzag."""
    return np.array(entries, np.float32).reshape(BLOCK, BLOCK)


def _is_jfif(picture: JpegImageFile) -> bool:
    """Whether libjpeg takes the components for gray or YCbCr: by JFIF's marker, Adobe's, or the components' names."""
    if len(picture.layer) != 3 or "jfif" in picture.info:
        return len(picture.layer) in (1, 3)
    transform = picture.info.get("adobe_transform")
    return transform != 0 if transform is not None else bytes(layer[0] for layer in picture.layer) != b"RGB"


def _frame(content: bytes, name: str) -> tuple[int, bool]:
    """The offset of the frame header, and whether the first scan has all components of a sequential frame."""
    frame, place = -1, 2
    while (place := content.find(b"\xff", place)) >= 0 and place + 4 < len(content):
        marker, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4])
        if marker in (0x00, 0xFF):  # fill bytes
            place += 1
            continue
        frame = place if marker in _FRAMES else frame
        if marker == _SCAN and frame >= 0:
            return frame, content[frame + 1] in _SEQUENTIAL and content[place + 4] == content[frame + 9]
        place += 2 + length
    raise BrokenImageError(name, "ends before its first scan")

"""Tensors to pictures: 8-bit values, grids, PNG files and films."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ncsnx.quantities import counted
from ncsnx.sampling.request import require_mp4
from ncsnx.storage.atomic import write_bytes

CELL_PIXELS = 64
"""Pictures of several images enlarge smaller ones to at least this side, so that 8×8 digits can be seen."""
MOST_PIXELS = 8_192
"""No enlargement makes a picture wider or higher than this."""


def to_uint8(images: Tensor) -> Tensor:
    """(…, C, H, W) in [0, 1] → uint8 in 0 … 255: clamped, then rounded to the nearest, a half to even.

    It differs from torchvision's `save_image`, which rounds a half up, at exact halves only.
    """
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def enlargement(height: int, width: int, *, rows: int = 1, columns: int = 1) -> int:
    """The whole factor by which images are enlarged in a picture that shows rows and columns of them."""
    wanted = math.ceil(CELL_PIXELS / min(height, width))
    return max(1, min(wanted, MOST_PIXELS // max(height * rows, width * columns)))


def grid(images: Tensor, columns: int, *, padding: int = 2, scale: int | None = None) -> Tensor:
    """(N, C, H, W) uint8 → one white-ruled picture (C, H', W'), row by row.

    padding: pixels between and around the cells. scale: whole factor by which each pixel is enlarged; by default that
    of `enlargement`. Raises ValueError for no image.
    """
    n, channels, height, width = images.shape
    if n == 0 or columns < 1:
        raise ValueError(
            f"a grid needs an image and a column, not {counted(n, 'image')} in {counted(columns, 'column')}"
        )
    rows = math.ceil(n / columns)
    factor = scale or enlargement(height, width, rows=rows, columns=columns)
    cell = (height * factor + padding, width * factor + padding)
    cells = images.new_full((rows * columns, channels, *cell), 255)
    cells[:n, :, padding:, padding:] = images.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
    table = cells.view(rows, columns, channels, *cell).permute(2, 0, 3, 1, 4)
    table = table.reshape(channels, rows * cell[0], columns * cell[1])
    return F.pad(table, (0, padding, 0, padding), value=255)


def square_columns(n: int) -> int:
    """The columns of a grid of n ≥ 1 images that is as square as can be, and never higher than wide."""
    return math.isqrt(n - 1) + 1


def picture(image: Tensor) -> Image.Image:
    """(C, H, W) uint8 → grey for one channel, RGB for three; else the channels side by side in grey."""
    shown = side_by_side(image).permute(1, 2, 0).cpu().contiguous().numpy()
    return Image.fromarray(shown if image.shape[0] == 3 else shown[:, :, 0])


def side_by_side(image: Tensor) -> Tensor:
    """(C, H, W) → itself where pictures have as many channels, 1 or 3; else the channels as one, (1, H, C·W)."""
    return image if image.shape[0] in (1, 3) else image.permute(1, 0, 2).flatten(1)[None]


def png_bytes(image: Tensor) -> bytes:
    """(C, H, W) uint8 as a PNG; channels as in `picture`."""
    encoded = io.BytesIO()
    picture(image).save(encoded, format="PNG")
    return encoded.getvalue()


def save_png(path: Path, image: Tensor) -> None:
    """Writes (C, H, W) uint8 as a PNG, atomically; channels as in `picture`."""
    write_bytes(path, png_bytes(image))


def save_film(path: Path, frames: Sequence[Tensor], *, frame_ms: int = 80, last_ms: int = 2_000) -> None:
    """Writes frames, each (C, H, W) uint8, as an endless animated GIF, atomically.

    frame_ms: how long each frame stands; last_ms: the last one. GIF counts in steps of 10 ms.
    Raises ValueError for no frame.
    """
    if not frames:
        raise ValueError("a film needs at least one frame")
    first, *others = map(picture, frames)
    encoded = io.BytesIO()
    durations = [frame_ms] * len(others) + [last_ms]
    first.save(encoded, format="GIF", save_all=True, append_images=others, duration=durations, loop=0)
    write_bytes(path, encoded.getvalue())


def save_mp4(path: Path, frames: Sequence[Tensor], *, frame_ms: int = 80, last_ms: int = 2_000) -> None:
    """Writes frames, each (C, H, W) uint8, as an MP4 (H.264), atomically; the last one stands for last_ms.

    Odd widths and heights are filled up by a row of white, since the format has even ones only. Raises UsageError as
    `require_mp4`, ValueError for no frame.
    """
    require_mp4()
    import imageio.v3

    if not frames:
        raise ValueError("a film needs at least one frame")
    shown = [np.asarray(picture(frame).convert("RGB")) for frame in frames]
    shown += [shown[-1]] * round(last_ms / frame_ms)
    height, width = shown[0].shape[:2]
    filled = [np.pad(one, ((0, height % 2), (0, width % 2), (0, 0)), constant_values=255) for one in shown]
    content = imageio.v3.imwrite(
        "<bytes>", np.stack(filled), extension=".mp4", plugin="FFMPEG", fps=1000 / frame_ms, macro_block_size=2
    )
    write_bytes(path, content)

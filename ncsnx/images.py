"""Tensors to pictures: 8-bit values, grids, PNG files and animations."""

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ncsnx.notebooks import picture_html, remark
from ncsnx.quantities import counted
from ncsnx.storage.atomic import write_bytes

CELL_PIXELS = 64
"""Smallest side of an image in a grid, in pixels: smaller images are enlarged, so that 8×8 digits can be seen."""
MOST_PIXELS = 8_192
"""Largest width and height of an enlarged picture, in pixels."""


MOST_SHOWN = 100
"""Most images that a batch shows in a notebook."""


@attrs.frozen
class Window:
    """The values that pictures show as black and white. Called with values, it gives what `to_uint8` takes."""

    low: float = 0.0
    """Value that is black; of complex values, magnitude that is black."""
    high: float = 1.0
    """Value that is white; of complex values, magnitude that is white."""
    is_complex: bool = False
    """Whether pairs of channels are real and imaginary parts, which are shown as magnitude and phase."""

    def picture(self, values: Tensor) -> Tensor:
        """(…, C, H, W) → what is shown, in [0, 1] within the window: see `magnitude_and_phase` for complex values."""
        return magnitude_and_phase(values, self) if self.is_complex else self(values)

    def picture_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """(C, H, W) of an image → that of its picture."""
        channels, height, width = shape
        return (3, height, channels * width) if self.is_complex else tuple(shape)

    def __call__(self, values: Tensor) -> Tensor:
        """(…, C, H, W) → (…, C, H, W) in [0, 1] within the window and beyond it outside.

        A pair of channels of complex values becomes its magnitude and its phase, of which −π is 0 and π is 1.
        """
        if not self.is_complex:
            return values if (self.low, self.high) == (0, 1) else (values - self.low) / (self.high - self.low)
        real, imaginary = complex_parts(values)
        magnitude = (torch.hypot(real, imaginary) - self.low) / (self.high - self.low)
        phase = (torch.atan2(imaginary, real) / math.pi + 1) / 2
        return torch.stack([magnitude, phase], dim=-3).flatten(-4, -3)

    def __str__(self) -> str:
        span = f"{self.low:g} to {self.high:g}"
        return f"magnitude {span}, beside it the phase ({PHASE_COLORS})" if self.is_complex else span


UNIT = Window()
"""The window of images in [0, 1]."""
PHASE_COLORS = "red 0, green 2π/3, blue −2π/3"
"""The cyclic colors of the phase, in words."""


def complex_parts(values: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts (…, K, H, W) of complex values (…, 2K, H, W), of which channel 2k is a real part."""
    return values[..., 0::2, :, :], values[..., 1::2, :, :]


def magnitude_and_phase(images: Tensor, window: Window) -> Tensor:
    """Pairs of real and imaginary channels (…, 2K, H, W) → pictures (…, 3, H, 2K·W), in [0, 1] within the window.

    For each complex channel the magnitude in gray, from black at `window.low` to white at `window.high`, and to the
    right of it the phase φ in cyclic colors of equal sum: red (1 + cos φ)/2, green and blue the same at φ ∓ 2π/3. It
    is black where the value is 0.
    """
    real, imaginary = complex_parts(images)
    magnitude = (torch.hypot(real, imaginary) - window.low) / (window.high - window.low)
    shifts = torch.tensor([0.0, -2.0, 2.0], device=images.device, dtype=images.dtype) * (math.pi / 3)
    phase = (1 + torch.cos(torch.atan2(imaginary, real)[..., None, :, :] + shifts[:, None, None])) / 2
    phase = phase * ((real != 0) | (imaginary != 0))[..., None, :, :]
    pairs = torch.stack([magnitude[..., None, :, :].expand_as(phase), phase], dim=-4)  # (…, K, 2, 3, H, W)
    return pairs.movedim((-3, -2), (-5, -4)).flatten(-3, -1)


class ImageBatch(Tensor):
    """Images (N, C, H, W), in [0, 1] or in the own values of unbounded data, as a tensor that shows itself as a grid in
    a notebook, within its window.

    What is computed from it is a plain tensor; a slice of it that holds whole images is a batch again.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    _window: Window

    @classmethod
    def of(cls, images: Tensor, window: Window = UNIT) -> "ImageBatch":
        """The images as a batch. window: values that are shown as black and white."""
        batch = images.as_subclass(cls)
        batch._window = window
        return batch

    @property
    def window(self) -> Window:
        """Values that are shown as black and white: 0 and 1 unless the data is unbounded."""
        return getattr(self, "_window", UNIT)

    def __getitem__(self, index: Any) -> Tensor:
        found = super().__getitem__(index)
        return ImageBatch.of(found, self.window) if found.shape[1:] == self.shape[1:] else found

    def __deepcopy__(self, memo: dict[int, Any]) -> "ImageBatch":
        return ImageBatch.of(self.clone(), self.window)

    def __reduce_ex__(self, protocol: Any) -> Any:
        plain = self.as_subclass(Tensor)  # it is saved and sent as such
        return plain.__reduce_ex__(protocol)  # type: ignore[no-untyped-call]

    def _repr_html_(self) -> str | None:
        if self.dim() != 4 or len(self) == 0:
            return None  # shown as text
        shown = to_uint8(self.window.picture(self.as_subclass(Tensor)[:MOST_SHOWN].detach().float()))
        images = f"{counted(len(self), 'image')} of {'×'.join(map(str, self.shape[1:]))}"
        part = f"the first {len(shown):,} of {images}" if len(shown) < len(self) else images
        part += "" if self.window == UNIT else f"; black to white: {self.window}"
        return picture_html(png_bytes(grid(shown, square_columns(len(shown)))), part) + remark(part)


def to_uint8(images: Tensor) -> Tensor:
    """(…, C, H, W) in [0, 1] → uint8 in 0 … 255: clamped, then rounded to the nearest, halves to even.

    torchvision's `save_image` rounds halves up and gives the same values otherwise.
    """
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def enlargement(height: int, width: int, *, rows: int = 1, columns: int = 1) -> int:
    """Integer factor by which images are enlarged in a grid of rows × columns."""
    wanted = math.ceil(CELL_PIXELS / min(height, width))
    return max(1, min(wanted, MOST_PIXELS // max(height * rows, width * columns)))


def grid(images: Tensor, columns: int, *, padding: int = 2, scale: int | None = None) -> Tensor:
    """(N, C, H, W) uint8 → one picture (C, H', W') with white lines between the images, row by row.

    padding: width of the lines between and around the cells, in pixels. scale: integer factor by which each pixel is
    enlarged; default: `enlargement`. Raises ValueError if there are no images or no columns.
    """
    n, channels, height, width = images.shape
    if n == 0 or columns < 1:
        raise ValueError(
            f"a grid needs at least one image and one column, not {counted(n, 'image')} in {counted(columns, 'column')}"
        )
    rows = math.ceil(n / columns)
    factor = scale or enlargement(height, width, rows=rows, columns=columns)
    cell = (height * factor + padding, width * factor + padding)
    cells = images.new_full((rows * columns, channels, *cell), 255)
    cells[:n, :, padding:, padding:] = images.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
    table = cells.view(rows, columns, channels, *cell).permute(2, 0, 3, 1, 4)
    table = table.reshape(channels, rows * cell[0], columns * cell[1])
    return F.pad(table, (0, padding, 0, padding), value=255)


def arranged(images: Tensor, classes: int) -> tuple[Tensor, int]:
    """(images in the order of a grid, its columns). images: (N, …), where image i is of class i mod `classes`.

    Each class gets a row, unless the grid would be a strip; images that don't fill a column are left out. Other images
    keep their order, in a square grid.
    """
    columns = len(images) // max(1, classes)
    if not 2 <= columns <= 4 * classes:
        return images, square_columns(len(images))
    by_column = images[: columns * classes].reshape(columns, classes, *images.shape[1:])
    return by_column.transpose(0, 1).flatten(0, 1), columns


def square_columns(n: int) -> int:
    """Number of columns of the most square grid of n ≥ 1 images that isn't higher than wide."""
    return math.isqrt(n - 1) + 1


_GAP, _CELL_PIXELS, _FONT_PIXELS, _LINE_PIXELS = 4, 128, 14, 19

GridRow = Mapping[str, Sequence[tuple[Tensor, str]]]
"""Images (C, H, W) uint8 with their captions, by the title of their group; equally many in every row."""


def captioned_grid(rows: Sequence[GridRow], check_stop: Callable[[], None] = lambda: None) -> bytes:
    """A PNG with a line of images for each row, with captions, below the titles of the groups.

    check_stop: as in `png_bytes`.
    """
    from matplotlib.font_manager import findfont  # its own font, so that grids look the same everywhere

    font = ImageFont.truetype(findfont("DejaVu Sans"), _FONT_PIXELS)
    groups = list(rows[0].values())
    columns, first = sum(map(len, groups)), picture(groups[0][0][0])
    factor = max(1, min(round(_CELL_PIXELS / min(first.size)), MOST_PIXELS // max(first.width * columns, first.height)))
    width, height = first.width * factor + _GAP, first.height * factor + _LINE_PIXELS
    size = columns * width + (2 * len(groups) - 1) * _GAP, len(rows) * height + _LINE_PIXELS + _GAP
    whole = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(whole)
    for line, row in enumerate(rows):
        left, top = _GAP, _LINE_PIXELS + line * height
        for title, group in row.items():
            if line == 0:
                pen.text((left, 1), title, fill="black", font=font)
            for image, caption in group:
                shown = picture(image).resize((width - _GAP, height - _LINE_PIXELS), Image.Resampling.NEAREST)
                whole.paste(shown, (left, top))
                pen.text((left, top + shown.height), caption, fill="black", font=font)
                left += width
            left += 2 * _GAP
    return _encoded(whole, "PNG", check_stop)


def picture(image: Tensor) -> Image.Image:
    """(C, H, W) uint8 → RGB image for three channels, gray for one and for three that are equal; otherwise the channels
    side by side in gray."""
    shown = side_by_side(image).permute(1, 2, 0).cpu().contiguous().numpy()
    is_gray = shown.shape[2] == 1 or bool((shown == shown[:, :, :1]).all())
    return Image.fromarray(shown[:, :, 0] if is_gray else shown)


def side_by_side(image: Tensor) -> Tensor:
    """(C, H, W) → the same for 1 or 3 channels; otherwise the channels side by side, (1, H, C·W)."""
    return image if image.shape[0] in (1, 3) else image.permute(1, 0, 2).flatten(1)[None]


def png_bytes(image: Tensor, check_stop: Callable[[], None] = lambda: None) -> bytes:
    """(C, H, W) uint8 as a PNG; channels as in `picture`.

    check_stop: called again and again meanwhile, since a picture of 12 megapixels takes seconds; raises to stop.
    """
    return _encoded(picture(image), "PNG", check_stop)


def save_png(path: Path, image: Tensor) -> None:
    """Replaces the file at `path` by (C, H, W) uint8 as a PNG; channels as in `picture`. Raises NcsnxError."""
    write_bytes(path, png_bytes(image))


def save_film(path: Path, frames: Iterable[Tensor], count: int, *, frame_ms: int = 80, last_ms: int = 2_000) -> None:
    """Writes `count` frames, each (C, H, W) uint8, as an endless animated GIF.

    frame_ms: duration of a frame in ms; last_ms: of the last one. GIF rounds to 10 ms. Raises ValueError without
    frames.
    """
    if count < 1:
        raise ValueError("a film needs at least one frame")
    pictures, durations = map(picture, frames), [frame_ms] * (count - 1) + [last_ms]
    first = next(pictures)
    write_bytes(path, _encoded(first, "GIF", save_all=True, append_images=pictures, duration=durations, loop=0))


class _Checked(io.BytesIO):
    """A file in memory that looks for a stop at each piece that is written."""

    def __init__(self, check_stop: Callable[[], None]) -> None:
        super().__init__()
        self.check_stop = check_stop

    def write(self, piece: Any, /) -> int:
        self.check_stop()
        return super().write(piece)


def _encoded(image: Image.Image, kind: str, check_stop: Callable[[], None] = lambda: None, **options: Any) -> bytes:
    """The bytes of a picture's file."""
    content = _Checked(check_stop)
    image.save(content, format=kind, **options)
    return content.getvalue()

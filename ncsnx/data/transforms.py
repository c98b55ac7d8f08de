"""Stored pixels → x, the network's input (see `ncsnx.space`): batched, on the device.

The order is that of the published code: crop (if the stored images are larger), scale to [0, 1], random flip,
dequantization, then the transform to x. Unbounded values stay as they are until then.
"""

from collections.abc import Callable
from functools import partial

import attrs
import torch
from torch import Tensor

from ncsnx.config.data_sets import Data
from ncsnx.config.image_sizes import height_and_width
from ncsnx.errors import Hint, NcsnxError
from ncsnx.images import to_uint8
from ncsnx.randomness import Purpose, Stream
from ncsnx.space import Space

GAUSSIAN_SIGMA = 0.01
"""Standard deviation of Gaussian dequantization."""


@attrs.frozen
class Preprocessing:
    """Stored pixels → network input. All randomness is a function of (seed, position)."""

    data: Data
    space: Space
    value_range: tuple[float, float]
    """The stored values of bounded data that become 0 and 1: see `Dataset.value_range`."""
    seed: int

    def training(self, pixels: Tensor, positions: Tensor, streams: Callable[[Purpose], Stream] | None = None) -> Tensor:
        """(B, C, H, W) float32 for training: randomly cropped, flipped and dequantized by position in the stream.

        streams: the streams of the seed.
        """
        of = partial(Stream, self.seed) if streams is None else streams
        x = self._values(self._cropped_at_random(pixels, positions, of(Purpose.CROP)))
        if self.data.random_flip:
            mirrored = of(Purpose.FLIP).uniform(positions, (1, 1, 1)) < 0.5
            x = torch.where(mirrored, x.flip(-1), x)
        return self.space.encode(self._dequantized(x, positions, step=0))

    def held_out(self, pixels: Tensor, positions: Tensor) -> Tensor:
        """(B, C, H, W) float32 for evaluation: as in training, but with a center crop and without flips."""
        # the training stream has step 0; step 1 gives other draws
        return self.space.encode(self._dequantized(self.values(pixels), positions, step=1))

    def measured(self, pixels: Tensor, places: Tensor) -> Tensor:
        """(B, C, H, W) float32 for statistics of the network's input, such as the largest distance.

        As `held_out`, but dequantized by an image's index in its data set.
        """
        # steps 0 to 2 belong to training, the held-out loss and densities
        return self.space.encode(self._dequantized(self.values(pixels), places, step=3))

    def continuous(self, pixels: Tensor, positions: Tensor) -> Tensor:
        """(B, C, H, W) float64 in [0, 1) for densities: center crop, always with uniform dequantization.

        Each of q gray levels gets a cell of width 1/q. Raises NcsnxError for data without gray levels.
        """
        gray_levels = self.gray_levels(pixels)
        # steps 0 and 1 belong to training and the held-out loss
        drawn = Stream(self.seed, Purpose.DEQUANTIZATION).uniform(positions, self.data.shape, step=2)
        return (self._cropped(pixels).double() - self.value_range[0] + drawn.double()) / gray_levels

    def gray_levels(self, pixels: Tensor) -> int:
        """Number of values that a stored pixel can have. Raises NcsnxError for data that isn't stored as integers."""
        low, high = self.value_range
        if not self.data.is_bounded:
            raise NcsnxError(
                "the data is unbounded (data.range), so it has no gray levels, and a density in its own units is not "
                "comparable; likelihoods need a run that was trained on integers between black and white"
            )
        if pixels.dtype.is_floating_point or not (float(low).is_integer() and float(high).is_integer()):
            raise NcsnxError(
                f"the data has no gray levels: expected integers in a range of integers, found "
                f"{str(pixels.dtype).removeprefix('torch.')} from {low:g} to {high:g}; likelihoods need a run that was "
                "trained on integers"
            )
        return int(high - low) + 1

    def values(self, pixels: Tensor) -> Tensor:
        """Stored pixels → values as in samples and results, with a center crop: float32, in [0, 1] if bounded."""
        return self._values(self._cropped(pixels))

    def _cropped(self, pixels: Tensor) -> Tensor:
        _, height, width = self.data.shape
        top, left = (spare // 2 for spare in self._spare)
        return pixels[..., top : top + height, left : left + width] if any(self._spare) else pixels

    @property
    def _spare(self) -> tuple[int, int]:
        """Rows and columns that a crop removes."""
        _, height, width = self.data.shape
        stored_height, stored_width = height_and_width(self.data.stored_size)
        return stored_height - height, stored_width - width

    def _cropped_at_random(self, pixels: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        if not any(self._spare):
            return pixels
        # both draws are numbered alike for every size: the first is the row's, the second the column's
        corners = [stream.integers(positions, spare + 1, (2, 1))[:, axis] for axis, spare in enumerate(self._spare)]
        rows, columns = (
            corner + torch.arange(side, device=positions.device)
            for corner, side in zip(corners, self.data.shape[1:], strict=True)
        )
        images = torch.arange(len(pixels), device=positions.device)
        # advanced indices around the channels move these to the last axis
        return pixels[images[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    def _values(self, pixels: Tensor) -> Tensor:
        (low, high), x = self.value_range, pixels.to(torch.float32)
        return (x - low) / (high - low) if self.space.bounded else x

    def _dequantized(self, x: Tensor, positions: Tensor, step: int) -> Tensor:
        stream, shape = Stream(self.seed, Purpose.DEQUANTIZATION), tuple(x.shape[1:])
        if self.data.dequantization == "uniform":
            low, high = self.value_range
            gray_levels = high - low + 1  # 256 for 8 bits
            return (x * (gray_levels - 1) + stream.uniform(positions, shape, step)) / gray_levels
        if self.data.dequantization == "gaussian":
            return x + GAUSSIAN_SIGMA * stream.normal(positions, shape, step)
        return x


def as_channels(values: Tensor) -> Tensor:
    """(N, C, H, W) complex → (N, 2C, H, W) real, each real part before its imaginary part; real ones unchanged."""
    if not values.is_complex():
        return values
    return torch.view_as_real(values).movedim(-1, 2).flatten(1, 2)


def real_parts(values: Tensor) -> Tensor:
    """Values as they are, or of complex ones the real and imaginary parts in a further, last axis."""
    return torch.view_as_real(values.resolve_conj()) if values.is_complex() else values


def require_declared(title: str, data: Data, *, is_complex: bool, type_name: str, channels: int) -> None:
    """Raises NcsnxError unless the data set is declared complex where its values are, and only there.

    title: the values, for messages. type_name: their type. channels: of the images as they are read.
    """
    if is_complex == data.is_complex:
        return
    held, declared = ("complex", "real") if is_complex else ("real", "complex")
    declared_as = "data.complex=true data.range=unbounded" if is_complex else "data.complex=false"
    raise NcsnxError(
        f"{title}: the type of the values is {held} ({type_name}), but the data set is declared {declared}",
        Hint("declare it", adds=f"{declared_as} data.channels={channels}"),
    )


def shown_pixels(images: Preprocessing, pixels: Tensor) -> Tensor:
    """Stored pixels → (B, C, H, W) uint8 in the window of the space, with a center crop, for features."""
    return to_uint8(images.space.pictures(images.values(pixels)))

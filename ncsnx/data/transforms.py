"""Stored pixels → network input, and back: batched, on the device.

The order is that of the published code: crop (if the stored images are larger), scale to [0, 1], random flip,
dequantization, then the 'rescaled' or logit transform. Unbounded values v become v / scale instead, and nothing is
clamped. Complex channel k is the channels 2k (real part) and 2k + 1 (imaginary part). Pictures show values in a window.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial

import attrs
import torch
from torch import Tensor

from ncsnx.config.data_sets import Data
from ncsnx.config.experiment import Experiment
from ncsnx.config.image_sizes import height_and_width
from ncsnx.data.dataset import Splits
from ncsnx.errors import Hint, NcsnxError
from ncsnx.images import UNIT, Window, to_uint8
from ncsnx.randomness import Purpose, Stream

LOGIT_MARGIN = 1e-6
"""λ in u = λ + (1 − 2λ)x: keeps the logit finite."""
GAUSSIAN_SIGMA = 0.01
"""Standard deviation of Gaussian dequantization."""


def from_unit(x: Tensor, data: Data) -> Tensor:
    """Images in [0, 1], or v / scale of unbounded values v → the network's range, by `data.transform`."""
    if data.transform == "rescaled":
        return 2 * x - 1
    if data.transform == "logit":
        # Gaussian dequantization leaves [0, 1], outside of which there is no logit
        u = (LOGIT_MARGIN + (1 - 2 * LOGIT_MARGIN) * x).clamp(LOGIT_MARGIN, 1 - LOGIT_MARGIN)
        return torch.log(u) - torch.log1p(-u)
    return x


def log_slope(x: Tensor, data: Data) -> Tensor:
    """(B,): ln |det ∂from_unit(x)/∂x|, in nats, of images (B, …) in [0, 1]."""
    if data.transform == "rescaled":
        return torch.full_like(x, math.log(2)).flatten(1).sum(dim=1)
    if data.transform == "logit":
        u = LOGIT_MARGIN + (1 - 2 * LOGIT_MARGIN) * x
        slopes = math.log1p(-2 * LOGIT_MARGIN) - torch.log(u) - torch.log1p(-u)
        return slopes.flatten(1).sum(dim=1)
    return torch.zeros_like(x).flatten(1).sum(dim=1)


def to_unit(x: Tensor, data: Data) -> Tensor:
    """Inverse of `from_unit`, clamped to [0, 1] if the data is bounded.

    The logit's margin is ignored, as in the published code.
    """
    if data.transform == "rescaled":
        x = (x + 1) / 2
    elif data.transform == "logit":
        x = torch.sigmoid(x)
    return x.clamp(0, 1) if data.is_bounded else x


def from_values(values: Tensor, data: Data) -> Tensor:
    """Values as in samples and results → the network's range: [0, 1] in bounded data, the data's own in unbounded.

    Raises NcsnxError for unbounded data whose scale hasn't been measured.
    """
    return from_unit(values if data.is_bounded else values / scale_of(data), data)


def to_values(x: Tensor, data: Data) -> Tensor:
    """Inverse of `from_values`; bounded data is clamped to [0, 1]. Raises as `from_values`."""
    unit = to_unit(x, data)
    return unit if data.is_bounded else unit * scale_of(data)


def require_scale(data: Data) -> None:
    """Raises NcsnxError for unbounded data whose scale is neither declared nor measured."""
    if not data.is_bounded:
        scale_of(data)


def scale_of(data: Data) -> float:
    """The value of unbounded data that becomes 1. Raises NcsnxError if it is neither declared nor measured."""
    scale: float | None = getattr(data, "scale", None)
    if scale is None:
        raise NcsnxError(
            "the scale of the unbounded data is not known",
            Hint("declare it, 1 for a network that takes the values as they are", adds="data.scale=1"),
        )
    return scale


@attrs.frozen
class Preprocessing:
    """Stored pixels → network input. All randomness is a function of (seed, position)."""

    data: Data
    value_range: tuple[float, float]
    """The stored values that become 0 and 1: see `Dataset.value_range`."""
    seed: int

    def training(self, pixels: Tensor, positions: Tensor, streams: Callable[[Purpose], Stream] | None = None) -> Tensor:
        """(B, C, H, W) float32 for training: randomly cropped, flipped and dequantized by position in the stream.

        streams: the streams of the seed.
        """
        of = partial(Stream, self.seed) if streams is None else streams
        x = self._scaled(self._cropped_at_random(pixels, positions, of(Purpose.CROP)))
        if self.data.random_flip:
            mirrored = of(Purpose.FLIP).uniform(positions, (1, 1, 1)) < 0.5
            x = torch.where(mirrored, x.flip(-1), x)
        return from_unit(self._dequantized(x, positions, step=0), self.data)

    def held_out(self, pixels: Tensor, positions: Tensor) -> Tensor:
        """(B, C, H, W) float32 for evaluation: as in training, but with a centre crop and without flips."""
        # the training stream has step 0; step 1 gives other draws
        return from_unit(self._dequantized(self.unit(pixels), positions, step=1), self.data)

    def measured(self, pixels: Tensor, places: Tensor) -> Tensor:
        """(B, C, H, W) float32 for statistics of the network's input, such as the largest distance.

        As `held_out`, but dequantized by an image's index in its data set.
        """
        # steps 0 to 2 belong to training, the held-out loss and densities
        return from_unit(self._dequantized(self.unit(pixels), places, step=3), self.data)

    def continuous(self, pixels: Tensor, positions: Tensor) -> Tensor:
        """(B, C, H, W) float64 in [0, 1) for densities: centre crop, always with uniform dequantization.

        Each of q grey levels gets a cell of width 1/q. Raises NcsnxError for data without grey levels.
        """
        grey_levels = self.grey_levels(pixels)
        # steps 0 and 1 belong to training and the held-out loss
        drawn = Stream(self.seed, Purpose.DEQUANTIZATION).uniform(positions, self.data.shape, step=2)
        return (self._cropped(pixels).double() - self.value_range[0] + drawn.double()) / grey_levels

    def grey_levels(self, pixels: Tensor) -> int:
        """Number of values that a stored pixel can have. Raises NcsnxError for data that isn't stored as integers."""
        low, high = self.value_range
        if not self.data.is_bounded:
            raise NcsnxError(
                "the data is unbounded (data.range), so it has no grey levels, and a density in its own units is not "
                "comparable; likelihoods need a run that was trained on integers between black and white"
            )
        if pixels.dtype.is_floating_point or not (float(low).is_integer() and float(high).is_integer()):
            raise NcsnxError(
                f"the data has no grey levels: expected integers in a range of integers, found "
                f"{str(pixels.dtype).removeprefix('torch.')} from {low:g} to {high:g}; likelihoods need a run that was "
                "trained on integers"
            )
        return int(high - low) + 1

    def unit(self, pixels: Tensor) -> Tensor:
        """Stored pixels → float32 in [0, 1], with a centre crop if they are larger than `data.shape`.

        Unbounded values become v / scale.
        """
        return self._scaled(self._cropped(pixels))

    def values(self, pixels: Tensor) -> Tensor:
        """Stored pixels → values as in samples and results, with a centre crop: float32, in [0, 1] if bounded."""
        return self.unit(pixels) if self.data.is_bounded else self._cropped(pixels).to(torch.float32)

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

    def _scaled(self, pixels: Tensor) -> Tensor:
        low, high = self.value_range
        x = pixels.to(torch.float32)
        return (x - low) / (high - low)

    def _dequantized(self, x: Tensor, positions: Tensor, step: int) -> Tensor:
        stream, shape = Stream(self.seed, Purpose.DEQUANTIZATION), tuple(x.shape[1:])
        if self.data.dequantization == "uniform":
            low, high = self.value_range
            grey_levels = high - low + 1  # 256 for 8 bits
            return (x * (grey_levels - 1) + stream.uniform(positions, shape, step)) / grey_levels
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


def window_of(data: Data) -> Window:
    """The window of values as in samples and results: [0, 1] for bounded data.

    For unbounded data `data.window_low` to `data.window_high`; by default −scale to scale, or for complex data its
    magnitude from 0 to scale. Raises NcsnxError for unbounded data whose scale hasn't been measured.
    """
    if data.is_bounded:
        return UNIT
    scale = scale_of(data)
    low, high = (getattr(data, name, None) for name in ("window_low", "window_high"))
    if low is None:
        low = 0.0 if data.is_complex else -scale
        low = low if high is None or low < high else high - scale
    if high is None:
        high = scale if low < scale else low + scale
    return Window(low, high, data.is_complex)


def shown_pixels(images: Preprocessing, pixels: Tensor) -> Tensor:
    """Stored pixels → (B, C, H, W) uint8 in the window of the data, with a centre crop, for features."""
    return to_uint8(window_of(images.data)(images.values(pixels)))


MOST_IMAGES, _CHUNK = 1_024, 64
"""Number of images that are measured at most, and of those read at a time."""


def measured_mean(data: Data, splits: Splits) -> tuple[float, ...]:
    """Mean of each channel in the network's range, over at most 1,024 training images, evenly spread over the set.

    To four significant digits, so that no rounding of a sum shows.
    """
    means = torch.cat([images.mean(dim=(2, 3)) for images in _measured_images(data, splits)])
    return tuple(float(f"{value:.4g}") for value in means.mean(dim=0))


def measured_sigma_data(data: Data, splits: Splits) -> float:
    """Root mean square of the images of `measured_mean` around the middle of the network's range, to four digits."""
    center = middle_of(data)
    squares = [(images - center).square().mean(dim=(1, 2, 3)) for images in _measured_images(data, splits)]
    size = float(f"{torch.cat(squares).mean().sqrt():.4g}")
    if size == 0:
        raise NcsnxError("all images are equal and have one value", Hint("give it a size", adds="data.sigma_data=0.5"))
    return size


def _measured_images(data: Data, splits: Splits) -> Iterator[Tensor]:
    """The images that are measured, in chunks of (B, C, H, W) float64, in the network's range."""
    images = torch.linspace(0, len(splits.train) - 1, min(len(splits.train), MOST_IMAGES)).long()
    preprocessing = Preprocessing(data, splits.train.value_range, seed=0)
    for chunk in torch.split(images, _CHUNK):
        yield preprocessing.measured(splits.train.read(chunk).pixels, chunk).double()


def middle_of(data: Data) -> float:
    """The middle of the network's range: the value of ½ in [0, 1], or of 0 in unbounded data."""
    return float(from_unit(torch.tensor(0.5 if data.is_bounded else 0.0), data))


def require_sigma_data(experiment: Experiment) -> None:
    """Raises NcsnxError if σ_data is neither given nor measured, and the experiment depends on it."""
    if experiment.uses_sigma_data and experiment.data.sigma_data is None:
        raise NcsnxError(
            "the root mean square of the training images is not known", Hint("give it", adds="data.sigma_data=0.5")
        )


def sigma_data_of(data: Data) -> float:
    """σ_data as given or measured; before a run starts, a quarter of the distance from black to white."""
    if data.sigma_data is not None:
        return data.sigma_data
    black, white = from_unit(torch.tensor([0.0, 1.0]), data).tolist()
    return float(white - black) / 4


def start_mean(data: Data) -> torch.Tensor:
    """(C, 1, 1): the recorded mean of each channel, around which samplers start; without one, the range's middle.

    σ_1 is only about the largest distance between two images, so that noise of σ_1 does not hide where it is centred: a
    deterministic solver keeps a share of the offset between the start and the data.
    """
    if data.mean is None:
        return from_unit(torch.full((data.channels, 1, 1), 0.5), data)
    return torch.tensor(data.mean).view(-1, 1, 1)

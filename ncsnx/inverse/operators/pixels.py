"""Operators on pixels: a mask, averages of squares, the gray of colors, and the picture itself."""

import math
from collections.abc import Callable
from functools import cached_property
from typing import ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from ncsnx.errors import NcsnxError
from ncsnx.inverse.operators.linear_operator import LinearOperator, PlacedTensor, Selecting
from ncsnx.inverse.operators.measurement_map import NoisyPicture
from ncsnx.quantities import counted

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a gray picture: ITU-R BT.601, as in Pillow and most other programs."""


@attrs.frozen(eq=False)
class Masking(Selecting):
    """Measurement of some pixels: inpainting and outpainting."""

    known: Tensor
    """Mask of the known pixels, (C, H, W) bool."""
    shape: tuple[int, int, int] = attrs.field(init=False)

    @shape.default
    def _shape(self) -> tuple[int, ...]:
        return tuple(self.known.shape)

    @property
    def _measured(self) -> Tensor:
        return self.known

    @property
    def singular_values(self) -> Tensor:
        """All 1."""
        return torch.ones(len(self._places.tensor))

    def transform(self, x: Tensor) -> Tensor:
        """The values of the pixels."""
        return x.flatten(1)

    def inverse(self, c: Tensor) -> Tensor:
        """The image of these pixel values."""
        return c.view(-1, *self.shape)


@attrs.frozen(eq=False)
class Identity(NoisyPicture, LinearOperator):
    """Measurement of all pixels, which noise makes one: denoising."""

    shape: tuple[int, int, int]

    @property
    def singular_values(self) -> Tensor:
        """All 1."""
        return torch.ones(1).expand(math.prod(self.shape))

    def coefficients(self, x: Tensor) -> Tensor:
        """The values of the pixels."""
        return x.flatten(1)

    def images(self, c: Tensor) -> Tensor:
        """The image of these pixel values."""
        return c.view(-1, *self.shape)

    def noisy(self, values: Tensor, noise: float | Tensor, draw: Callable[[], Tensor]) -> Tensor:
        """The picture itself."""
        return self.images(values.float())


@attrs.frozen(eq=False)
class Averaging(LinearOperator):
    """Means of blocks of `factor` × `factor` pixels: super-resolution by an integer factor."""

    shape: tuple[int, int, int]
    factor: int

    def __attrs_post_init__(self) -> None:
        _, height, width = self.shape
        if self.factor < 1 or height % self.factor or width % self.factor:
            raise NcsnxError(f"a factor of {self.factor} does not divide images of {height}×{width} pixels")

    @property
    def small(self) -> tuple[int, int, int]:
        """Shape of the measured pictures: (C, H / factor, W / factor)."""
        channels, height, width = self.shape
        return channels, height // self.factor, width // self.factor

    @property
    def singular_values(self) -> Tensor:
        """All 1/factor."""
        return torch.full((math.prod(self.small),), 1 / self.factor)

    def coefficients(self, x: Tensor) -> Tensor:
        """The means times the factor."""
        return self.factor * functional.avg_pool2d(x, self.factor).flatten(1)

    def images(self, c: Tensor) -> Tensor:
        """Images of constant blocks."""
        blocks = c.view(-1, *self.small).repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)
        return blocks / self.factor


@attrs.frozen(eq=False)
class Graying(LinearOperator):
    """A weighted sum of the channels: colorization."""

    shape: tuple[int, int, int]
    weights: tuple[float, ...] = LUMA

    def __attrs_post_init__(self) -> None:
        if len(self.weights) != self.shape[0]:
            raise NcsnxError(f"expected {counted(self.shape[0], 'weight')}, one per channel, found {self.weights}")

    @property
    def singular_values(self) -> Tensor:
        """The norm of the weights."""
        return torch.full((math.prod(self.shape[1:]),), math.hypot(*self.weights))

    def coefficients(self, x: Tensor) -> Tensor:
        """The component along the weights."""
        return torch.einsum("bchw,c->bhw", x, self._direction.like(x)).flatten(1)

    def images(self, c: Tensor) -> Tensor:
        """Images in shades of the color of the weights."""
        _, height, width = self.shape
        return c.view(-1, 1, height, width) * self._direction.like(c).view(1, -1, 1, 1)

    @cached_property
    def _direction(self) -> PlacedTensor:
        return PlacedTensor(torch.tensor(self.weights, dtype=torch.float64) / math.hypot(*self.weights))


@attrs.frozen(eq=False)
class GrayPicture(NoisyPicture, Graying):
    """Measurement of a picture without colors by a model of colors: the mean of the channels.

    The gray direction (1, …, 1)/√C has the singular value 1/√C, so that noise of γ in the gray picture is noise of √C γ
    along it. With as much noise drawn in the other directions, in which a gray picture is 0, the noise is white.
    """

    weights: tuple[float, ...] = attrs.field(init=False)
    evaluations: ClassVar[int] = 4

    @weights.default
    def _mean(self) -> tuple[float, ...]:
        return (1 / self.shape[0],) * self.shape[0]

    def noisy(self, values: Tensor, noise: float | Tensor, draw: Callable[[], Tensor]) -> Tensor:
        """The gray picture in each channel, with noise drawn in the directions of colors."""
        drawn = draw().to(values.device)
        colors = drawn - self.images(self.coefficients(drawn))
        return self.images(values.float()) + self.deviation(noise) * colors

    def finished(self, images: Tensor, values: Tensor) -> Tensor:
        """The images without colors."""
        return without_colors(images)


def without_colors(images: Tensor) -> Tensor:
    """The mean of the channels, in each: (B, C, H, W)."""
    return images.mean(dim=1, keepdim=True).expand_as(images)

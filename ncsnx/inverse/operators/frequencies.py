"""Operators that are diagonal in frequencies: a blur, and a part of the Fourier transform."""

import math
from functools import cache

import attrs
import torch
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.inverse.operators.linear_operator import PlacedTensor, Selecting
from ncsnx.inverse.operators.measurement_map import LinearMap


@attrs.frozen(eq=False)
class Blurring(Selecting):
    """A Gaussian blur of `sigma` pixels, with mirrored edges.

    A symmetric kernel with mirrored edges is diagonal in the cosine transform DCT-II (Martucci 1994). Frequencies with
    a response below `cutoff` count as not measured, since their values would be rounding errors.
    """

    shape: tuple[int, int, int]
    sigma: float
    cutoff: float = 1e-2

    def __attrs_post_init__(self) -> None:
        side = min(self.shape[1:])
        if not 0 < self.sigma < side:
            raise NcsnxError(f"a blur of {self.sigma:g} pixels: expected more than 0 and less than {side}")

    @property
    def _measured(self) -> Tensor:
        return self._response.expand(self.shape) >= self.cutoff

    @property
    def singular_values(self) -> Tensor:
        """The response at each measured frequency, in every channel."""
        return self._response.expand(self.shape).flatten()[self._places.tensor].float()

    def transform(self, x: Tensor) -> Tensor:
        """The cosine transform of each channel."""
        down, across = (_cosines(size).like(x) for size in self.shape[1:])
        return (down @ x @ across.T).flatten(1)

    def inverse(self, c: Tensor) -> Tensor:
        """The inverse cosine transform."""
        down, across = (_cosines(size).like(c) for size in self.shape[1:])
        return down.T @ c.view(-1, *self.shape) @ across

    def of_measurement(self, y: Tensor) -> Tensor:
        """Uᵀ y of blurred pictures y: (B, C, H, W) → (B, M)."""
        if tuple(y.shape[1:]) != self.shape:
            raise NcsnxError(f"expected blurred pictures of {self.shape}, found {tuple(y.shape[1:])}")
        return self.coefficients(y)

    @property
    def unmixed(self) -> LinearMap:
        """The map to blurred pictures."""
        return _Blurred(self)

    @property
    def _response(self) -> Tensor:
        """Response of the kernel at each frequency, (H, W) float64."""
        down, across = (_response(size, self.sigma) for size in self.shape[1:])
        return down[:, None] * across


@attrs.frozen(eq=False)
class _Blurred(LinearMap):
    """A blur as a map to pictures: symmetric, A = V Σ Vᵀ."""

    blurring: Blurring

    @property
    def shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        return self.blurring.shape

    @property
    def measured_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.blurring.shape

    def apply(self, x: Tensor) -> Tensor:
        return self.blurring.images(self.blurring.apply(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.apply(y)


@attrs.frozen(eq=False)
class Fourier(Selecting):
    """Some frequencies of the unitary discrete Fourier transform: magnetic resonance.

    One channel: real images, where a frequency and its mirror image are conjugates. Two channels: real and imaginary
    part. Frequencies are in the order of `torch.fft.fft2`, (0, 0) first.
    """

    shape: tuple[int, int, int]
    measured: Tensor
    """Mask of the measured frequencies, (H, W) bool."""

    def __attrs_post_init__(self) -> None:
        if self.shape[0] not in (1, 2):
            raise NcsnxError(f"Fourier measurements are for images of 1 or 2 channels, not {self.shape[0]}")
        if tuple(self.measured.shape) != self.shape[1:]:
            raise NcsnxError(f"expected frequencies of shape {self.shape[1:]}, found {tuple(self.measured.shape)}")

    @property
    def _measured(self) -> Tensor:
        return (self.measured | _mirrored(self.measured) if self.shape[0] == 1 else self.measured).expand(self.shape)

    @property
    def singular_values(self) -> Tensor:
        """1, for noise of γ in real and imaginary parts; √½ for a real image if only one of a frequency and its mirror
        image is measured, since two coefficients then follow from the sum and the difference of its parts.
        """
        if self.shape[0] == 2:
            return torch.ones(len(self._places.tensor))
        alone = self.measured ^ _mirrored(self.measured)
        return torch.where(alone.flatten()[self._places.tensor], math.sqrt(0.5), 1.0)

    def transform(self, x: Tensor) -> Tensor:
        """Real images: the Hartley transform Re − Im, which is orthonormal; else real parts, then imaginary parts."""
        if self.shape[0] == 1:
            return _hartley(x[:, 0]).flatten(1)
        return _parts(torch.fft.fft2(torch.complex(x[:, 0], x[:, 1]), norm="ortho"))

    def inverse(self, c: Tensor) -> Tensor:
        """The inverse transform."""
        spectrum = c.view(-1, *self.shape)
        if self.shape[0] == 1:
            return _hartley(spectrum)
        return _parts(torch.fft.ifft2(torch.complex(spectrum[:, 0], spectrum[:, 1]), norm="ortho")).view_as(spectrum)

    def of_spectrum(self, spectrum: Tensor, noise: Tensor | None = None) -> Tensor:
        """Coefficients of (B, H, W) complex frequencies, averaged with measured mirror images for real images.

        noise: (B or 1, H, W), the standard deviation of each part of each frequency, by which the mean is weighted.
        """
        if self.shape[0] == 2:
            return _parts(spectrum)[:, self._places.tensor]
        weights = self._weights(noise)
        # of a real image F(−k) is the conjugate of F(k)
        total = weights * spectrum + _mirrored(weights) * _mirrored(spectrum).conj()
        mean = total / (weights + _mirrored(weights)).where(self._measured, 1.0)
        return (mean.real - mean.imag).flatten(1)[:, self._places.tensor].to(spectrum.real)

    def of_noise(self, noise: Tensor) -> Tensor:
        """The noise of Uᵀ y, (B, M), for `of_spectrum` with this noise, (B, H, W), whose parts are independent."""
        if self.shape[0] == 2:
            return noise[:, None].expand(-1, *self.shape).flatten(1)[:, self._places.tensor]
        weights = self._weights(noise)
        of_both = (2 / (weights + _mirrored(weights))).sqrt().flatten(1)[:, self._places.tensor]
        return of_both * self.singular_values

    def _weights(self, noise: Tensor | None) -> Tensor:
        """(1 or B, H, W), 0 for frequencies that aren't measured."""
        return self.measured.double()[None] if noise is None else torch.where(self.measured, noise.double() ** -2, 0.0)


def _parts(x: Tensor) -> Tensor:
    """(B, H, W) complex → (B, 2·H·W): real parts, then imaginary parts."""
    return torch.stack([x.real, x.imag], dim=1).flatten(1)


@cache
def _cosines(size: int) -> PlacedTensor:
    """The orthonormal DCT-II, (size, size) float64, one row per frequency."""
    frequency, place = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)
    rows = math.sqrt(2 / size) * torch.cos(math.pi * frequency * (place + 0.5) / size)
    rows[0] /= math.sqrt(2)
    return PlacedTensor(rows)


@cache
def _response(size: int, sigma: float) -> Tensor:
    """Response of a normalized Gaussian kernel at each frequency of the DCT-II, (size,) float64."""
    reach = math.ceil(6 * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    frequencies = torch.arange(size, dtype=torch.float64)
    return torch.cos(math.pi * frequencies[:, None] * offsets / size) @ (kernel / kernel.sum())


def _hartley(x: Tensor) -> Tensor:
    spectrum: Tensor = torch.fft.fft2(x, norm="ortho")
    difference: Tensor = spectrum.real - spectrum.imag
    return difference


def _mirrored(x: Tensor) -> Tensor:
    """x at the negated frequencies."""
    return x.flip((-2, -1)).roll((1, 1), (-2, -1))

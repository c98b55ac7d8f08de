"""Linear operators A of images, by their singular value decomposition A = U Σ Vᵀ.

Samplers need V: orthonormal directions in the space of images that A measures; the other directions are its null space.
`coefficients` is Vᵀ, `images` is V, and V Vᵀ projects on the measured subspace.

An operator of your own has a shape, singular values and these two functions and, if U isn't the identity,
`of_measurement`; docs/adding/operator.md has an example. For a matrix, use `MatrixOperator`.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from functools import cache, cached_property
from typing import ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from ncsnx.errors import NcsnxError
from ncsnx.inverse.measurement_map import LinearMap, NoisyPicture, require_scale
from ncsnx.quantities import counted

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a gray picture: ITU-R BT.601, as in Pillow and most other programs."""


@attrs.define(eq=False)
class PlacedTensor:
    """A tensor with copies on the devices and in the precisions in which it was asked for.

    So an evaluation copies nothing to a GPU, which would wait for it.
    """

    tensor: Tensor
    _copies: dict[tuple[torch.device, torch.dtype], Tensor] = attrs.field(factory=dict, init=False)

    def like(self, x: Tensor) -> Tensor:
        """The tensor on the device of x; float32 values of x make it float32 or complex64. Indices stay int64."""
        wide, kinds = x.dtype in (torch.float64, torch.complex128), (torch.float32, torch.float64)
        if self.tensor.is_complex():
            kinds = (torch.complex64, torch.complex128)
        key = (x.device, torch.int64 if self.tensor.dtype == torch.int64 else kinds[wide])
        if key not in self._copies:
            self._copies[key] = self.tensor.to(*key)
        return self._copies[key]


class LinearOperator(LinearMap):
    """A linear operator A of rank M from images (C, H, W) to measurements; as a map it is Uᵀ A = Σ Vᵀ."""

    in_words: ClassVar[str] = "an operator with singular values"

    @property
    @abstractmethod
    def singular_values(self) -> Tensor:
        """Diagonal of Σ, (M,), all > 0."""

    @cached_property
    def placed_singular_values(self) -> PlacedTensor:
        """The same on any device."""
        return PlacedTensor(self.singular_values)

    @abstractmethod
    def coefficients(self, x: Tensor) -> Tensor:
        """Vᵀ x: (B, C, H, W) → (B, M), in the precision of x: float32 or float64."""

    @abstractmethod
    def images(self, c: Tensor) -> Tensor:
        """V c: (B, M) → (B, C, H, W)."""

    @property
    def measured_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(M,)."""
        return (len(self.singular_values),)

    @cached_property
    def norm(self) -> float:
        """The largest singular value."""
        return float(self.singular_values.max())

    def apply(self, x: Tensor) -> Tensor:
        """Uᵀ A x = Σ Vᵀ x: (B, C, H, W) → (B, M)."""
        return self.placed_singular_values.like(x) * self.coefficients(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """V Σ y: (B, M) → (B, C, H, W)."""
        return self.images(self.placed_singular_values.like(y) * y)

    def of_measurement(self, y: Tensor) -> Tensor:
        """Uᵀ y of measurements y = A x: (B, …) → (B, M).

        By default U = 1, and each y has M values in any shape. Raises NcsnxError for measurements of another shape.
        """
        rank = len(self.singular_values)
        if y.dim() < 2 or math.prod(y.shape[1:]) != rank:
            raise NcsnxError(f"{type(self).__name__}: expected measurements (P, {rank}), found {tuple(y.shape)}")
        return y.flatten(1)

    @property
    def unmixed(self) -> LinearMap:
        """The map to the measurements themselves, whose noise is independent: the operator, if U = 1.

        Raises NcsnxError for an operator that mixes values (`of_measurement`) and has no such map.
        """
        if type(self).of_measurement is LinearOperator.of_measurement:
            return self
        raise NcsnxError(
            f"{type(self).__name__} mixes values whose noise differs: expected `unmixed`, a LinearMap to the values "
            "themselves"
        )

    def check(self) -> None:
        """Raises NcsnxError as for any linear map, and unless V is orthonormal."""
        name, singular = type(self).__name__, self.singular_values
        if singular.dim() != 1 or len(singular) == 0 or not bool(((singular > 0) & singular.isfinite()).all()):
            raise NcsnxError(
                f"{name}.singular_values must be (M,), finite and above 0; leave out directions that are not measured"
            )
        super().check()
        c = torch.randn(2, len(singular), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        if not torch.allclose(self.coefficients(self.images(c)), c, rtol=1e-4, atol=1e-4):
            raise NcsnxError(
                f"{name}: coefficients(images(c)) must be c, but it is not: the directions are not orthonormal"
            )


class Selecting(LinearOperator):
    """Some of the N = C·H·W coefficients of an orthonormal transform of the images: masks, blurs, frequencies."""

    @property
    @abstractmethod
    def _measured(self) -> Tensor:
        """Mask of the measured coefficients in the shape of the images, (C, H, W) bool."""

    @cached_property
    def _places(self) -> PlacedTensor:
        """Indices of the measured coefficients, (M,) int64."""
        return PlacedTensor(self._measured.flatten().nonzero().flatten())

    @abstractmethod
    def transform(self, x: Tensor) -> Tensor:
        """The orthonormal transform, (B, C, H, W) → (B, N)."""

    @abstractmethod
    def inverse(self, c: Tensor) -> Tensor:
        """The inverse transform, (B, N) → (B, C, H, W)."""

    def coefficients(self, x: Tensor) -> Tensor:
        """The measured coefficients of the transform."""
        return self.transform(x).index_select(1, self._places.like(x))

    def images(self, c: Tensor) -> Tensor:
        """The inverse transform, with 0 for coefficients that aren't measured."""
        whole = c.new_zeros(len(c), math.prod(self.shape))
        return self.inverse(whole.index_copy(1, self._places.like(c), c))


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


@attrs.frozen(eq=False)
class MatrixOperator(LinearOperator):
    """A matrix (m, C·H·W), decomposed when it is first used; for small images.

    Raises NcsnxError for a matrix of another shape, without rows, of zeros only, with values that aren't finite, or too
    large or small for single precision.
    """

    shape: tuple[int, int, int]
    matrix: Tensor = attrs.field(converter=torch.as_tensor)

    def __attrs_post_init__(self) -> None:
        size = math.prod(self.shape)
        if self.matrix.dim() != 2 or self.matrix.shape[1] != size or len(self.matrix) == 0:
            raise NcsnxError(f"expected a matrix (m, {size}) for such images, found {tuple(self.matrix.shape)}")
        if self.matrix.is_complex() or not bool(torch.isfinite(self.matrix).all()):
            raise NcsnxError("expected a matrix of finite real numbers")
        require_scale(self.matrix[None], "a matrix")

    @cached_property
    def _decomposed(self) -> tuple[PlacedTensor, Tensor, PlacedTensor]:
        """U, Σ and Vᵀ."""
        u, s, vh = torch.linalg.svd(self.matrix.detach().double(), full_matrices=False)
        seen = s > 1e-6 * s[0]
        return PlacedTensor(u[:, seen]), s[seen], PlacedTensor(vh[seen])

    @property
    def singular_values(self) -> Tensor:
        """Singular values above 10⁻⁶ times the largest."""
        return self._decomposed[1].float()

    def coefficients(self, x: Tensor) -> Tensor:
        """Vᵀ x."""
        return x.flatten(1) @ self._decomposed[2].like(x).T

    def images(self, c: Tensor) -> Tensor:
        """V c."""
        return (c @ self._decomposed[2].like(c)).view(-1, *self.shape)

    def of_measurement(self, y: Tensor) -> Tensor:
        """Uᵀ y of values in the order of the matrix's rows: (B, m) → (B, M)."""
        if y.dim() != 2 or y.shape[1] != len(self.matrix):
            raise NcsnxError(f"expected measurements (P, {len(self.matrix)}), one per row, found {tuple(y.shape)}")
        return y @ self._decomposed[0].like(y)

    @property
    def unmixed(self) -> LinearMap:
        """The matrix as it is."""
        return _Rows(self.shape, PlacedTensor(self.matrix.detach().double()))


@attrs.frozen(eq=False)
class _Rows(LinearMap):
    """A matrix (m, C·H·W), as a map to its m values."""

    shape: tuple[int, int, int]
    matrix: PlacedTensor

    @property
    def measured_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (len(self.matrix.tensor),)

    def apply(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.like(x).T

    def adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.matrix.like(y)).view(-1, *self.shape)


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

"""Linear operators A of images, by their singular value decomposition A = U Σ Vᵀ.

What samplers need of A is V: the orthonormal directions of the space of images that A sees, so that the rest is its
null space. `coefficients` is Vᵀ, `images` is V, and V Vᵀ projects on what is measured.

One of your own has a shape, singular values and these two functions; where U isn't the identity, `of_measurement` too.
docs/guides/inverse-problems.md has a whole one. Or it is a matrix: `MatrixOperator`.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from functools import cache

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey picture: ITU-R BT.601, as Pillow and most other programs take them."""


class LinearOperator(ABC):
    """A: images (C, H, W) → measurements. M is its rank."""

    shape: tuple[int, int, int]

    @property
    @abstractmethod
    def singular_values(self) -> Tensor:
        """(M,): the diagonal of Σ, all above 0."""

    @abstractmethod
    def coefficients(self, x: Tensor) -> Tensor:
        """Vᵀ x: (B, C, H, W) → (B, M)."""

    @abstractmethod
    def images(self, c: Tensor) -> Tensor:
        """V c: (B, M) → (B, C, H, W)."""

    def measure(self, x: Tensor) -> Tensor:
        """Uᵀ A x = Σ Vᵀ x: (B, C, H, W) → (B, M)."""
        return self.singular_values.to(x) * self.coefficients(x)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """A⁺ U y = V Σ⁻¹ y: (B, M) → (B, C, H, W)."""
        return self.images(y / self.singular_values.to(y))

    def of_measurement(self, y: Tensor) -> Tensor:
        """Uᵀ y of measurements y = A x: (B, …) → (B, M). Here U = 1, and y are M values each, in any shape.

        Raises NcsnxError for measurements of another shape.
        """
        rank = len(self.singular_values)
        if y.dim() < 2 or math.prod(y.shape[1:]) != rank:
            raise NcsnxError(f"{type(self).__name__}: expected measurements (P, {rank}), found {tuple(y.shape)}")
        return y.flatten(1)

    def check(self) -> None:
        """Raises NcsnxError where V isn't orthonormal, or a function gives another shape than it should."""
        name, singular = type(self).__name__, self.singular_values
        if singular.dim() != 1 or len(singular) == 0:
            raise NcsnxError(f"{name}.singular_values must be (M,), with M above 0, and are {tuple(singular.shape)}")
        if not bool((singular > 0).all() and singular.isfinite().all()):
            raise NcsnxError(f"{name}.singular_values must be above 0, and one is not; leave out what is not measured")
        generator = torch.Generator().manual_seed(0)
        c = torch.randn(2, len(singular), generator=generator, dtype=torch.float64)
        other = torch.randn(2, *self.shape, generator=generator, dtype=torch.float64)
        operator = in_any_precision(self)
        try:
            x = operator.images(c)
            if tuple(x.shape) != (2, *self.shape):
                raise NcsnxError(f"{name}.images gave {tuple(x.shape)} instead of {(2, *self.shape)}")
            back, seen = operator.coefficients(x), operator.coefficients(other)
        except RuntimeError as error:  # as torch has it for types and shapes that don't go together
            raise NcsnxError(f"{name} fails on 2 images of {tuple(self.shape)}: {error}") from error
        if back.shape != c.shape or not torch.allclose(back, c, rtol=1e-4, atol=1e-4):
            raise NcsnxError(
                f"{name}: coefficients(images(c)) must be c, and is not: its directions are not orthonormal"
            )
        products = (seen * c).sum(), (other * x).sum()
        if not torch.allclose(*products, rtol=1e-4, atol=1e-4 * math.sqrt(c.numel())):
            raise NcsnxError(f"{name}: images must be the transpose of coefficients, and is not")


class Selecting(LinearOperator):
    """Some coefficients of an orthonormal transform of the images, of N = C·H·W: masks, blurs, frequencies."""

    _places: Tensor
    """(M,) int64: which."""

    @abstractmethod
    def transform(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, N), orthonormal."""

    @abstractmethod
    def inverse(self, c: Tensor) -> Tensor:
        """(B, N) → (B, C, H, W)."""

    def coefficients(self, x: Tensor) -> Tensor:
        """Those of the transform that are measured."""
        return self.transform(x).index_select(1, self._places.to(x.device))

    def images(self, c: Tensor) -> Tensor:
        """The inverse transform, 0 where nothing is measured."""
        whole = c.new_zeros(len(c), math.prod(self.shape))
        return self.inverse(whole.index_copy(1, self._places.to(c.device), c))


@attrs.frozen(eq=False)
class Masking(Selecting):
    """Known pixels: inpainting and outpainting."""

    known: Tensor
    """(C, H, W) bool."""
    shape: tuple[int, int, int] = attrs.field(init=False)
    _places: Tensor = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.known.shape))
        object.__setattr__(self, "_places", _places(self.known))

    @property
    def singular_values(self) -> Tensor:
        """All 1."""
        return torch.ones(len(self._places))

    def transform(self, x: Tensor) -> Tensor:
        """The values of the pixels."""
        return x.flatten(1)

    def inverse(self, c: Tensor) -> Tensor:
        """Pixels in their places."""
        return c.view(-1, *self.shape)


@attrs.frozen(eq=False)
class Averaging(LinearOperator):
    """Means of squares of `factor` × `factor` pixels: super-resolution by an integer."""

    shape: tuple[int, int, int]
    factor: int

    def __attrs_post_init__(self) -> None:
        _, height, width = self.shape
        if self.factor < 1 or height % self.factor or width % self.factor:
            raise NcsnxError(f"a factor of {self.factor} does not divide images of {height}×{width} pixels")

    @property
    def small(self) -> tuple[int, int, int]:
        """(C, H / factor, W / factor)."""
        channels, height, width = self.shape
        return channels, height // self.factor, width // self.factor

    @property
    def singular_values(self) -> Tensor:
        """All 1/factor."""
        return torch.full((math.prod(self.small),), 1 / self.factor)

    def coefficients(self, x: Tensor) -> Tensor:
        """The means, times the factor."""
        return self.factor * functional.avg_pool2d(x, self.factor).flatten(1)

    def images(self, c: Tensor) -> Tensor:
        """Squares of one value."""
        squares = c.view(-1, *self.small).repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)
        return squares / self.factor


@attrs.frozen(eq=False)
class Graying(LinearOperator):
    """A weighted sum of the channels: colorization."""

    shape: tuple[int, int, int]
    weights: tuple[float, ...] = LUMA

    def __attrs_post_init__(self) -> None:
        if len(self.weights) != self.shape[0]:
            raise NcsnxError(f"{counted(len(self.weights), 'weight')} of channels for images of {self.shape[0]}")

    @property
    def singular_values(self) -> Tensor:
        """The norm of the weights."""
        return torch.full((math.prod(self.shape[1:]),), math.hypot(*self.weights))

    def coefficients(self, x: Tensor) -> Tensor:
        """The component along the weights."""
        return torch.einsum("bchw,c->bhw", x, self._direction.to(x)).flatten(1)

    def images(self, c: Tensor) -> Tensor:
        """Shades of one colour, that of the weights."""
        _, height, width = self.shape
        return c.view(-1, 1, height, width) * self._direction.to(c).view(1, -1, 1, 1)

    @property
    def _direction(self) -> Tensor:
        return torch.tensor(self.weights, dtype=torch.float64) / math.hypot(*self.weights)


@attrs.frozen(eq=False)
class Blurring(Selecting):
    """A Gaussian blur of `sigma` pixels, of an image that goes on mirrored beyond its edges.

    A symmetric kernel with mirrored edges is diagonal in the cosine transform DCT-II (Martucci 1994). Frequencies that
    it weakens below `cutoff` count as not measured: their values would be rounding.
    """

    shape: tuple[int, int, int]
    sigma: float
    cutoff: float = 1e-2
    _places: Tensor = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        if not 0 < self.sigma < min(self.shape[1:]):
            raise NcsnxError(
                f"a blur of {self.sigma:g} pixels, in images of {self.shape[1]}×{self.shape[2]}: expected more than 0 "
                f"and less than {min(self.shape[1:])}, their shorter side"
            )
        object.__setattr__(self, "_places", _places(self._response.expand(self.shape) >= self.cutoff))

    @property
    def singular_values(self) -> Tensor:
        """The response at each frequency that is measured, in every channel."""
        return self._response.expand(self.shape).flatten()[self._places].float()

    def transform(self, x: Tensor) -> Tensor:
        """The cosine transform of each channel."""
        down, across = (_cosines(size).to(x) for size in self.shape[1:])
        return (down @ x @ across.T).flatten(1)

    def inverse(self, c: Tensor) -> Tensor:
        """The inverse cosine transform."""
        down, across = (_cosines(size).to(c) for size in self.shape[1:])
        return down.T @ c.view(-1, *self.shape) @ across

    def of_measurement(self, y: Tensor) -> Tensor:
        """That of blurred pictures: (B, C, H, W) → (B, M)."""
        if tuple(y.shape[1:]) != self.shape:
            raise NcsnxError(f"expected blurred pictures of {self.shape}, found {tuple(y.shape[1:])}")
        return self.coefficients(y)

    def blurred(self, x: Tensor) -> Tensor:
        """A x as a picture: (B, C, H, W) → the same shape."""
        response = self._response.expand(self.shape).flatten()
        return self.inverse(response.to(x) * self.transform(x))

    @property
    def _response(self) -> Tensor:
        """(H, W) float64."""
        down, across = (_response(size, self.sigma) for size in self.shape[1:])
        return down[:, None] * across


@attrs.frozen(eq=False)
class Fourier(Selecting):
    """Some frequencies of the unitary discrete Fourier transform: magnetic resonance.

    One channel: real images, where a frequency and its mirror say the same. Two channels: real and imaginary part.
    Frequencies are in the order of `torch.fft.fft2`, (0, 0) first.
    """

    shape: tuple[int, int, int]
    measured: Tensor
    """(H, W) bool."""
    _places: Tensor = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        if self.shape[0] not in (1, 2):
            raise NcsnxError(f"Fourier measurements are for images of 1 or 2 channels, not {self.shape[0]}")
        if tuple(self.measured.shape) != self.shape[1:]:
            raise NcsnxError(f"frequencies of {tuple(self.measured.shape)} for images of {self.shape[1:]}")
        seen = self.measured | _mirrored(self.measured) if self.shape[0] == 1 else self.measured
        object.__setattr__(self, "_places", _places(seen.expand(self.shape)))

    @property
    def singular_values(self) -> Tensor:
        """1, for noise of γ in real and imaginary parts. But where only one of a frequency and its mirror is measured,
        two coefficients of a real image follow from the sum and the difference of these parts: √½.
        """
        if self.shape[0] == 2:
            return torch.ones(len(self._places))
        alone = self.measured ^ _mirrored(self.measured)
        return torch.where(alone.flatten()[self._places], math.sqrt(0.5), 1.0)

    def transform(self, x: Tensor) -> Tensor:
        """Real images: Hartley's transform, Re − Im, which is orthonormal; else real parts, then imaginary ones."""
        if self.shape[0] == 1:
            return _hartley(x[:, 0]).flatten(1)
        return _parts(torch.fft.fft2(torch.complex(x[:, 0], x[:, 1]), norm="ortho"))

    def inverse(self, c: Tensor) -> Tensor:
        """The inverse transform."""
        spectrum = c.view(-1, *self.shape)
        if self.shape[0] == 1:
            return _hartley(spectrum)
        return _parts(torch.fft.ifft2(torch.complex(spectrum[:, 0], spectrum[:, 1]), norm="ortho")).view_as(spectrum)

    def of_spectrum(self, spectrum: Tensor) -> Tensor:
        """The coefficients of (B, H, W) complex values; where a real image's mirror was measured too, the mean."""
        if self.shape[0] == 2:
            return _parts(spectrum)[:, self._places]
        measured, mirrored = self.measured.to(spectrum.real), _mirrored(self.measured).to(spectrum.real)
        # of a real image F(−k) is the conjugate of F(k)
        total = measured * spectrum + mirrored * _mirrored(spectrum).conj()
        mean = total / (measured + mirrored).clamp(min=1)
        return (mean.real - mean.imag).flatten(1)[:, self._places]


@attrs.frozen(eq=False)
class MatrixOperator(LinearOperator):
    """Any matrix (m, C·H·W), decomposed at once: for small images.

    Raises NcsnxError for a matrix of another shape, without rows, of zeros, or with values that aren't finite.
    """

    shape: tuple[int, int, int]
    matrix: Tensor = attrs.field(converter=torch.as_tensor)
    _decomposed: tuple[Tensor, Tensor, Tensor] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        size = math.prod(self.shape)
        if self.matrix.dim() != 2 or self.matrix.shape[1] != size or len(self.matrix) == 0:
            raise NcsnxError(
                f"a matrix of {tuple(self.matrix.shape)} for images of {counted(size, 'value')}: expected (m, {size})"
            )
        if self.matrix.is_complex() or not bool(torch.isfinite(self.matrix).all()):
            raise NcsnxError("a matrix with values that are not finite real numbers measures nothing")
        if not bool(self.matrix.any()):
            raise NcsnxError("a matrix of zeros measures nothing")
        u, s, vh = torch.linalg.svd(self.matrix.detach().double(), full_matrices=False)
        seen = s > 1e-6 * s[0]
        object.__setattr__(self, "_decomposed", (u[:, seen], s[seen], vh[seen]))

    @property
    def singular_values(self) -> Tensor:
        """Those above a millionth of the largest."""
        return self._decomposed[1].float()

    def coefficients(self, x: Tensor) -> Tensor:
        """Vᵀ x."""
        return x.flatten(1) @ self._decomposed[2].to(x).T

    def images(self, c: Tensor) -> Tensor:
        """V c."""
        return (c @ self._decomposed[2].to(c)).view(-1, *self.shape)

    def of_measurement(self, y: Tensor) -> Tensor:
        """Uᵀ y of values in the order of the matrix' rows: (B, m) → (B, M)."""
        if y.dim() != 2 or y.shape[1] != len(self.matrix):
            raise NcsnxError(f"expected measurements (P, {len(self.matrix)}), a value a row, found {tuple(y.shape)}")
        return y @ self._decomposed[0].to(y)


def fingerprint(operator: LinearOperator) -> str:
    """What tells an operator from others of its shape: sha256 of what it makes of a fixed image, in four digits.

    So few, since machines differ in the last ones. operator: one for images in float64, as `in_any_precision` gives.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, *operator.shape, generator=generator, dtype=torch.float64)
    found = torch.stack([operator.singular_values.double(), operator.coefficients(image)[0].double()])
    digits = (1e4 * found / found.abs().amax(dim=1, keepdim=True)).round().to(torch.int32)
    return hashlib.sha256(digits.numpy().tobytes()).hexdigest()


def in_any_precision(operator: LinearOperator) -> LinearOperator:
    """The operator itself if it gives float32 for float32 and float64 for float64, as samplers and checks take it.

    Else one around it that does: for operators which calculate with tensors of their own, in the type of these.
    """
    gives = {dtype: _given(operator, dtype) for dtype in (torch.float64, torch.float32)}
    working = [dtype for dtype, given in gives.items() if given is not None]
    if not working or all(dtype == given for dtype, given in gives.items()):
        return operator  # where nothing works, `check` says why
    return _Casting(operator, working[0])


def _given(operator: LinearOperator, dtype: torch.dtype) -> torch.dtype | None:
    """The type of what comes out for images of this one; None where nothing does."""
    try:
        c = operator.coefficients(torch.zeros(1, *operator.shape, dtype=dtype))
        x = operator.images(c.to(dtype))
    except RuntimeError:  # torch's, for types that don't go together
        return None
    return x.dtype if c.dtype == dtype else c.dtype


@attrs.frozen(eq=False)
class _Casting(LinearOperator):
    """An operator that calculates in one type, for images of any."""

    operator: LinearOperator
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        return self.operator.shape

    @property
    def singular_values(self) -> Tensor:
        return self.operator.singular_values

    def coefficients(self, x: Tensor) -> Tensor:
        return self.operator.coefficients(x.to(self.dtype)).to(x)

    def images(self, c: Tensor) -> Tensor:
        return self.operator.images(c.to(self.dtype)).to(c)

    def of_measurement(self, y: Tensor) -> Tensor:
        return self.operator.of_measurement(y.to(self.dtype)).to(y)

    def check(self) -> None:
        self.operator.check()


def _places(seen: Tensor) -> Tensor:
    """(M,): where the flattened `seen` is true."""
    return seen.flatten().nonzero().flatten()


def _parts(x: Tensor) -> Tensor:
    """(B, H, W) complex → (B, 2·H·W): real parts, then imaginary ones."""
    return torch.stack([x.real, x.imag], dim=1).flatten(1)


@cache
def _cosines(size: int) -> Tensor:
    """(size, size) float64: the orthonormal DCT-II, a frequency a row."""
    frequency, place = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)
    rows = math.sqrt(2 / size) * torch.cos(math.pi * frequency * (place + 0.5) / size)
    rows[0] /= math.sqrt(2)
    return rows


@cache
def _response(size: int, sigma: float) -> Tensor:
    """(size,) float64: by what a normalized Gaussian kernel multiplies each frequency of the DCT-II."""
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
    """x at the negative frequencies."""
    return x.flip((-2, -1)).roll((1, 1), (-2, -1))

"""Measurements as functions of images: linear ones with an adjoint, and others that can be differentiated.

A `LinearMap` is known by A and its adjoint Aᴴ, which are all that the rules of `ncsnx.inverse.rules.likelihood` need:
the coils of magnetic resonance, or a tomograph, whose singular value decomposition doesn't fit in memory. A map that
has one is a `LinearOperator` (`linear_operator`), with which samplers can also agree exactly. Measurements may be
complex; images are real, and ⟨y, y'⟩ = Re Σ ȳ y' is the inner product, so that Aᴴ is the transpose of A from the
values of the image to the real and imaginary parts of the measurements.

A map of your own has `shape`, `measured_shape`, `apply` and, if it is linear, `adjoint`. `from_deepinv` makes one of an
operator of the library deepinv (`deepinv_physics`).
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor

from ncsnx.config.user_code import foreign_errors
from ncsnx.data.transforms import real_parts
from ncsnx.errors import Hint, NcsnxError
from ncsnx.quantities import counted, them
from ncsnx.stopping import check_stop

_POWER_STEPS = 100
_POWER_TOLERANCE = 1e-4
_ADJOINT_TOLERANCE = 1e-5
_DIFFERENCE = 1e-3
"""Step of the difference quotients of a nonlinear map, for images in [0, 1]."""
_SMALLEST, _LARGEST = 1e-15, 1e15
"""Range of norms, whose squares are numbers of single precision with room for sums."""


class MeasurementMap(ABC):
    """A differentiable function from images (C, H, W) with values from 0 (black) to 1 (white) to measurements."""

    shape: tuple[int, int, int]
    """(C, H, W) of the images."""
    measured_shape: tuple[int, ...]
    """Shape of the measurements of one image."""
    in_words: ClassVar[str] = "a measurement that is not linear"
    """The kind of map, in messages."""

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """Measurements of images: (B, C, H, W) → (B, *measured_shape), real or complex, in the precision of x."""

    def of(self, pictures: Tensor) -> Self:
        """The map for images of these pictures, (B,) int64: the map itself, unless pictures have maps of their own."""
        return self

    @property
    def pictures(self) -> int | None:
        """Number of pictures that have maps of their own; None: one map for any number of images."""
        return None

    @cached_property
    def norm(self) -> float:
        """Largest factor by which a small change of an image grows in its measurements.

        Estimated by power iteration on the derivative at three seeded images of noise.
        """
        return max(self._norm_at(_random(self, seed, uniform=True)) for seed in range(3))

    def as_values(self, y: Tensor) -> Tensor:
        """Measurements in the scale of what was given, in which differences are reported; here the same."""
        return y

    def noise_of_values(self, noise: float) -> float:
        """The largest standard deviation of the noise in that scale; here the same."""
        return noise

    def check(self) -> None:
        """Raises NcsnxError if the map fails, returns another shape, or values that aren't finite."""
        _checked(self.of(torch.tensor([0])))

    def _norm_at(self, x: Tensor) -> float:
        x = x.float()
        y: Tensor
        y, pull = torch.func.vjp(self.apply, x)  # type: ignore[misc]

        def normal(v: Tensor) -> Tensor:
            length = float(v.norm())
            step = _DIFFERENCE * math.sqrt(v.numel()) / length
            change = (self.apply(x + step * v) - self.apply(x - step * v)) / (2 * step)
            back: Tensor = pull(change.to(y))[0]
            return back.detach()

        return math.sqrt(_largest_eigenvalue(normal, _random(self, 1).float()))


class LinearMap(MeasurementMap):
    """A linear map A from images to measurements, by A and its adjoint.

    Raises NcsnxError in `check` unless ⟨A x, y⟩ = ⟨x, Aᴴ y⟩ to 1e-5 of ‖A x‖ ‖y‖.
    """

    in_words: ClassVar[str] = "a linear map without singular values"

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """Aᴴ y: (B, *measured_shape) → (B, C, H, W)."""

    def normal(self, x: Tensor) -> Tensor:
        """Aᴴ A x, (B, C, H, W). Override it if A x takes much more memory than x."""
        return self.adjoint(self.apply(x))

    @cached_property
    def norm(self) -> float:
        """‖A‖, the largest singular value, estimated by at most 100 steps of power iteration from seeded noise."""
        with torch.no_grad():
            return math.sqrt(_largest_eigenvalue(self.normal, _random(self, 1).float()))

    def check(self) -> None:
        """Raises NcsnxError if a function fails, returns another shape, or if `adjoint` isn't the adjoint, and for a
        norm that is 0 or too large or small for single precision."""
        _check_adjoint(self.of(torch.tensor([0])))
        require_norm(self, type(self).__name__)


class NoisyPicture(MeasurementMap):
    """The measurement of a whole picture, in a form in which its noise is white: the denoised picture is one evaluation
    of D, and the reverse diffusion begins at it.

    The form is a picture of `shape` with values from 0 to 1 and white noise of `deviation`.
    """

    in_words: ClassVar[str] = "a noisy picture"
    evaluations: ClassVar[int] = 1
    """Evaluations whose mean is the denoised picture: more than one where a part of the noise is drawn."""

    @abstractmethod
    def noisy(self, values: Tensor, noise: float | Tensor, draw: Callable[[], Tensor]) -> Tensor:
        """The pictures in that form, (B, C, H, W) float32.

        values: as in `Task`, (B, *measured_shape). noise: that of the task. draw: gives unit noise, (B, C, H, W), for
        directions in which nothing was measured.
        """

    def deviation(self, noise: float | Tensor) -> float:
        """The standard deviation of the white noise. noise: that of the task."""
        assert not isinstance(noise, Tensor), "a noise of each value has no one deviation"
        return noise / self.norm

    def finished(self, images: Tensor, values: Tensor) -> Tensor:
        """Pictures (B, C, H, W) from drawn ones in that form, with what else is known of them; here the same.

        values: as in `noisy`.
        """
        return images

    def finished_mean(self, images: Tensor, values: Tensor) -> Tensor:
        """Means of pictures from denoised ones in that form; here as drawn ones."""
        return self.finished(images, values)


def require_finite(x: Tensor, what: str) -> None:
    """Raises NcsnxError for values that are NaN, infinite or too large for float32. what: the values, in words."""
    if count := int((~torch.isfinite(in_single_precision(x))).sum()):
        raise NcsnxError(f"{what}: found {counted(count, 'NaN, infinite or too large value')}; replace {them(count)}")


def require_norm(of: MeasurementMap, what: str) -> None:
    """Raises NcsnxError for a map that measures nothing, or whose norm is too large or small for single precision."""
    _require_scale(of.norm, of.norm, f"{what}: expected a map whose norm in single precision")


def require_scale(values: Tensor, what: str) -> None:
    """Raises NcsnxError as `require_norm` for the values of a map, (P, …) of each picture. what: the values, in words.

    Smaller values than the range of their own type are compared too, whose norm would be 0.
    """
    largest = values.detach().abs().flatten(1).amax(dim=1)
    _require_scale(float(largest.min()), float(largest.max()), f"expected {what} whose largest value")


def _require_scale(smallest: float, largest: float, what: str) -> None:
    if smallest >= _SMALLEST and largest <= _LARGEST:
        return
    if smallest == 0:
        raise NcsnxError(f"{what} is above 0, found 0: it measures nothing")
    odd = smallest if smallest < _SMALLEST else largest
    raise NcsnxError(
        f"{what} is from {_SMALLEST:g} to {_LARGEST:g}, so that squares fit into single precision, found {odd:g}",
        Hint("multiply it, the measurements and the noise by one number"),
    )


def sha256_of_values(x: Tensor) -> str:
    """The sha256 (hexadecimal) of all values in float64 and in order."""
    hashed = hashlib.sha256()
    for part in torch.split(real_parts(x.detach().cpu()).flatten(), 2**20):
        check_stop()  # 12 megapixels take seconds
        hashed.update(part.double().numpy().tobytes())
    return hashed.hexdigest()


def inner(x: Tensor, y: Tensor) -> float:
    """Re Σ x̄ y over all values, in float64."""
    return float((_real(x) * _real(y)).sum())


def fingerprint(of: MeasurementMap) -> str:
    """The sha256 of measurements of fixed images, to four digits; machines differ in further digits."""
    values = _real(of.apply(_random(of, 0, uniform=True).float()))
    digits = (1e4 * values / values.abs().max().clamp_min(1e-300)).round().to(torch.int32)
    return hashlib.sha256(digits.cpu().contiguous().numpy().tobytes()).hexdigest()


def applied_precisely(of: MeasurementMap, x: Tensor) -> Tensor:
    """Measurements of images in float64, or in float32 if that is all that the map computes in."""
    try:
        return of.apply(x.double())
    except Exception:  # a map's code may raise anything; if it fails in float32 too, that says why
        return of.apply(x.float())


def in_single_precision(y: Tensor) -> Tensor:
    """Measurements in float32 or complex64, in which every map computes."""
    return y.to(torch.complex64 if y.is_complex() else torch.float32)


def _checked(of: MeasurementMap) -> tuple[Tensor, Tensor]:
    """Images of noise and their measurements, checked. Raises NcsnxError."""
    name, x = type(of).__name__, _random(of, 0, uniform=True)
    with foreign_errors(f"{name}.apply fails on images {tuple(x.shape)}"):
        measured = applied_precisely(of, x)
    count = len(x)
    if tuple(measured.shape) != (count, *of.measured_shape):
        raise NcsnxError(
            f"{name}.apply gave {tuple(measured.shape)} for images {(count, *of.shape)}, expected "
            f"{(count, *of.measured_shape)}, with its measured_shape"
        )
    if not bool(torch.isfinite(_real(measured)).all()):
        raise NcsnxError(f"{name}.apply gave NaN or infinity for images in [0, 1]")
    return x, measured


def _check_adjoint(of: LinearMap) -> None:
    """Raises NcsnxError unless ⟨A x, y⟩ = ⟨x, Aᴴ y⟩ for images x of noise and y = A x + as much noise.

    With noise alone both products would be near 0 for many measurements, and an adjoint with a wrong factor would pass.
    """
    name, (x, measured) = type(of).__name__, _checked(of)
    kind = torch.complex128 if measured.is_complex() else torch.float64
    noise = torch.randn(measured.shape, generator=torch.Generator().manual_seed(2), dtype=kind).to(measured)
    y = measured + noise * (_length(measured) / _length(noise))
    with foreign_errors(f"{name}.adjoint fails on measurements of {tuple(y.shape)}"):
        back = of.adjoint(y)
    if back.shape != x.shape or back.is_complex():
        raise NcsnxError(f"{name}.adjoint gave {tuple(back.shape)}, {back.dtype}; expected {tuple(x.shape)}, real")
    of_measurements, of_images = inner(measured, y), inner(x, back)
    if not abs(of_measurements - of_images) <= _ADJOINT_TOLERANCE * _length(measured) * _length(y):
        raise NcsnxError(
            f"{name}: adjoint is not the adjoint of apply: for random x and y, ⟨A x, y⟩ is "
            f"{of_measurements:.6g} and ⟨x, Aᴴ y⟩ is {of_images:.6g}"
        )


def _random(of: MeasurementMap, seed: int, *, uniform: bool = False) -> Tensor:
    """Seeded images (B, C, H, W) in float64, of as many pictures as the map has: two for any number."""
    generator = torch.Generator().manual_seed(seed)
    size = (2 if of.pictures is None else of.pictures, *of.shape)
    draw = torch.rand if uniform else torch.randn
    return draw(size, generator=generator, dtype=torch.float64)


def _largest_eigenvalue(normal: Callable[[Tensor], Tensor], v: Tensor) -> float:
    """Largest eigenvalue of a positive semidefinite map in float32, by power iteration from v."""
    eigenvalue = 0.0
    for _ in range(_POWER_STEPS):
        length = _length(v)  # in double precision, since that of a large map overflows
        if not 0 < length < math.inf:
            return length
        v = normal((v.double() / length).float())
        before, eigenvalue = eigenvalue, _length(v)
        if abs(eigenvalue - before) <= _POWER_TOLERANCE * eigenvalue:
            break
    return eigenvalue


def _real(x: Tensor) -> Tensor:
    """Real and imaginary parts in float64."""
    return real_parts(x).detach().double()


def _length(x: Tensor) -> float:
    return float(_real(x).norm())

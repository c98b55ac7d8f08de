"""A task: measurements of pictures, and sampling of images that agree with them."""

import json
import math
from collections.abc import Callable
from typing import Any, Self

import attrs
import torch
from torch import Tensor

from ncsnx.config.data_sets import Data
from ncsnx.data import from_unit
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.inverse.condition import Condition, Measured
from ncsnx.inverse.lazy_stack import LazyStack, Stack, sha256_of_values
from ncsnx.inverse.operators import LinearOperator, in_any_precision
from ncsnx.quantities import counted
from ncsnx.randomness import Purpose
from ncsnx.runs.names import names_a_file_everywhere
from ncsnx.sampling.noise_sources import SeededNoise


def _operator(given: LinearOperator) -> LinearOperator:
    if not isinstance(given, LinearOperator):
        raise NcsnxError(f"a task needs a LinearOperator, not {type(given).__name__}")
    if not isinstance(given.singular_values, Tensor):
        raise NcsnxError(f"{type(given).__name__}.singular_values must be a tensor (M,)")
    return in_any_precision(given)


def _stack(given: Any) -> Stack:
    return given if isinstance(given, LazyStack) else torch.as_tensor(given)


@attrs.frozen(eq=False, kw_only=True)
class Task:
    """Measurements of P pictures, with values of images in [0, 1]: 0 is black, 1 is white.

    Values, inputs and truth may be a `LazyStack` of finite values in place of a tensor. Raises NcsnxError for values,
    noise or pictures that don't match.
    """

    name: str
    """Name of the task: 'inpaint', 'super-resolve', …"""
    operator: LinearOperator = attrs.field(converter=_operator)
    """A, an operator of rank M."""
    _values: Stack = attrs.field(converter=_stack)
    """Measured coefficients Σ⁻¹ Uᵀ y, (P, M), real and finite; `of_measurement` computes them from y."""
    noise: float = 0.0
    """γ, the standard deviation of the noise in y, finite and >= 0."""
    _inputs: Stack | None = attrs.field(default=None, converter=attrs.converters.optional(_stack))
    """Measurements as pictures, (P, C, H, W) in [0, 1]. None: the pseudo-inverse."""
    _truth: Stack | None = attrs.field(default=None, converter=attrs.converters.optional(_stack))
    """True pictures, (P, C, H, W) in [0, 1], if known."""
    pictures: tuple[str, ...] = ()
    """Names of the P pictures, or empty."""
    facts: dict[str, Any] = attrs.field(factory=dict)
    """Further JSON values that determine the images, for the protocol."""

    def __attrs_post_init__(self) -> None:
        if not names_a_file_everywhere(self.name):
            raise NcsnxError(
                f"expected a task's name of letters, digits, - and _, since it names a folder; found {self.name!a}"
            )
        try:
            json.dumps(self.facts, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise NcsnxError(f"{self.name}: expected facts that are JSON: {error}") from error
        rank = len(self.operator.singular_values)
        shape = self._values.shape
        if len(shape) != 2 or shape[0] == 0 or shape[1] != rank:
            raise NcsnxError(
                f"{self.name}: expected values (P, {rank}), for P pictures and an operator of rank {rank}; found "
                f"{tuple(shape)}"
            )
        if isinstance(self._values, Tensor) and (self._values.is_complex() or not _is_finite(self._values)):
            raise NcsnxError(f"{self.name}: expected values that are finite real numbers, but one is not")
        if not 0 <= self.noise < math.inf:
            raise NcsnxError(f"{self.name}: expected noise >= 0, the standard deviation, found {self.noise}")
        whole = (self.count, *self.operator.shape)
        for what, images in (("inputs", self._inputs), ("truth", self._truth)):
            if images is not None and tuple(images.shape) != whole:
                raise NcsnxError(f"{self.name}: expected {what} of {whole}, found {tuple(images.shape)}")
            if isinstance(images, Tensor) and not _is_finite(images):
                raise NcsnxError(f"{self.name}: expected {what} of finite numbers, but one is not")
        if len(self.pictures) not in (0, self.count):
            raise NcsnxError(
                f"{self.name}: expected a name for each of {counted(self.count, 'picture')}, found "
                f"{counted(len(self.pictures), 'name')}"
            )

    @classmethod
    def of_measurement(
        cls,
        operator: LinearOperator,
        y: Tensor,
        *,
        noise: float = 0.0,
        name: str = "measured",
        inputs: Tensor | None = None,
        truth: Tensor | None = None,
        pictures: tuple[str, ...] = (),
        facts: dict[str, Any] | None = None,
    ) -> Self:
        """The task of measurements y = A x of images x in [0, 1], with noise of this standard deviation.

        y: (P, …), as operator.of_measurement expects it: for a `MatrixOperator` (P, m), in the order of its rows; for a
        `Blurring` blurred pictures (P, C, H, W); for others M values per picture. Convert complex frequencies by
        `Fourier.of_spectrum` first. Raises NcsnxError.
        """
        y = torch.as_tensor(y)
        if y.is_complex():
            raise NcsnxError(f"{name}: expected measurements that are real numbers, found complex ones")
        usable = _operator(operator)
        return cls(
            name=name,
            operator=usable,
            values=usable.of_measurement(y.double()) / usable.singular_values.to(y.device).double(),
            noise=noise,
            inputs=inputs,
            truth=truth,
            pictures=pictures,
            facts={} if facts is None else facts,
        )

    @property
    def values(self) -> Tensor:
        """Measured coefficients Σ⁻¹ Uᵀ y, (P, M)."""
        return self._values[:]

    @property
    def inputs(self) -> Tensor | None:
        """Measurements as pictures, (P, C, H, W) in [0, 1]; None: the pseudo-inverse."""
        return None if self._inputs is None else self._inputs[:]

    @property
    def truth(self) -> Tensor | None:
        """True pictures, (P, C, H, W) in [0, 1]; None if unknown."""
        return None if self._truth is None else self._truth[:]

    @property
    def count(self) -> int:
        """P, the number of pictures."""
        return len(self._values)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the pictures, or their numbers."""
        return self.pictures or tuple(str(number) for number in range(self.count))

    @property
    def protocol(self) -> dict[str, Any]:
        """JSON values of the task that determine the images."""
        return {
            "name": self.name,
            "noise": self.noise,
            "values_sha256": sha256_of_values(self._values),
            **self.facts,
        }

    def of(self, picture: int) -> Self:
        """The task of one of the pictures."""
        one = slice(picture, picture + 1)
        return attrs.evolve(
            self,
            values=self._values[one],
            inputs=None if self._inputs is None else self._inputs[one],
            truth=None if self._truth is None else self._truth[one],
            pictures=self.names[one],
        )

    def shown(self) -> Tensor:
        """The measurements as pictures, (P, C, H, W) in [0, 1]."""
        inputs = self.inputs
        given = self.operator.images(self.values) if inputs is None else inputs
        return given.float().clamp(0, 1)

    def require_fit(self, data: Data, shape: tuple[int, int, int] | None = None) -> None:
        """Raises UsageError for images of another shape, NcsnxError for a nonlinear data transform and for an invalid
        operator (see `LinearOperator.check`). shape: (C, H, W) of the images; default: that of the data.
        """
        operator = self.operator
        shape = data.shape if shape is None else shape
        if tuple(operator.shape) != tuple(shape):
            raise UsageError(f"{self.name}: the images of the model are {_size(shape)}, not {_size(operator.shape)}")
        if data.transform == "logit":
            raise NcsnxError(
                f"{self.name}: measurements must be linear, but this model works on logits of the images "
                "(data.transform=logit); use a model with data.transform none or rescaled"
            )
        operator.check()

    def conditions(
        self,
        data: Data,
        lowest: float,
        seed: int,
        alternatives: int,
        *,
        shape: tuple[int, int, int] | None = None,
    ) -> Callable[[Tensor], Condition]:
        """Function from indices to their condition; image i is an alternative of picture i // alternatives.

        lowest: σ of the last level. shape: as in `require_fit`, whose errors it raises.
        """
        self.require_fit(data, shape)
        operator = self.operator
        black, white = (float(from_unit(torch.tensor(value), data)) for value in (0.0, 1.0))
        scale = white - black
        middle = operator.coefficients(torch.full((1, *operator.shape), black, dtype=torch.float64))

        def condition(indices: Tensor) -> Condition:
            pictures, places = torch.unique(indices // alternatives, return_inverse=True)
            values = (scale * self._values[pictures.cpu()].double() + middle).float()
            chosen = values.to(indices.device)[places]
            noise = SeededNoise(seed, indices, operator.shape, Purpose.CONDITION_NOISE)
            return Condition(Measured(operator, chosen, scale * self.noise), noise, lowest, (black, white))

        return condition


def psnr(images: Tensor, truth: Tensor) -> list[float]:
    """Peak signal-to-noise ratio of each image in dB, infinite for equal images. Both (B, C, H, W) in [0, 1]."""
    errors = (images.double() - truth.double()).square().flatten(1).mean(dim=1)
    return [math.inf if error == 0 else -10 * math.log10(error) for error in errors.tolist()]


def _is_finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())


def _size(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{height}×{width} pixels with {counted(channels, 'channel')}"

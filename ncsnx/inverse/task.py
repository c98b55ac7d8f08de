"""A task: pictures of which something was measured, to be sampled with what was measured kept."""

import hashlib
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
from ncsnx.inverse.operators import LinearOperator, in_any_precision
from ncsnx.quantities import counted
from ncsnx.randomness import Purpose
from ncsnx.runs.names import names_a_file_everywhere
from ncsnx.sampling.noise_sources import SeededNoise


def _operator(given: LinearOperator) -> LinearOperator:
    if not isinstance(given, LinearOperator):
        raise NcsnxError(f"a task takes a LinearOperator, not {type(given).__name__}")
    if not isinstance(given.singular_values, Tensor):
        raise NcsnxError(f"{type(given).__name__}.singular_values must be a tensor (M,)")
    return in_any_precision(given)


@attrs.frozen(eq=False, kw_only=True)
class Task:
    """What was measured of P pictures. Values are those of images in [0, 1], black 0 and white 1.

    Raises NcsnxError for values, noise or pictures that don't go together.
    """

    name: str
    """'inpaint', 'super-resolve', …"""
    operator: LinearOperator = attrs.field(converter=_operator)
    """A, whose rank is M."""
    values: Tensor = attrs.field(converter=torch.as_tensor)
    """(P, M): Σ⁻¹ Uᵀ y, the measured coefficients, real and finite; of_measurement makes them of y."""
    noise: float = 0.0
    """γ: the standard deviation of the noise in y, finite and not below 0."""
    inputs: Tensor | None = attrs.field(default=None, converter=attrs.converters.optional(torch.as_tensor))
    """(P, C, H, W) in [0, 1]: the measurements as people see them; None: the pseudo-inverse."""
    truth: Tensor | None = attrs.field(default=None, converter=attrs.converters.optional(torch.as_tensor))
    """(P, C, H, W) in [0, 1], where it is known."""
    pictures: tuple[str, ...] = ()
    """Their P names; or none."""
    facts: dict[str, Any] = attrs.field(factory=dict)
    """JSON for the protocol: what else determines the images."""

    def __attrs_post_init__(self) -> None:
        if not names_a_file_everywhere(self.name):
            raise NcsnxError(
                f"a task's name becomes part of a folder's; expected letters, digits, - and _: {self.name!a}"
            )
        try:
            json.dumps(self.facts, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise NcsnxError(f"{self.name}: expected facts that are JSON: {error}") from error
        rank = len(self.operator.singular_values)
        if self.values.dim() != 2 or len(self.values) == 0 or self.values.shape[1] != rank:
            raise NcsnxError(
                f"{self.name}: expected values (P, {rank}), for P pictures and an operator of rank {rank}; found "
                f"{tuple(self.values.shape)}"
            )
        if self.values.is_complex() or not bool(torch.isfinite(self.values).all()):
            raise NcsnxError(f"{self.name}: expected values that are finite real numbers, and one is not")
        if not 0 <= self.noise < math.inf:
            raise NcsnxError(f"{self.name}: expected a noise from 0 on, the standard deviation; found {self.noise}")
        whole = (self.count, *self.operator.shape)
        for what, images in (("inputs", self.inputs), ("truth", self.truth)):
            if images is not None and tuple(images.shape) != whole:
                raise NcsnxError(f"{self.name}: expected {what} of {whole}, found {tuple(images.shape)}")
            if images is not None and not bool(torch.isfinite(images).all()):
                raise NcsnxError(f"{self.name}: expected {what} of finite numbers, and one is not")
        if len(self.pictures) not in (0, self.count):
            raise NcsnxError(f"{self.name}: {counted(len(self.pictures), 'name')} for {counted(self.count, 'picture')}")

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
        """The task whose y = A x, of images x in [0, 1], was measured with noise of this standard deviation.

        y: (P, …), as operator.of_measurement takes it: of a `MatrixOperator` (P, m), in the order of its rows; of a
        `Blurring` blurred pictures (P, C, H, W); of others M values of each picture. Complex frequencies are the values
        that `Fourier.of_spectrum` makes of them. Raises NcsnxError.
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
    def count(self) -> int:
        """P."""
        return len(self.values)

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the pictures, else their numbers."""
        return self.pictures or tuple(str(number) for number in range(self.count))

    @property
    def protocol(self) -> dict[str, Any]:
        """JSON of what determines the images, beside the model."""
        content = self.values.detach().cpu().double().contiguous().numpy().tobytes()
        return {
            "name": self.name,
            "noise": self.noise,
            "values_sha256": hashlib.sha256(content).hexdigest(),
            **self.facts,
        }

    def shown(self) -> Tensor:
        """(P, C, H, W) in [0, 1]: what was given."""
        given = self.operator.images(self.values) if self.inputs is None else self.inputs
        return given.float().clamp(0, 1)

    def require_fit(self, data: Data) -> None:
        """Raises UsageError for images of another shape, NcsnxError for a transform that isn't linear, and for an
        operator that is none (see `LinearOperator.check`).
        """
        operator = self.operator
        if tuple(operator.shape) != tuple(data.shape):
            raise UsageError(
                f"{self.name}: the images of the model are {_size(data.shape)}, not {_size(operator.shape)}"
            )
        if data.transform == "logit":
            raise NcsnxError(
                f"{self.name}: the model works on logits of the images (data.transform=logit), and measurements are "
                "linear in the images themselves; take a model with data.transform none or rescaled"
            )
        operator.check()

    def conditions(self, data: Data, lowest: float, seed: int, alternatives: int) -> Callable[[Tensor], Condition]:
        """Indices → their condition, where image i is an alternative of picture i // alternatives.

        lowest: σ of the last level. Raises as `require_fit`.
        """
        self.require_fit(data)
        operator = self.operator
        black, white = (float(from_unit(torch.tensor(value), data)) for value in (0.0, 1.0))
        scale = white - black
        middle = operator.coefficients(torch.full((1, *operator.shape), black, dtype=torch.float64))
        values = (scale * self.values.double() + middle).float()

        def condition(indices: Tensor) -> Condition:
            chosen = values.to(indices.device)[indices // alternatives]
            noise = SeededNoise(seed, indices, operator.shape, Purpose.CONDITION_NOISE)
            return Condition(Measured(operator, chosen, scale * self.noise), noise, lowest, (black, white))

        return condition


def psnr(images: Tensor, truth: Tensor) -> list[float]:
    """Peak signal to noise of each image, in dB: (B, C, H, W) both, in [0, 1]; infinite where they are equal."""
    errors = (images.double() - truth.double()).square().flatten(1).mean(dim=1)
    return [math.inf if error == 0 else -10 * math.log10(error) for error in errors.tolist()]


def _size(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{height}×{width} pixels with {counted(channels, 'channel')}"

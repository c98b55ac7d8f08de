"""A task: pictures of which something was measured, to be sampled with what was measured kept."""

import hashlib
import math
from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor

from ncsnx.config.data import Data
from ncsnx.data import from_unit
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.inverse.condition import Condition, Measured
from ncsnx.inverse.operators import LinearOperator
from ncsnx.randomness import Purpose
from ncsnx.sampling.noise import SeededNoise


@attrs.frozen(eq=False, kw_only=True)
class Task:
    """What was measured of P pictures. Values are those of images in [0, 1]."""

    name: str
    """'inpaint', 'super-resolve', …"""
    operator: LinearOperator
    values: Tensor
    """(P, M): Σ⁻¹ Uᵀ y, the measured coefficients."""
    noise: float = 0.0
    """γ: the standard deviation of the noise in y."""
    inputs: Tensor | None = None
    """(P, C, H, W) in [0, 1]: the measurements as people see them; None: the pseudo-inverse."""
    truth: Tensor | None = None
    """(P, C, H, W) in [0, 1], where it is known."""
    pictures: tuple[str, ...] = ()
    """Their names."""
    facts: dict[str, Any] = attrs.field(factory=dict)
    """For the protocol: what else determines the images."""

    @property
    def count(self) -> int:
        """P."""
        return len(self.values)

    @property
    def protocol(self) -> dict[str, Any]:
        """JSON of what determines the images, beside the model."""
        content = self.values.double().contiguous().numpy().tobytes()
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

    def conditions(self, data: Data, lowest: float, seed: int, alternatives: int) -> Callable[[Tensor], Condition]:
        """Indices → their condition, where image i is an alternative of picture i // alternatives.

        lowest: σ of the last level. Raises UsageError for images of another shape, NcsnxError for a transform that
        isn't linear.
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
    return f"{height}×{width} pixels with {channels} channel{'s' if channels > 1 else ''}"

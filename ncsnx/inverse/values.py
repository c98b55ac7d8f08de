"""The values of a task: black and white in the data's own numbers, and numbers that can be used."""

import hashlib

import attrs
import torch
from torch import Tensor

from ncsnx.data.transforms import real_parts
from ncsnx.errors import NcsnxError
from ncsnx.images import complex_parts
from ncsnx.quantities import counted, them
from ncsnx.space import Space


@attrs.frozen
class ValueRange:
    """The data's own values of 0 and 1 in a task, and which numbers are accepted; by default 0 to 1.

    Bounded data: samples and truths have 0 for `low` and 1 for `high`. Unbounded data: `low` is 0 and `high` its scale;
    truths are in units of it, and samples already in the data's own values.
    """

    low: float = 0.0
    """Own value of 0 (black)."""
    high: float = 1.0
    """Own value of 1 (white), above `low`."""
    is_bounded: bool = True
    """Whether all values lie between `low` and `high`. Other numbers aren't limited, and image files are refused."""
    is_complex: bool = False
    """Whether pairs of channels are real and imaginary parts, so that complex numbers are accepted."""

    @property
    def ends(self) -> tuple[float, float]:
        """`low` and `high`."""
        return self.low, self.high

    @property
    def span(self) -> float:
        """Factor from differences of a task's values to those that are reported: own ones of unbounded data."""
        return 1.0 if self.is_bounded else self.high - self.low

    def of_samples(self, samples: Tensor) -> Tensor:
        """Own values of samples, float64."""
        return self.of_truth(samples) if self.is_bounded else samples.double()

    def of_truth(self, truth: Tensor) -> Tensor:
        """Own values of a task's truth, float64."""
        return self.low + truth.double() * (self.high - self.low)

    def as_sampled(self, truth: Tensor) -> Tensor:
        """A task's truth in the values of the samples, float32."""
        return (truth if self.is_bounded else self.of_truth(truth)).float()

    def to_unit(self, samples: Tensor) -> Tensor:
        """Samples in the values of a task, where `low` is 0 and `high` is 1."""
        return samples if self.is_bounded else (samples - self.low) / (self.high - self.low)

    def compared(self, own: Tensor) -> Tensor:
        """The real images to compare, (B, C, H, W), of images in own values; of complex ones magnitudes."""
        return torch.hypot(*complex_parts(own)) if self.is_complex else own

    def data_range(self, compared: Tensor) -> float:
        """The range of values for PSNR and SSIM: high − low; else the truth's largest magnitude."""
        if self.is_bounded and not self.is_complex:
            return self.high - self.low
        return float(compared.abs().max())


UNIT = ValueRange()
"""0 to 1."""


def range_of(space: Space) -> ValueRange:
    """The values of black and white in a model's data; of unbounded data 0 and the scale."""
    return ValueRange(*space.own, is_bounded=space.bounded, is_complex=space.complex)


def require_finite(x: Tensor, what: str) -> None:
    """Raises NcsnxError for values that are NaN, infinite or too large for float32. what: the values, in words."""
    count = int((~torch.isfinite(x.to(torch.complex64 if x.is_complex() else torch.float32))).sum())
    if count:
        raise NcsnxError(f"{what}: found {counted(count, 'NaN, infinite or too large value')}; replace {them(count)}")


def sha256_of_values(x: Tensor) -> str:
    """The sha256 (hexadecimal) of all values in float64 and in order."""
    return hashlib.sha256(real_parts(x.detach().cpu()).double().contiguous().numpy().tobytes()).hexdigest()

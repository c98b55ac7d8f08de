"""The data's own values of a task's images, such as 0 to 255 or signal intensities."""

from typing import Self

import attrs
import torch
from torch import Tensor

from ncsnx.config.data_sets import Data
from ncsnx.images import complex_parts


@attrs.frozen(kw_only=True)
class OwnValues:
    """Conversion between the values of samples and truths and the data's own values; by default both are 0 to 1.

    Bounded data: samples and truths have 0 for `low` and 1 for `high`. Unbounded data: truths have, and samples are
    already in the data's own values.
    """

    low: float = 0.0
    """Own value of 0 (black)."""
    high: float = 1.0
    """Own value of 1 (white), above `low`."""
    is_bounded: bool = True
    """Whether all values lie between `low` and `high`."""
    is_complex: bool = False
    """Whether the two channels are the real and the imaginary part."""

    @classmethod
    def of_data(cls, data: Data, low: float, high: float) -> Self:
        """The values of images of this data. low, high: own values of 0 and 1."""
        return cls(low=low, high=high, is_bounded=data.is_bounded, is_complex=data.is_complex)

    def of_samples(self, samples: Tensor) -> Tensor:
        """Own values of samples, float64."""
        return self._own(samples) if self.is_bounded else samples.double()

    def of_truth(self, truth: Tensor) -> Tensor:
        """Own values of a task's truth, float64."""
        return self._own(truth)

    def as_sampled(self, truth: Tensor) -> Tensor:
        """A task's truth in the values of the samples, float32."""
        return (truth if self.is_bounded else self._own(truth)).float()

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

    @property
    def span(self) -> float:
        """Factor from differences of a task's values to those that are reported: own ones of unbounded data."""
        return 1.0 if self.is_bounded else self.high - self.low

    def _own(self, unit: Tensor) -> Tensor:
        return self.low + unit.double() * (self.high - self.low)

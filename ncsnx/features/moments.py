"""Mean and covariance of features, accumulated batch by batch in float64 without storing all features.

The update is from Chan, Golub & LeVeque, "Algorithms for computing the sample variance" (The American Statistician,
1983), equations 1.3. It centers each batch before multiplying, so a large mean costs no precision.
"""

import math
from collections.abc import Iterator
from typing import Self

import attrs
import torch
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.spelling import argument

_BLOCK_BYTES = 2**26


@attrs.define(eq=False)
class Moments:
    """First two moments of all features so far; independent of the order of batches up to rounding."""

    count: int
    """Number of images."""
    mean: Tensor
    """(D,) float64."""
    scatter: Tensor
    """(D, D) float64: the sum of (x − mean)(x − mean)ᵀ."""

    @classmethod
    def empty(cls, dimensions: int) -> Self:
        """Moments of no images, for features of length `dimensions`."""
        mean = torch.zeros(dimensions, dtype=torch.float64)
        return cls(0, mean, torch.zeros(dimensions, dimensions, dtype=torch.float64))

    @classmethod
    def of(cls, count: int, mean: Tensor, covariance: Tensor) -> Self:
        """Moments of `count` images, at least 2, with this mean (D,) and unbiased covariance (D, D), both float64."""
        return cls(count, mean, covariance * (count - 1))

    def add(self, features: Tensor) -> None:
        """Adds (B, D) features of any float dtype and device, B ≥ 0. Raises NcsnxError if they are invalid."""
        features = usable(features)
        require_dimensions(features.shape[1], len(self.mean), "those before")
        for batch in blocks(features) if len(features) else ():
            total = self.count + len(batch)
            mean = batch.mean(dim=0)
            shift = mean - self.mean
            # the difference of the means enters as an additional row, so that one product updates the scatter
            between = shift * math.sqrt(self.count * len(batch) / total)
            rows = torch.cat((batch - mean, between[None]))
            self.scatter.addmm_(rows.T, rows)
            self.mean = self.mean + shift * (len(batch) / total)
            self.count = total

    def without(self, part: "Moments") -> "Moments":
        """Moments of the images that aren't in `part`, a smaller subset, as a new object.

        Errors are a few roundings of this scatter, however few images remain.
        """
        left = self.count - part.count
        mean = self.mean + (self.mean - part.mean) * (part.count / left)
        shift = mean - part.mean
        between = torch.outer(shift, shift) * (part.count * left / self.count)
        return Moments(count=left, mean=mean, scatter=self.scatter - part.scatter - between)

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance (D, D) float64, divided by count − 1. Raises NcsnxError for fewer than 2 images."""
        require_images(self.count, 2, "a covariance")
        return self.scatter / (self.count - 1)


def usable(features: Tensor) -> Tensor:
    """Features (n, D) on the CPU, in their own dtype. Raises NcsnxError for another shape, NaN or infinity."""
    if features.dim() != 2:
        raise NcsnxError(
            f"features must have the shape (n, D), one row per image, not {tuple(features.shape)}; check the feature "
            f"network, or use another with {argument('features')}"
        )
    rows = features.detach().cpu()
    if bad := int((~rows.isfinite()).any(dim=1).sum()):
        raise NcsnxError(
            f"found NaN or infinity in the features of {bad:,} of {counted(len(rows), 'image')}; check the feature "
            f"network, or use another with {argument('features')}"
        )
    return rows


def blocks(features: Tensor) -> Iterator[Tensor]:
    """The rows of (n, D) features on the CPU in float64, in order, in blocks of at most 64 MiB."""
    rows: Iterator[Tensor] = iter(features.split(max(1, _BLOCK_BYTES // (8 * max(1, features.shape[1])))))  # type: ignore[no-untyped-call]
    return (block.double() for block in rows)


def require_images(found: int, least: int, what: str) -> None:
    """Raises NcsnxError if there are fewer than `least` images for `what`."""
    if found < least:
        raise NcsnxError(
            f"{what} needs at least {counted(least, 'image')}, not {found:,}; ask for more with {argument('n')}"
        )


def require_dimensions(found: int, expected: int, whose: str) -> None:
    """Raises NcsnxError if features have other dimensions than those they are compared with."""
    if found != expected:
        raise NcsnxError(
            f"these features have {counted(found, 'number')} per image, but {whose} have {expected:,}; use the same "
            f"network for both with {argument('features')}, or another reference with {argument('reference')}"
        )

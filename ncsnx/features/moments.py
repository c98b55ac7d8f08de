"""Mean and covariance of features, gathered batch by batch in float64, so that no set is held as a feature matrix.

The update is that of Chan, Golub & LeVeque, "Algorithms for computing the sample variance" (The American
Statistician, 1983), equations 1.3: it centres each batch before it multiplies, so that a large mean costs no digits.
"""

import math
from typing import Self

import attrs
import torch
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.spelling import argument


@attrs.define(eq=False)
class Moments:
    """The first two moments of the features seen so far; the order of batches matters by rounding only."""

    count: int
    """Images."""
    mean: Tensor
    """(D,) float64."""
    scatter: Tensor
    """(D, D) float64: the sum of (x − mean)(x − mean)ᵀ."""

    @classmethod
    def empty(cls, dimensions: int) -> Self:
        """Moments of no images, whose features have `dimensions` numbers."""
        mean = torch.zeros(dimensions, dtype=torch.float64)
        return cls(0, mean, torch.zeros(dimensions, dimensions, dtype=torch.float64))

    @classmethod
    def of(cls, count: int, mean: Tensor, covariance: Tensor) -> Self:
        """Moments of `count` images, at least 2, with this mean (D,) and unbiased covariance (D, D), both float64."""
        return cls(count, mean, covariance * (count - 1))

    def add(self, features: Tensor) -> None:
        """Take in (B, D) features of any float type and device, B from 0. NcsnxError where they don't fit."""
        batch = usable(features)
        require_dimensions(batch.shape[1], len(self.mean), "those before")
        if len(batch) == 0:
            return
        total = self.count + len(batch)
        mean = batch.mean(dim=0)
        shift = mean - self.mean
        # the distance between the means enters as one more row: a single product, and nothing to keep but the sums
        between = shift * math.sqrt(self.count * len(batch) / total)
        rows = torch.cat((batch - mean, between[None]))
        self.scatter.addmm_(rows.T, rows)
        self.mean = self.mean + shift * (len(batch) / total)
        self.count = total

    def merged(self, other: "Moments") -> "Moments":
        """The moments of both sets together; neither is changed. NcsnxError where the dimensions differ."""
        require_dimensions(len(other.mean), len(self.mean), "those before")
        total = max(self.count + other.count, 1)
        shift = other.mean - self.mean
        between = torch.outer(shift, shift) * (self.count * other.count / total)
        return Moments(
            count=self.count + other.count,
            mean=self.mean + shift * (other.count / total),
            scatter=self.scatter + other.scatter + between,
        )

    def without(self, part: "Moments") -> "Moments":
        """The moments of the images that aren't in `part`, which holds some of these; neither is changed.

        The inverse of `merged`, with errors of a few roundings of this scatter, however few images are left. ValueError
        where `part` has more images, NcsnxError where the dimensions differ.
        """
        require_dimensions(len(part.mean), len(self.mean), "those before")
        left = self.count - part.count
        if left < 0:
            raise ValueError(f"{counted(part.count, 'image')} cannot be a part of {self.count}")
        if left == 0:
            return Moments.empty(len(self.mean))
        mean = self.mean + (self.mean - part.mean) * (part.count / left)
        shift = mean - part.mean
        between = torch.outer(shift, shift) * (part.count * left / self.count)
        return Moments(count=left, mean=mean, scatter=self.scatter - part.scatter - between)

    @property
    def covariance(self) -> Tensor:
        """(D, D) float64, unbiased: divided by count − 1. NcsnxError where there are fewer than 2 images."""
        require_images(self.count, 2, "a covariance")
        return self.scatter / (self.count - 1)


def usable(features: Tensor) -> Tensor:
    """(n, D) features in float64 on the CPU. NcsnxError where they have another shape or aren't finite."""
    if features.dim() != 2:
        raise NcsnxError(
            f"features should be one row of numbers an image, (n, D), not of the shape {tuple(features.shape)}: "
            f"check the network that computes them, or name another with {argument('features')}"
        )
    rows = features.detach().cpu().double()  # first to the CPU: MPS has no float64
    bad = int((~rows.isfinite()).any(dim=1).sum())
    if bad:
        raise NcsnxError(
            f"{bad:,} of {counted(len(rows), 'image')} have features that are not finite numbers: check the network "
            f"that computes them, or name another with {argument('features')}"
        )
    return rows


def require_images(found: int, least: int, what: str) -> None:
    """NcsnxError where there are fewer than `least` images for `what`."""
    if found < least:
        raise NcsnxError(
            f"{what} needs at least {counted(least, 'image')}, and there are {found:,}: ask for more with "
            f"{argument('n')}"
        )


def require_dimensions(found: int, expected: int, whose: str) -> None:
    """NcsnxError where features don't have the dimensions of those that they are to be compared with."""
    if found != expected:
        raise NcsnxError(
            f"these features have {counted(found, 'number')} an image, and {whose} have {expected:,}: both must come "
            f"from the same network; name it with {argument('features')}, or another reference with "
            f"{argument('reference')}"
        )

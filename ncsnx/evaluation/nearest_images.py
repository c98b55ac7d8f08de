"""Exact search for the k nearest training images of given images, in blocks, for training sets of any size.

Distances are Euclidean, between 8-bit images scaled to [0, 1] or between features. One pass over the training images
serves all spaces. Memory holds the given images in each space, one block of training images, and the k nearest so far.
"""

from collections.abc import Callable, Sequence
from typing import Self

import attrs
import torch
from torch import Tensor

from ncsnx.features.feature_network import FeatureNetwork
from ncsnx.features.moments import usable
from ncsnx.features.real_images import RealImages
from ncsnx.metrics.manifold import squared_distances
from ncsnx.work import SILENT, Work

_BLOCK_IMAGES, _BLOCK_BYTES = 1_024, 64 * 2**20
_FEATURE_BATCH = 64


@attrs.frozen(eq=False)
class Nearest:
    """The k nearest training images of each of Q images, nearest first; ties are ordered by index.

    A training image and its mirror image count as one, at the smaller distance. With fewer than k training images, the
    last distances are infinite and their indices −1.
    """

    distances: Tensor
    """(Q, k) float64."""
    indices: Tensor
    """(Q, k) int64, positions in the training set."""
    flipped: Tensor
    """(Q, k) bool: whether the mirror image is nearer than the image itself."""

    @classmethod
    def none(cls, queries: int, k: int) -> Self:
        """The result before any training image was searched."""
        return cls(
            torch.full((queries, k), torch.inf, dtype=torch.float64),
            torch.full((queries, k), -1, dtype=torch.int64),
            torch.zeros((queries, k), dtype=torch.bool),
        )

    def __getitem__(self, rows: slice) -> "Nearest":
        """The result for some of the images."""
        return Nearest(self.distances[rows], self.indices[rows], self.flipped[rows])

    def update(self, rows: slice, squared: Tensor, flipped: Tensor, first: int, unit: float) -> None:
        """Merges the next training images, the first of which has the index `first`.

        squared, flipped: (R, T) for the `rows`. unit: divisor of distances.
        """
        further = torch.arange(first, first + squared.shape[1]).expand(squared.shape)
        distances = torch.cat([self.distances[rows], squared.sqrt() / unit], dim=1)
        order = distances.argsort(dim=1, stable=True)[:, : self.distances.shape[1]]  # ties keep the lower index first
        self.distances[rows] = distances.gather(1, order)
        self.indices[rows] = torch.cat([self.indices[rows], further], dim=1).gather(1, order)
        self.flipped[rows] = torch.cat([self.flipped[rows], flipped], dim=1).gather(1, order)


@attrs.frozen(eq=False)
class Space:
    """A space of distances."""

    name: str
    """Name in tables and plots: 'pixels', 'features'."""
    points: Callable[[Tensor], Tensor]
    """(B, C, H, W) uint8 → (B, D), in a compact dtype."""
    unit: float = 1.0
    """Divisor of distances."""


def pixel_space() -> Space:
    """The space of pixel values in [0, 1]. Sums are over integers in float64, and therefore exact."""
    return Space("pixels", lambda images: images.flatten(1), unit=255.0)


def feature_space(network: FeatureNetwork) -> Space:
    """The space of a network's features. Its `points` raise NcsnxError for images that the network doesn't accept."""

    def points(images: Tensor) -> Tensor:
        batches = [usable(network(batch).features) for batch in images.split(_FEATURE_BATCH)]  # type: ignore[no-untyped-call]
        return torch.cat(batches)

    return Space("features", points)


def nearest(
    images: Tensor, training: RealImages, spaces: Sequence[Space], k: int, *, flips: bool = False, work: Work = SILENT
) -> list[Nearest]:
    """The k nearest training images of (Q, C, H, W) uint8 images, for each space.

    flips: whether mirror images of training images count too. The training images are searched in blocks of at most 64
    MiB, on whose size the result depends by the rounding of features at most.

    Raises NcsnxError.
    """
    block = max(1, min(_BLOCK_IMAGES, _BLOCK_BYTES // (8 * images[0].numel())))
    given = [space.points(images) for space in spaces]
    found = [Nearest.none(len(images), k) for _ in spaces]
    first = 0
    with work.progress("looking for neighbors", total=len(training), unit="images") as advance:
        for batch in training.batches(block, work.check_stop):
            for space, points, near in zip(spaces, given, found, strict=True):
                plain = space.points(batch).double()
                mirrored = space.points(batch.flip(-1)).double() if flips else None
                for rows in (slice(row, row + block) for row in range(0, len(images), block)):
                    work.check_stop()
                    squared = squared_distances(points[rows].double(), plain)
                    flipped = torch.zeros_like(squared, dtype=torch.bool)
                    if mirrored is not None:
                        other = squared_distances(points[rows].double(), mirrored)
                        flipped, squared = other < squared, torch.minimum(squared, other)
                    near.update(rows, squared, flipped, first, space.unit)
            first += len(batch)
            advance(len(batch))
    return found

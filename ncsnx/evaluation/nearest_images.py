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

    def update(self, rows: slice, further: "Nearest") -> None:
        """Merges further training images into some rows."""
        mine = self[rows]
        indices = torch.cat([mine.indices, further.indices], dim=1)
        distances = torch.cat([mine.distances, further.distances], dim=1)
        by_index = indices.argsort(dim=1)
        nearest_first = distances.gather(1, by_index).argsort(dim=1, stable=True)  # ties keep the lower index first
        order = by_index.gather(1, nearest_first)[:, : self.distances.shape[1]]
        self.flipped[rows] = torch.cat([mine.flipped, further.flipped], dim=1).gather(1, order)
        self.indices[rows] = indices.gather(1, order)
        self.distances[rows] = distances.gather(1, order)


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

    The ranks share the blocks; rank 0 merges what all have found, and only its result is whole. Raises NcsnxError.
    """
    block = max(1, min(_BLOCK_IMAGES, _BLOCK_BYTES // (8 * images[0].numel())))
    ranks = work.ranks
    starts = range(ranks.rank * block, len(training), ranks.world * block)
    given = [space.points(images) for space in spaces]
    found = [Nearest.none(len(images), k) for _ in spaces]
    name = "looking for neighbours" if ranks.world == 1 else "looking for neighbours, the share of rank 0"
    with work.progress(
        name, total=sum(min(block, len(training) - start) for start in starts), unit="images"
    ) as advance:
        batches = training.batches(block, work.check_stop, share=(ranks.rank, ranks.world))
        for first, batch in zip(starts, batches, strict=True):
            for space, points, near in zip(spaces, given, found, strict=True):
                plain = space.points(batch).double()
                mirrored = space.points(batch.flip(-1)).double() if flips else None
                for rows in (slice(row, row + block) for row in range(0, len(images), block)):
                    work.check_stop()
                    near.update(rows, _nearest_of(points[rows].double(), plain, mirrored, first, space.unit))
            advance(len(batch))
    for others in ranks.gather(lambda: found, check_stop=work.check_stop)[1:]:
        for near, further in zip(found, others, strict=True):
            near.update(slice(None), further)
    return found


def _nearest_of(points: Tensor, plain: Tensor, mirrored: Tensor | None, first: int, unit: float) -> Nearest:
    """All training images of a block that begins at index `first`, as neighbours of `points` in no order."""
    squared = squared_distances(points, plain)
    flipped = torch.zeros_like(squared, dtype=torch.bool)
    if mirrored is not None:
        other = squared_distances(points, mirrored)
        flipped, squared = other < squared, torch.minimum(squared, other)
    indices = torch.arange(first, first + len(plain)).expand(squared.shape)
    return Nearest(squared.sqrt() / unit, indices, flipped)

"""The k nearest training images of given ones: exact, in blocks, whatever the size of the training set.

Distances are Euclidean: of 8-bit pictures with values in [0, 1], and of features. One pass over the training images
serves every space; what is held is the given images, one block, and the k nearest so far.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Self

import attrs
import torch
from torch import Tensor

from ncsnx.features.feature_network import FeatureNetwork
from ncsnx.features.moments import usable
from ncsnx.features.real_images import RealImages
from ncsnx.metrics.manifold import squared_distances
from ncsnx.work import SILENT, Work

BLOCK_IMAGES = 1_024
_BLOCK_BYTES = 64 * 2**20
_FEATURE_BATCH = 64


@attrs.define(eq=False)
class Nearest:
    """The k nearest training images of each of Q images, nearest first; of equal distances the lower index is first.

    A training image and its mirror image count as one, at the smaller distance. Where there are fewer than k, the last
    distances are infinite and the indices −1.
    """

    distances: Tensor
    """(Q, k) float64."""
    indices: Tensor
    """(Q, k) int64, in the order of the training images."""
    flipped: Tensor
    """(Q, k) bool: whether the mirror image is the nearer one."""

    @classmethod
    def none(cls, queries: int, k: int) -> Self:
        """Of no training images yet."""
        return cls(
            torch.full((queries, k), torch.inf, dtype=torch.float64),
            torch.full((queries, k), -1, dtype=torch.int64),
            torch.zeros((queries, k), dtype=torch.bool),
        )

    def add(self, rows: slice, found: "Nearest") -> None:
        """Takes in, for some of the Q images, other training images, whose indices are higher than those before."""
        k = self.distances.shape[1]
        distances = torch.cat([self.distances[rows], found.distances], dim=1)
        order = distances.argsort(dim=1, stable=True)[:, :k]  # stable: what came first has the lower index
        for mine, whole in (
            (self.distances, distances),
            (self.indices, torch.cat([self.indices[rows], found.indices], dim=1)),
            (self.flipped, torch.cat([self.flipped[rows], found.flipped], dim=1)),
        ):
            mine[rows] = whole.gather(1, order)


@attrs.frozen(eq=False)
class Space:
    """Where distances are measured: what images are turned into, and how far these are from each other."""

    name: str
    """For people: 'pixels', 'features'."""
    points: Callable[[Tensor], Tensor]
    """(B, C, H, W) uint8 → (B, D), of any type that keeps it small."""
    squared: Callable[[Tensor, Tensor], Tensor]
    """(B, D) and (M, D) float64 → (B, M) squared distances."""
    unit: float = 1.0
    """What a distance is divided by."""


def pixel_space() -> Space:
    """Values in [0, 1]. The sums are of whole numbers in float64, and exact."""
    return Space("pixels", lambda images: images.flatten(1), _of_whole_numbers, unit=255.0)


def feature_space(network: FeatureNetwork) -> Space:
    """What a feature network sees. Raises NcsnxError for images that it can't take."""

    def points(images: Tensor) -> Tensor:
        batches = [usable(network(batch).features) for batch in images.split(_FEATURE_BATCH)]  # type: ignore[no-untyped-call]
        return torch.cat(batches)

    return Space("features", points, squared_distances)


def nearest(
    images: Tensor,
    training: RealImages,
    spaces: Sequence[Space],
    k: int,
    *,
    flips: bool = False,
    block: int | None = None,
    work: Work = SILENT,
) -> list[Nearest]:
    """For each space the k nearest training images of (Q, C, H, W) uint8.

    flips: whether the mirror image of a training image is one too. block: training images at once; by default as many
    as 64 MiB hold. The result doesn't depend on it, but for the rounding of features. Raises NcsnxError.
    """
    block = block or _block(images)
    points = [space.points(images) for space in spaces]
    found = [Nearest.none(len(images), k) for _ in spaces]
    done = 0
    with work.progress("looking for neighbours", total=len(training), unit="images") as advance:
        for batch in training.batches(block, work.check_stop):
            for space, own, kept in zip(spaces, points, found, strict=True):
                others = space.points(batch).double()
                mirrored = space.points(batch.flip(-1)).double() if flips else None
                for rows, squared, flipped in _measured(space, own, others, mirrored, block, work):
                    indices = torch.arange(done, done + len(batch)).expand(squared.shape)
                    kept.add(rows, Nearest(squared.sqrt() / space.unit, indices, flipped))
            done += len(batch)
            advance(len(batch))
    return found


def _measured(
    space: Space, own: Tensor, others: Tensor, mirrored: Tensor | None, block: int, work: Work
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """(rows of `own`, their squared distances to each of the others, whether to its mirror image), piece by piece."""
    for start in range(0, len(own), block):
        work.check_stop()
        rows = slice(start, start + block)
        some = own[rows].double()
        squared = space.squared(some, others)
        flipped = torch.zeros_like(squared, dtype=torch.bool)
        if mirrored is not None:
            other = space.squared(some, mirrored)
            flipped = other < squared
            squared = torch.minimum(squared, other)
        yield rows, squared, flipped


def _of_whole_numbers(x: Tensor, y: Tensor) -> Tensor:
    """|x|² + |y|² − 2xᵀy of whole numbers from 0 to 255: below 2⁵³ for any picture, so that no sum is rounded."""
    return torch.addmm(x.square().sum(dim=1)[:, None] + y.square().sum(dim=1), x, y.T, alpha=-2)


def _block(images: Tensor) -> int:
    return max(1, min(BLOCK_IMAGES, _BLOCK_BYTES // (8 * images[0].numel())))

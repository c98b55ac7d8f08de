"""Exact search for the k nearest training images of given images, in blocks, for training sets of any size.

Distances are Euclidean, between 8-bit images scaled to [0, 1] or between features. One pass over the training images
serves all spaces. Memory holds up to 256 MiB of the given images in each space, one block of training images, and the k
nearest so far. Where that is less than all, further passes serve the rest.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Protocol, Self

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
_HELD_BYTES = 2**28


class GivenImages(Protocol):
    """(Q, C, H, W) uint8, all in one tensor or read as they are needed."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Tensor: ...


@attrs.define(eq=False)
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

    def add(self, rows: slice, found: "Nearest") -> None:
        """Merges further training images, with higher indices than all before, into some rows."""
        k = self.distances.shape[1]
        distances = torch.cat([self.distances[rows], found.distances], dim=1)
        order = distances.argsort(dim=1, stable=True)[:, :k]  # stable, so that ties keep the lower index first
        for mine, whole in (
            (self.distances, distances),
            (self.indices, torch.cat([self.indices[rows], found.indices], dim=1)),
            (self.flipped, torch.cat([self.flipped[rows], found.flipped], dim=1)),
        ):
            mine[rows] = whole.gather(1, order)


@attrs.frozen(eq=False)
class Space:
    """A space of distances: a map from images to points, and the distance between points."""

    name: str
    """Name in tables and plots: 'pixels', 'features'."""
    points: Callable[[Tensor], Tensor]
    """(B, C, H, W) uint8 → (B, D), in a compact dtype."""
    squared: Callable[[Tensor, Tensor], Tensor]
    """(B, D) and (M, D) float64 → (B, M) squared distances."""
    unit: float = 1.0
    """Divisor of distances."""


def pixel_space() -> Space:
    """The space of pixel values in [0, 1]. Sums are over integers in float64, and therefore exact."""
    return Space("pixels", lambda images: images.flatten(1), _of_whole_numbers, unit=255.0)


def feature_space(network: FeatureNetwork) -> Space:
    """The space of a network's features. Its `points` raise NcsnxError for images that the network doesn't accept."""

    def points(images: Tensor) -> Tensor:
        batches = [usable(network(batch).features) for batch in images.split(_FEATURE_BATCH)]  # type: ignore[no-untyped-call]
        return torch.cat(batches)

    return Space("features", points, squared_distances)


def nearest(
    images: GivenImages,
    training: RealImages,
    spaces: Sequence[Space],
    k: int,
    *,
    flips: bool = False,
    block: int | None = None,
    work: Work = SILENT,
) -> list[Nearest]:
    """The k nearest training images of (Q, C, H, W) uint8 images, for each space.

    flips: whether mirror images of training images count too. block: training images per block; by default as many as
    fit into 64 MiB. The result depends on it by the rounding of features at most.

    Each rank searches consecutive blocks; rank 0 merges what all have found, and only its result is whole. Raises
    NcsnxError.
    """
    block, ranks = block or _block(images[:1]), work.ranks
    found = [Nearest.none(len(images), k) for _ in spaces]
    held = [max(1, _HELD_BYTES // space.points(images[:1]).nbytes) for space in spaces]
    starts = [range(0, len(images), most) for most in held]
    own = ranks.share(range(0, len(training), block))
    passes = max(map(len, starts)) if own else 0
    total = passes * sum(min(block, len(training) - start) for start in own)
    name = "looking for neighbours" if ranks.world == 1 else "looking for neighbours, the share of rank 0"
    with work.progress(name, total=total, unit="images") as advance:
        for number in range(passes):
            given = [
                (space, kept, starts[place][number], _points(space, images, starts[place][number], held[place], work))
                for place, (space, kept) in enumerate(zip(spaces, found, strict=True))
                if number < len(starts[place])
            ]
            done = own[0]
            for batch in islice(training.batches(block, work.check_stop, done), len(own)):
                for space, kept, first, mine in given:
                    others = space.points(batch).double()
                    mirrored = space.points(batch.flip(-1)).double() if flips else None
                    for start, squared, flipped in _measured(space, mine, others, mirrored, block, work):
                        indices = torch.arange(done, done + len(batch)).expand(squared.shape)
                        rows = slice(first + start, first + start + len(squared))
                        kept.add(rows, Nearest(squared.sqrt() / space.unit, indices, flipped))
                done += len(batch)
                advance(len(batch))
    for other in ranks.gather(found, work.check_stop)[1:]:
        for kept, further in zip(found, other, strict=True):
            kept.add(slice(None), further)
    return found


def _points(space: Space, images: GivenImages, first: int, most: int, work: Work) -> Tensor:
    """Points of at most `most` images from `first` on."""
    points: Tensor | None = None
    last = min(first + most, len(images))
    for start in range(first, last, _FEATURE_BATCH):
        work.check_stop()
        some = space.points(images[start : min(start + _FEATURE_BATCH, last)])
        points = some.new_empty((last - first, *some.shape[1:])) if points is None else points
        points[start - first : start - first + len(some)] = some
    assert points is not None
    return points


def _measured(
    space: Space, own: Tensor, others: Tensor, mirrored: Tensor | None, block: int, work: Work
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yields (start of a block of `own`, its squared distances to all others, whether the mirror image is nearer)."""
    for start in range(0, len(own), block):
        work.check_stop()
        some = own[start : start + block].double()
        squared = space.squared(some, others)
        flipped = torch.zeros_like(squared, dtype=torch.bool)
        if mirrored is not None:
            other = space.squared(some, mirrored)
            flipped = other < squared
            squared = torch.minimum(squared, other)
        yield start, squared, flipped


def _of_whole_numbers(x: Tensor, y: Tensor) -> Tensor:
    """|x|² + |y|² − 2xᵀy for integers from 0 to 255: below 2⁵³ for any image, so no sum is rounded."""
    return torch.addmm(x.square().sum(dim=1)[:, None] + y.square().sum(dim=1), x, y.T, alpha=-2)


def _block(images: Tensor) -> int:
    return max(1, min(BLOCK_IMAGES, _BLOCK_BYTES // (8 * images[0].numel())))

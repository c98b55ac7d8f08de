"""Improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991, equations 1 and 2).

The manifold of a set of features is the union of balls around each of them, with the distance to its k-th nearest
neighbor in the set as radius. Precision is the share of generated images in the manifold of the real ones; recall is
the reverse.
"""

from collections.abc import Iterator

import attrs
import torch
from torch import Tensor

from ncsnx.features.moments import require_dimensions, require_images, usable
from ncsnx.metrics.metric import FeatureSets, Quantity, metric
from ncsnx.quantities import counted


@metric(
    "precision-recall",
    Quantity("precision", better="higher", decimals=3),
    Quantity("recall", better="higher", decimals=3),
    needs=("sample",),
    least_sample=4,
)
def covered_shares(sets: FeatureSets) -> dict[str, float | None]:
    """Precision and recall of the generated images."""
    assert sets.sample is not None
    return {**precision_recall(sets.sample, sets.features)}


def precision_recall(real: Tensor, generated: Tensor, neighbors: int = 3, block: int = 1024) -> dict[str, float]:
    """Precision and recall of (n, D) generated features for (m, D) real ones, with k = `neighbors`; n, m > k.

    How realistic the images are, and how much of the real variety they cover; both in [0, 1]. They depend on n, m and
    k, so compare values only for equal n, m and k. Needs memory for a few times `block` features and `block`²
    distances. Raises NcsnxError for too few images, different dimensions, NaN or infinity.
    """
    reals, drawn = centered(real, generated)
    require_images(min(len(reals), len(drawn)), neighbors + 1, f"precision with {counted(neighbors, 'neighbor')}")
    return {
        "precision": _covered(drawn, reals, squared_radii(reals, neighbors, block), block),
        "recall": _covered(reals, drawn, squared_radii(drawn, neighbors, block), block),
    }


@attrs.frozen(eq=False)
class CenteredFeatures:
    """Features in float64 minus a common center, made block by block: an offset would cost precision of distances."""

    features: Tensor
    """(n, D) of any dtype."""
    center: Tensor
    """(D,) float64."""

    def __len__(self) -> int:
        return len(self.features)

    def blocks(self, size: int) -> Iterator[tuple[slice, Tensor]]:
        """(rows, their centered features) of `size` rows at a time."""
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield rows, self.features[rows].double() - self.center


def centered(real: Tensor, generated: Tensor) -> tuple[CenteredFeatures, CenteredFeatures]:
    """Both sets, minus the mean of the real ones. Raises NcsnxError for different dimensions, NaN or infinity."""
    real, generated = usable(real), usable(generated)
    require_dimensions(generated.shape[1], real.shape[1], "the real ones")
    center = real.mean(dim=0, dtype=torch.float64)
    return CenteredFeatures(real, center), CenteredFeatures(generated, center)


def squared_radii(points: CenteredFeatures, neighbors: int, block: int) -> Tensor:
    """Squared distance (n,) of each to its k-th nearest neighbor, not counting itself, but counting duplicates."""
    radii = []
    for rows, some in points.blocks(block):
        nearest = some.new_full((len(some), neighbors), torch.inf)
        for columns, others in points.blocks(block):
            distances = squared_distances(some, others)
            if columns == rows:
                distances.fill_diagonal_(torch.inf)
            nearest = torch.cat([nearest, distances], dim=1).topk(neighbors, largest=False).values
        radii.append(nearest[:, -1])
    return torch.cat(radii)


def _covered(points: CenteredFeatures, centers: CenteredFeatures, squared_radii: Tensor, block: int) -> float:
    """Share of points in the ball of at least one center."""
    count = 0
    for _, some in points.blocks(block):
        inside = torch.zeros(len(some), dtype=torch.bool)
        for columns, others in centers.blocks(block):
            inside |= (squared_distances(some, others) <= squared_radii[columns]).any(dim=1)
        count += int(inside.sum())
    return count / len(points)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances (n, m) as |x|² + |y|² − 2xᵀy, by one matrix product.

    Values below the rounding of this sum, (D + 4)·2e-16 of |x|² + |y|², count as 0, so that duplicates have a distance
    of exactly 0. Use float64: in float32, a thousand near images would count as duplicates.
    """
    squares = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    distances = torch.addmm(squares, x, y.T, alpha=-2)
    noise = (x.shape[1] + 4) * torch.finfo(x.dtype).eps
    return distances.masked_fill_(distances <= squares.mul_(noise), 0.0)

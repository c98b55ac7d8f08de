"""Improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991, equations 1 and 2).

The manifold of a set of features is the union of balls around each of them, with the distance to its k-th nearest
neighbour in the set as radius. Precision is the share of generated images in the manifold of the real ones; recall is
the reverse.
"""

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
    found = precision_recall(sets.sample, sets.features)
    return {"precision": found.precision, "recall": found.recall}


@attrs.frozen
class PrecisionRecall:
    """How realistic the images are, and how much of the real variety they cover; both in [0, 1]."""

    precision: float
    recall: float


def precision_recall(real: Tensor, generated: Tensor, neighbours: int = 3, block: int = 1024) -> PrecisionRecall:
    """Precision and recall of (n, D) generated features for (m, D) real ones, with k = `neighbours`; n, m > k.

    They depend on n, m and k, so compare values only for equal n, m and k. Needs memory for `block` × max(n, m)
    distances. Raises NcsnxError for too few images, different dimensions, NaN or infinity; ValueError if `neighbours`
    or `block` is below 1.
    """
    if neighbours < 1 or block < 1:
        raise ValueError(f"neighbours and block must be from 1, not {neighbours} and {block}")
    real, generated = centered(real, generated)
    require_images(min(len(real), len(generated)), neighbours + 1, f"precision with {counted(neighbours, 'neighbour')}")
    return PrecisionRecall(
        precision=_covered(generated, real, squared_radii(real, neighbours, block), block),
        recall=_covered(real, generated, squared_radii(generated, neighbours, block), block),
    )


def centered(real: Tensor, generated: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets in float64, minus the mean of the real ones, since a common offset would cost precision of distances.

    Raises NcsnxError for different dimensions, NaN or infinity.
    """
    real, generated = usable(real), usable(generated)
    require_dimensions(generated.shape[1], real.shape[1], "the real ones")
    center = real.mean(dim=0)
    return real - center, generated - center


def squared_radii(features: Tensor, neighbours: int, block: int) -> Tensor:
    """Squared distance (n,) of each to its k-th nearest neighbour, not counting itself, but counting duplicates."""
    radii = []
    for start in range(0, len(features), block):
        distances = squared_distances(features[start : start + block], features)
        distances.diagonal(offset=start).fill_(torch.inf)
        radii.append(distances.kthvalue(neighbours, dim=1).values)
    return torch.cat(radii)


def _covered(points: Tensor, centres: Tensor, squared_radii: Tensor, block: int) -> float:
    """Share of points in the ball of at least one centre."""
    inside = [
        (squared_distances(points[start : start + block], centres) <= squared_radii).any(dim=1)
        for start in range(0, len(points), block)
    ]
    return torch.cat(inside).double().mean().item()


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances (n, m) as |x|² + |y|² − 2xᵀy, by one matrix product.

    Values below the rounding of this sum, (D + 4)·2e-16 of |x|² + |y|², count as 0, so that duplicates have a distance
    of exactly 0. Use float64: in float32, a thousand near images would count as duplicates.
    """
    squares = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    distances = torch.addmm(squares, x, y.T, alpha=-2)
    noise = (x.shape[1] + 4) * torch.finfo(x.dtype).eps
    return distances.masked_fill_(distances <= squares.mul_(noise), 0.0)

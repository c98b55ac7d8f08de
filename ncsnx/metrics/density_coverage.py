"""Density and coverage (Naeem et al. 2020, arXiv 2002.09797, equations 3 and 4, k = 5).

Around each of the m real images lies a ball that reaches to its k-th nearest neighbour among them. Density counts the
balls that a generated image lies in, over k; it may exceed 1, and outliers of the reference, whose balls are large,
raise it less than they raise precision. Coverage is the share of the balls that hold a generated image; a model that
drops a mode lacks its balls. Of images of the reference's own distribution density is 1 in the mean, and coverage
1 − (m − 1)⋯(m − k)/((m + n − 1)⋯(m + n − k)) (their lemma 3), 0.97 for m = n and k = 5.
"""

import attrs
import torch
from torch import Tensor

from ncsnx.features.moments import require_images
from ncsnx.metrics.manifold import centered, squared_distances, squared_radii
from ncsnx.metrics.metric import FeatureSets, Quantity, metric
from ncsnx.quantities import counted


@attrs.frozen
class DensityCoverage:
    """How densely the generated images lie where real ones do, and how much of the real variety they reach.

    The errors say how far the values would stray with other images of the same model, the reference held fixed: the
    jackknife over the generated images. For density, a mean over these, it is the standard error of a mean; coverage
    loses with an image the balls that it alone lies in. A jackknife's variance is never too small in the mean (Efron &
    Stein 1981, Annals of Statistics 9, 586–596): for coverage the error was 1.2 times the true spread at a coverage of
    0.64 and 1.8 times at 0.98.
    """

    density: float
    """≥ 0."""
    density_error: float
    coverage: float
    """In [0, 1]."""
    coverage_error: float


@metric(
    "density-coverage",
    Quantity("density", error="density_error", better="higher", perfect=1.0),
    Quantity("coverage", error="coverage_error", better="higher"),
    needs=("sample",),
    least_sample=6,
)
def density_coverage_score(sets: FeatureSets) -> dict[str, float | None]:
    """Density and coverage of the generated images, with their errors."""
    assert sets.sample is not None
    return attrs.asdict(density_coverage(sets.sample, sets.features))


def density_coverage(real: Tensor, generated: Tensor, neighbors: int = 5, block: int = 1024) -> DensityCoverage:
    """Of (m, D) real and (n, D) generated features, with k = `neighbors`; m > k, n ≥ 2.

    Coverage depends on n, m and k, so compare only what is equal in these. Needs memory for `block` × max(n, m)
    distances. NcsnxError where images are too few, dimensions differ or features aren't finite; ValueError where
    `neighbors` or `block` is below 1.
    """
    if neighbors < 1 or block < 1:
        raise ValueError(f"neighbors and block must be from 1, not {neighbors} and {block}")
    real, generated = centered(real, generated)
    require_images(len(real), neighbors + 1, f"density with {counted(neighbors, 'neighbor')}")
    require_images(len(generated), 2, "the error of a density")
    radii = squared_radii(real, neighbors, block)
    balls, alone = torch.zeros(2, len(generated), dtype=torch.float64)
    covered = 0
    for start in range(0, len(real), block):
        inside = squared_distances(real[start : start + block], generated) <= radii[start : start + block, None]
        held = inside.sum(dim=1)
        balls += inside.sum(dim=0)
        alone += inside[held == 1].sum(dim=0)
        covered += int((held > 0).sum())
    density, lost = balls / neighbors, alone / len(real)
    n = len(generated)
    return DensityCoverage(
        density=density.mean().item(),
        density_error=(density.var() / n).sqrt().item(),
        coverage=covered / len(real),
        coverage_error=(lost.var() * (n - 1) ** 2 / n).sqrt().item(),
    )

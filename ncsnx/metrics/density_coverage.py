"""Density and coverage (Naeem et al. 2020, arXiv 2002.09797, equations 3 and 4, k = 5).

Each of the m real images has a ball that reaches to its k-th nearest neighbor among them. Density is the number of
balls that a generated image lies in, divided by k; it may exceed 1. Outliers of the reference, whose balls are large,
raise it less than they raise precision. Coverage is the share of balls that contain a generated image; a dropped mode
lowers it. For images from the reference's distribution, the expected density is 1 and the expected coverage
1 − (m − 1)⋯(m − k)/((m + n − 1)⋯(m + n − k)) (their lemma 3), 0.97 for m = n and k = 5.
"""

import torch
from torch import Tensor

from ncsnx.features.moments import require_images
from ncsnx.metrics.manifold import centered, squared_distances, squared_radii
from ncsnx.metrics.metric import FeatureSets, Quantity, metric
from ncsnx.quantities import counted


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
    return {**density_coverage(sets.sample, sets.features)}


def density_coverage(real: Tensor, generated: Tensor, neighbors: int = 5, block: int = 1024) -> dict[str, float]:
    """Density and coverage of (n, D) generated features for (m, D) real ones, with k = `neighbors`; m > k, n ≥ 2.

    How densely generated images populate the regions of real ones, and how much of the real variety they cover. Errors
    are standard errors for other images of the same model and a fixed reference, by the jackknife over generated
    images. For density, a mean over images, this is the standard error of a mean. For coverage, leaving an image out
    removes the balls that contain no other. The expected jackknife variance is never too small (Efron & Stein 1981,
    Annals of Statistics 9, 586–596): for coverage, the error was 1.2 times the true standard deviation at a coverage of
    0.64, and 1.8 times at 0.98.

    Coverage depends on n, m and k, so compare values only for equal n, m and k. Needs memory for a few times `block`
    features, `block`² distances and `block` · n bytes. Raises NcsnxError for too few images, different dimensions, NaN
    or infinity.
    """
    reals, drawn = centered(real, generated)
    require_images(len(reals), neighbors + 1, f"density with {counted(neighbors, 'neighbor')}")
    require_images(len(drawn), 2, "the error of a density")
    radii = squared_radii(reals, neighbors, block)
    balls, alone = torch.zeros(2, len(drawn), dtype=torch.float64)
    covered = 0
    for rows, some in reals.blocks(block):
        limits = radii[rows, None]
        inside = torch.cat([squared_distances(some, other) <= limits for _, other in drawn.blocks(block)], dim=1)
        held = inside.sum(dim=1)
        balls += inside.sum(dim=0)
        alone += inside[held == 1].sum(dim=0)
        covered += int((held > 0).sum())
    density, lost = balls / neighbors, alone / len(reals)
    n = len(drawn)
    return {
        "density": density.mean().item(),
        "density_error": (density.var() / n).sqrt().item(),
        "coverage": covered / len(reals),
        "coverage_error": (lost.var() * (n - 1) ** 2 / n).sqrt().item(),
    }

"""The Fréchet distance between two sets of features and its standard error.

It is the distance between normal distributions with the sets' moments (Dowson & Landau 1982; the FID of Heusel et al.
2017, arXiv 1706.08500, equation 6):

    d² = |μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½

The last trace is the sum of the square roots of the eigenvalues of Σ₁Σ₂. With Σ₁ = A₁A₁ᵀ and Σ₂ = A₂A₂ᵀ, these square
roots are the singular values of A₁ᵀA₂, so the trace is a nuclear norm. This is real and accurate for singular
covariances too, unlike a matrix square root of Σ₁Σ₂. Everything is float64 on the CPU.
"""

import math
import statistics

import torch
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.features.moments import Moments, blocks, require_dimensions, require_images, usable
from ncsnx.metrics.metric import FeatureSets, Quantity, metric
from ncsnx.randomness import Purpose, Stream
from ncsnx.spelling import argument

FRECHET_DISTANCE = Quantity("score", "FD", of_inception="FID", error="error")


@metric("frechet-distance", FRECHET_DISTANCE, on_request=False)
def frechet_score(sets: FeatureSets) -> dict[str, float | None]:
    """The distance of the generated images to the reference, and its standard error."""
    return {
        "score": frechet_distance_of_images(sets.features, sets.mean, sets.covariance),
        "error": standard_error(sets.features, sets.mean, sets.covariance, sets.seed),
    }


def frechet_distance(mean_1: Tensor, covariance_1: Tensor, mean_2: Tensor, covariance_2: Tensor) -> float:
    """d² ≥ 0 between two sets given by their means (D,) and covariances (D, D).

    Symmetric, and 0 for equal arguments up to about D·2e-16 of tr Σ. Takes seconds at D = 2,048. Raises NcsnxError for
    different dimensions, NaN or infinity.
    """
    mean_1, covariance_1 = _statistics(mean_1, covariance_1)
    mean_2, covariance_2 = _statistics(mean_2, covariance_2)
    require_dimensions(len(mean_1), len(mean_2), "the reference's")
    overlap = _nuclear_norm(_root(covariance_1).T @ _root(covariance_2))
    return _assembled(mean_1 - mean_2, covariance_1.trace(), covariance_2.trace(), overlap)


def frechet_distance_of_images(features: Tensor, mean: Tensor, covariance: Tensor) -> float:
    """d² ≥ 0 between images, (n, D) features with n ≥ 2, and a reference's mean (D,) and covariance (D, D).

    Equal to `frechet_distance` of the images' moments. For n < D, all decompositions are at most n × n (`_projected`).
    Raises NcsnxError as there, and for n < 2.
    """
    rows, mean, covariance = _comparable(features, mean, covariance, least=2)
    if len(rows) < rows.shape[1]:
        few = rows.double()
        return _distance(few, _projected(few, covariance), mean, covariance.trace())
    moments = Moments.empty(rows.shape[1])
    moments.add(rows)
    return frechet_distance(moments.mean, moments.covariance, mean, covariance)


def standard_error(features: Tensor, mean: Tensor, covariance: Tensor, seed: int, halves: int = 20) -> float:
    """Standard error of `frechet_distance_of_images` for other images of the same model.

    A delete-d jackknife (Shao & Wu, "A general theory for jackknife variance estimation", Annals of Statistics 1989)
    over random subsets of r images that leave d = n − r out: √(r/d) times the standard deviation of the subsets'
    distances. A subset of r out of n varies around the whole with variance S²/r · (1 − r/n) = S²/n · d/r, hence the
    factor. For halves, r = ⌊n/2⌋, it is 1 (n even). The subsets are drawn from `seed`.

    Limitations: The estimate has a relative error of 1/√(2·(halves − 1)) itself, 16 % at 20. The reference counts as
    exact. The estimate is conservative, 1.0 to about 1.9 times the true standard deviation on normal features and on
    features of real digits: too large by 10 to 20 % for n < D, and most for a nearly perfect model, where the distance
    isn't linear in the moments. It doesn't include the bias: a distance from few images is too large, by tr Σ/n for the
    mean and often by much more for the covariance, so compare distances for equal n only.

    Costs one decomposition, as the distance does, and for every half the singular values of n/2 × min(n, D) numbers:
    seconds altogether for n = 1,000, but minutes for n ≥ D = 2,048. Holds one half, and blocks of it in float64.

    Raises NcsnxError for n < 4 and as above.
    """
    rows, mean, covariance = _comparable(features, mean, covariance, least=4)
    stream = Stream(seed, Purpose.SUBSETS)
    kept = len(rows) // 2
    subsets = (stream.choice(len(rows), kept, epoch=number) for number in range(halves))
    trace = covariance.trace()
    if len(rows) < rows.shape[1]:
        few = rows.double()
        projected = _projected(few, covariance)
        distances = [_distance(few[half], projected[half], mean, trace) for half in subsets]
    else:
        root = _root(covariance)
        distances = [_distance_in_blocks(rows[half], root, mean, trace) for half in subsets]
    return math.sqrt(kept / (len(rows) - kept)) * statistics.stdev(distances)


def _projected(rows: Tensor, covariance: Tensor) -> Tensor:
    """F, (n, n), with FFᵀ = XΣXᵀ for n ≤ D centered rows X, from which the last trace follows.

    The images span n directions: with Xᵀ = QR, XΣXᵀ = Rᵀ(QᵀΣQ)R, so F = RᵀA for the small QᵀΣQ = AAᵀ. Centring a subset
    of the rows of X centers the same rows of F, so one F serves the distances of all subsets.
    """
    basis: Tensor
    triangle: Tensor
    basis, triangle = torch.linalg.qr((rows - rows.mean(dim=0)).T)
    return triangle.T.mm(_root(basis.T @ covariance @ basis))


def _distance(rows: Tensor, projected: Tensor, mean: Tensor, reference_trace: Tensor) -> float:
    """d² between the images in `rows`, with their rows of F, and a reference with this mean and covariance trace."""
    degrees = len(rows) - 1
    own_mean = rows.mean(dim=0)
    trace = (rows - own_mean).square().sum() / degrees
    overlap = _nuclear_norm(projected - projected.mean(dim=0)) / math.sqrt(degrees)
    return _assembled(own_mean - mean, trace, reference_trace, overlap)


def _distance_in_blocks(rows: Tensor, root: Tensor, mean: Tensor, reference_trace: Tensor) -> float:
    """d² between the images in `rows` and a reference with this mean, a `_root` of its covariance, and its trace.

    The centered rows are X = QR, so XA has the singular values of RA. R is updated block by block, which is as accurate
    as one decomposition of X; the eigenvalues of XᵀX would lose half of the digits.
    """
    own_mean = sum(block.sum(dim=0) for block in blocks(rows)) / len(rows)
    triangle = rows.new_empty((0, rows.shape[1]), dtype=torch.float64)
    for block in blocks(rows):
        triangle = torch.linalg.qr(torch.cat([triangle, block - own_mean]), mode="r").R
    degrees = len(rows) - 1
    overlap = _nuclear_norm(triangle @ root) / math.sqrt(degrees)
    return _assembled(own_mean - mean, triangle.square().sum() / degrees, reference_trace, overlap)


def _assembled(shift: Tensor, trace_1: Tensor, trace_2: Tensor, overlap: Tensor) -> float:
    return max(0.0, float(shift @ shift + trace_1 + trace_2 - 2 * overlap))


def _nuclear_norm(matrix: Tensor) -> Tensor:
    singular_values: Tensor = torch.linalg.svdvals(matrix)
    return singular_values.sum()


def _root(matrix: Tensor) -> Tensor:
    """A with AAᵀ = `matrix`, symmetric and positive semidefinite.

    Eigenvalues at the level of rounding count as 0: the roots of a thousand of them at 1e-16, 1e-8, would add up.
    """
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh(matrix)
    noise = len(matrix) * torch.finfo(matrix.dtype).eps * values[-1].clamp_min(0.0)
    return vectors.mul(torch.where(values > noise, values, 0.0).sqrt())


def _comparable(features: Tensor, mean: Tensor, covariance: Tensor, least: int) -> tuple[Tensor, Tensor, Tensor]:
    rows = usable(features)
    require_images(len(rows), least, "a distance" if least == 2 else "an error bar from halves")
    mean, covariance = _statistics(mean, covariance)
    require_dimensions(rows.shape[1], len(mean), "the reference's")
    return rows, mean, covariance


def _statistics(mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance in float64 on the CPU. Raises NcsnxError for shapes that don't match, NaN or infinity."""
    if mean.dim() != 1 or covariance.shape != (len(mean), len(mean)):
        raise NcsnxError(
            f"mean and covariance must have the shapes (D,) and (D, D), not {tuple(mean.shape)} and "
            f"{tuple(covariance.shape)}; use another reference with {argument('reference')}"
        )
    mean, covariance = mean.detach().cpu().double(), covariance.detach().cpu().double()
    if not (mean.isfinite().all() and covariance.isfinite().all()):
        raise NcsnxError(
            f"the mean or the covariance holds NaN or infinity; use another reference with {argument('reference')}"
        )
    return mean, covariance

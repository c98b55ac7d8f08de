"""The Fréchet distance between two sets of features, as if both were normal (Dowson & Landau 1982; the FID of
Heusel et al. 2017, arXiv 1706.08500, equation 6), and its error bar.

d² = |μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½

The last trace is that of the square roots of the eigenvalues of Σ₁Σ₂. With Σ₁ = A₁A₁ᵀ and Σ₂ = A₂A₂ᵀ these are the
singular values of A₁ᵀA₂, so that it is a nuclear norm: real, and right where covariances are singular, which a square
root of the product Σ₁Σ₂ is not. Everything is float64 on the CPU.
"""

import math
import statistics

import torch
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.features.moments import Moments, require_dimensions, require_images, usable
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

    Symmetric, and 0 for equal arguments to about D·2e-16 of tr Σ. Takes some seconds at D = 2,048. NcsnxError where
    the dimensions differ, or numbers aren't finite.
    """
    mean_1, covariance_1 = _statistics(mean_1, covariance_1)
    mean_2, covariance_2 = _statistics(mean_2, covariance_2)
    require_dimensions(len(mean_1), len(mean_2), "the reference's")
    overlap = _nuclear_norm(_root(covariance_1).T @ _root(covariance_2))
    return _assembled(mean_1 - mean_2, covariance_1.trace(), covariance_2.trace(), overlap)


def frechet_distance_of_images(features: Tensor, mean: Tensor, covariance: Tensor) -> float:
    """d² ≥ 0 between images, (n, D) features with n ≥ 2, and a reference's mean (D,) and covariance (D, D).

    The same number as `frechet_distance` gives for the images' moments. Where there are fewer images than features,
    no decomposition is larger than n × n (`_projected`). NcsnxError as there, and where n < 2.
    """
    rows, mean, covariance = _comparable(features, mean, covariance, least=2)
    if len(rows) < rows.shape[1]:
        return _distance(rows, _projected(rows, covariance), mean, covariance.trace())
    moments = Moments.empty(rows.shape[1])
    moments.add(rows)
    return frechet_distance(moments.mean, moments.covariance, mean, covariance)


def standard_error(features: Tensor, mean: Tensor, covariance: Tensor, seed: int, halves: int = 20) -> float:
    """How far `frechet_distance_of_images` would stray with other images of the same model: one standard deviation.

    A delete-d jackknife (Shao & Wu, "A general theory for jackknife variance estimation", Annals of Statistics 1989)
    with d = n − r of the n images left out, over random subsets: √(r/d) times the standard deviation of the subsets'
    distances. A subset of r out of n varies around the whole with variance S²/r · (1 − r/n) = S²/n · d/r, hence the
    factor; at halves, r = ⌊n/2⌋, it is 1 (n even). The subsets are drawn from `seed`.

    What it doesn't say: the estimate itself has a relative error of 1/√(2·(halves − 1)), 16 % at 20. The reference
    counts as exact. It is conservative, 1.0 to about 1.9 times the true spread as measured on normal features and on
    those of real digits: too large by 10 to 20 % where n < D, and most where the model is nearly perfect, since the
    distance is then not linear in the moments. And it is the spread of a distance, not its bias: a distance from few
    images is too large, by tr Σ/n for the mean and often by much more for the covariance, so compare only distances
    from equally many images.

    Costs one decomposition like the distance's, and for every half the singular values of n/2 × min(n, D) numbers:
    seconds altogether for n = 1,000, but minutes for n ≥ D = 2,048.

    NcsnxError where n < 4 and as above; ValueError where `halves` < 2.
    """
    if halves < 2:
        raise ValueError(f"a spread needs at least 2 halves, not {halves}")
    rows, mean, covariance = _comparable(features, mean, covariance, least=4)
    projected = _projected(rows, covariance)
    stream = Stream(seed, Purpose.SUBSETS)
    kept = len(rows) // 2
    distances = []
    for number in range(halves):
        half = stream.permutation(len(rows), epoch=number)[:kept]
        distances.append(_distance(rows[half], projected[half], mean, covariance.trace()))
    return math.sqrt(kept / (len(rows) - kept)) * statistics.stdev(distances)


def _projected(rows: Tensor, covariance: Tensor) -> Tensor:
    """(n, min(n, D)) F with FFᵀ = XΣXᵀ for the centred rows X: all that a distance needs of the covariances' product.

    For n ≥ D, F = XA with Σ = AAᵀ. Below that, the images span n directions: with Xᵀ = QR, XΣXᵀ = Rᵀ(QᵀΣQ)R, so
    F = RᵀA for the small QᵀΣQ = AAᵀ. Centring a part of the rows again centres the same rows of F, so that any part
    of the images can be compared from one F.
    """
    centred = rows - rows.mean(dim=0)
    if len(rows) >= rows.shape[1]:
        return centred.mm(_root(covariance))
    basis: Tensor
    triangle: Tensor
    basis, triangle = torch.linalg.qr(centred.T)
    return triangle.T.mm(_root(basis.T @ covariance @ basis))


def _distance(rows: Tensor, projected: Tensor, mean: Tensor, reference_trace: Tensor) -> float:
    """d² of the images in `rows`, given their part of F, to a reference with this mean and trace of the covariance."""
    degrees = len(rows) - 1
    own_mean = rows.mean(dim=0)
    trace = (rows - own_mean).square().sum() / degrees
    overlap = _nuclear_norm(projected - projected.mean(dim=0)) / math.sqrt(degrees)
    return _assembled(own_mean - mean, trace, reference_trace, overlap)


def _assembled(shift: Tensor, trace_1: Tensor, trace_2: Tensor, overlap: Tensor) -> float:
    return max(0.0, float(shift @ shift + trace_1 + trace_2 - 2 * overlap))


def _nuclear_norm(matrix: Tensor) -> Tensor:
    singular_values: Tensor = torch.linalg.svdvals(matrix)
    return singular_values.sum()


def _root(matrix: Tensor) -> Tensor:
    """A with AAᵀ = `matrix`, symmetric and positive semidefinite.

    Eigenvalues that are rounding only count as 0: a thousand of them at 1e-16 would have roots of 1e-8 and be seen.
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
    """Both in float64 on the CPU. NcsnxError where they don't belong together or aren't finite."""
    if mean.dim() != 1 or covariance.shape != (len(mean), len(mean)):
        raise NcsnxError(
            f"a mean of the shape {tuple(mean.shape)} and a covariance of the shape {tuple(covariance.shape)} do not "
            f"belong together: (D,) and (D, D) are expected; give another reference with {argument('reference')}"
        )
    mean, covariance = mean.detach().cpu().double(), covariance.detach().cpu().double()
    if not (mean.isfinite().all() and covariance.isfinite().all()):
        raise NcsnxError(
            "the mean or the covariance has numbers that are not finite; give another reference with "
            f"{argument('reference')}"
        )
    return mean, covariance

"""The score of a perfect model: the noise floor of the Fréchet distance, measured between disjoint sets of real images.

Even a model that draws new real images doesn't score 0. The distance of n images to a reference of N images is too
large by about c·(1/n + 1/N), since neither set has the exact moments of the distribution. Scores are therefore shown
beside the distance of d real images to the rest of the reference, averaged over several draws. By the same formula,
that distance is larger than that of n images to N by the factor (1/d + 1/(N − d)) / (1/n + 1/N), and is divided by it.

If n ≤ N/4, then d = n; the factor then corrects by at most 6 %, for the smaller rest. Otherwise there are too few real
images, and d : (N − d) = n : N. d is at most half of the images whose features are kept, so that draws differ. Draws
are added until the relative standard error of their mean is 5 %. Features that vary in only a few directions, such as
those of small classifiers, give distances with a standard deviation of half their mean.

On normal features of D dimensions, with equal and with decreasing variances, the result is within 2 % of the mean over
new images for d ≥ 2D, and within 3 % if d is limited by the features that are kept. If the reference has fewer than 2D
images, it is too small: by 3 to 8 % for n ≤ N/4; for a larger n and equal variances, the worst case, by up to

    N/D       0.1    0.25   0.5    0.75   1      1.25   1.5    2
    n ≤ N     38 %   40 %   30 %   24 %   15 %   13 %   10 %   4 %
    n = 16N   63 %   62 %   53 %   41 %   26 %   16 %   9 %    5 %

This error isn't part of its spread, so it is stated separately (`too_small`). Duplicates in the reference count once.

Drawing n and N images with replacement would need no correction, but was too small by 6 % at N = 6D and by 24 to 34 %
at N = D, since images drawn twice don't add to the rank.
"""

import math
import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import attrs

from ncsnx.quantities import counted, percent, with_error
from ncsnx.runs.score_files import value

if TYPE_CHECKING:
    from torch import Tensor

    from ncsnx.work import Work

_VERSION = 1
"""Version of the method; raised when any number changes."""
LEAST_DRAWS, MOST_DRAWS = 5, 50
ACCURACY = 0.05
"""Relative standard error of the mean over draws at which drawing stops."""
LEAST_IMAGES = 4
"""Fewest real images that split into two sets with a covariance each."""
_TOO_SMALL = ((0.5, 0.4, 0.65), (0.75, 0.3, 0.55), (1, 0.25, 0.45), (1.25, 0.15, 0.3), (1.5, 0.15, 0.2), (2, 0.1, 0.1))
"""Rows of (images per feature below which it applies, bound on the missing share for n ≤ N, and for n > N)."""
_MOST_IMAGES = 2**53
_FIRST_EPOCH = 100
"""First epoch of the permutations for draws; earlier ones choose other subsets."""


@attrs.frozen(kw_only=True)
class PerfectModel:
    """The Fréchet distance that new real images would score: the noise floor of the metric."""

    score: float
    """Mean over the draws."""
    spread: float
    """Standard deviation over the draws, and so between the scores of two perfect models."""
    n: int
    """Number of images of the scores that this is compared with."""
    reference_images: int
    """N, the number of images of the reference."""
    drawn: int
    """d, the number of real images that stand in for generated ones in each draw."""
    draws: int
    images_per_feature: float | None = None
    """Distinct images of the reference divided by D; None if measured by an earlier version, which didn't record it."""

    @property
    def too_small(self) -> float:
        """Upper bound on the share of the true value that the score misses; 0 if unknown or below a tenth."""
        if self.images_per_feature is None or 4 * self.n <= self.reference_images:
            return 0.0
        for limit, few, many in _TOO_SMALL:
            if self.images_per_feature < limit:
                return few if self.n <= self.reference_images else many
        return 0.0

    @property
    def scale(self) -> float:
        """The factor that the distance of `drawn` images to the rest was multiplied by."""
        rest = self.reference_images - self.drawn
        return (1 / self.n + 1 / self.reference_images) / (1 / self.drawn + 1 / rest)

    @property
    def words(self) -> str:
        """How it was measured, in words."""
        words = f"{counted(self.drawn, 'real image')} against the rest"
        if self.drawn != self.n:
            words += f", scaled to {self.n:,} against {counted(self.reference_images, 'image')}"
        if self.too_small and self.images_per_feature is not None:
            words += (
                f"; may be up to {percent(self.too_small)} too small, for a ratio of distinct reference images to "
                f"features of {self.images_per_feature:.2g}"
            )
        return words

    def __str__(self) -> str:
        return f"{with_error(self.score, self.spread)} ({self.words})"

    def to_json(self) -> dict[str, Any]:
        """The numbers and how they were measured, as JSON."""
        return {**attrs.asdict(self), "version": _VERSION, "scale": self.scale, "words": self.words}

    @classmethod
    def from_json(cls, content: object) -> Self | None:
        """The inverse of `to_json`; None for anything else and for numbers of another version."""
        if not isinstance(content, Mapping) or content.get("version") != _VERSION:
            return None
        score, spread = value(dict(content), "score"), value(dict(content), "spread")
        names = ("n", "reference_images", "drawn", "draws")
        counts = {name: n for name in names if type(n := content.get(name)) is int and 0 < n < _MOST_IMAGES}
        if score is None or spread is None or min(score, spread) < 0 or len(counts) < len(names):
            return None
        if counts["drawn"] >= counts["reference_images"]:
            return None
        return cls(score=score, spread=spread, images_per_feature=value(dict(content), "images_per_feature"), **counts)


def images_to_draw(n: int, reference_images: int, kept: int) -> int:
    """d for scores of n images against `reference_images` ≥ 4, if the features of `kept` of them are available."""
    wanted = n if 4 * n <= reference_images else round(n * reference_images / (n + reference_images))
    return min(wanted, kept // 2)


def measure_perfect_model(
    n: int, reference_images: int, mean: "Tensor", covariance: "Tensor", sample: "Tensor", work: "Work"
) -> PerfectModel:
    """The score of n ≥ 1 images of a perfect model against a reference with mean (D,) and covariance (D, D).

    sample: (m, D) features of m of the reference's images; m and `reference_images` at least 4. Draws use a fixed seed.
    Each computes one distance of `images_to_draw` images: seconds for 1,000 images in 2,048 dimensions. Raises
    NcsnxError.
    """
    from ncsnx.features.moments import Moments
    from ncsnx.metrics.frechet import frechet_distance_of_images
    from ncsnx.randomness import Purpose, Stream

    drawn = images_to_draw(n, reference_images, len(sample))
    whole = Moments.of(reference_images, mean, covariance)
    stream = Stream(0, Purpose.SUBSETS)
    distances: list[float] = []
    with work.progress("perfect model", total=MOST_DRAWS, unit="draws") as advance:
        while len(distances) < MOST_DRAWS and not _is_known(distances):
            work.check_stop()
            epoch = _FIRST_EPOCH + len(distances)
            chosen = sample[stream.permutation(len(sample), epoch=epoch)[:drawn]]
            part = Moments.empty(len(mean))
            part.add(chosen)
            rest = whole.without(part)
            distances.append(frechet_distance_of_images(chosen, rest.mean, rest.covariance))
            advance()
    found = PerfectModel(
        score=statistics.fmean(distances),
        spread=statistics.stdev(distances),
        n=n,
        reference_images=reference_images,
        drawn=drawn,
        draws=len(distances),
        images_per_feature=_distinct(sample) * reference_images / len(mean),
    )
    return attrs.evolve(found, score=found.scale * found.score, spread=found.scale * found.spread)


def _distinct(sample: "Tensor") -> float:
    """Share of distinct images."""
    return len({row.tobytes() for row in sample.numpy()}) / len(sample)


def _is_known(distances: list[float]) -> bool:
    if len(distances) < LEAST_DRAWS:
        return False
    error = statistics.stdev(distances) / math.sqrt(len(distances))
    return error <= ACCURACY * statistics.fmean(distances)

"""What a perfect model would score: real images in the place of generated ones, in the protocol of the scores.

The Fréchet distance of n images to a reference of N isn't 0 for a model that draws new real images. It is too large by
about c·(1/n + 1/N), since neither set has the moments of the distribution. So a score is held beside that of real
images: d of them against the rest of the reference, which has none of these, in several draws. By the same law that
distance is larger than n images' to N by the factor (1/d + 1/(N − d)) / (1/n + 1/N), and it is divided by this.

d is n where that is at most a quarter of N; the division then takes back 6 % at most, for the smaller rest. Else there
are too few real images, and d : N − d is n : N. d is never more than half of the images whose features are kept, so
that draws differ. Draws are added until their mean is known to 5 %: features that vary in a few directions only, as
those of small classifiers, make distances that stray by half of their mean.

Measured on normal features of D dimensions, equal variances and falling ones, this is within 2 % of the mean over new
images where d ≥ 2D, 3 % where d is small for the features that are kept. Where the reference has fewer than 2D images
it is too small: by 3 to 8 % where n ≤ N/4, and for a larger n, on equal variances, which are the worst, by up to

    N/D       0.1    0.25   0.5    0.75   1      1.25   1.5    2
    n ≤ N     38 %   40 %   30 %   24 %   15 %   13 %   10 %   4 %
    n = 16N   63 %   62 %   53 %   41 %   26 %   16 %   9 %    5 %

which is said beside it, since its spread is small all the same. Images that the reference has twice count once.
(Drawing n and N with replacement would need no law. It was found too small by 6 % at N = 6D and by 24 to 34 % at N = D,
since images that are drawn twice count once for the rank.)
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
"""Of how it is measured: rises with any change of a number."""
LEAST_DRAWS, MOST_DRAWS = 5, 50
ACCURACY = 0.05
"""Of the mean over the draws: its standard error, relative to it, from which on no more are made."""
LEAST_IMAGES = 4
"""Real images that can be parted into two sets with a covariance each."""
_TOO_SMALL = ((0.5, 0.4, 0.65), (0.75, 0.3, 0.55), (1, 0.25, 0.45), (1.25, 0.15, 0.3), (1.5, 0.15, 0.2), (2, 0.1, 0.1))
"""Up to so many images per feature, by up to what share a score may be too small: for n ≤ N, and for a larger n."""
_MOST_IMAGES = 2**53
_FIRST_EPOCH = 100
"""Of the permutations that draws are taken from: earlier ones choose other subsets."""


@attrs.frozen(kw_only=True)
class PerfectModel:
    """The Fréchet distance that new real images would get."""

    score: float
    """The mean over the draws."""
    spread: float
    """Their standard deviation: how far the score of one perfect model strays from that of another."""
    n: int
    """Images of each score that this is to be held beside."""
    reference_images: int
    """N."""
    drawn: int
    """d, the real images that stand for generated ones in each draw."""
    draws: int
    images_per_feature: float | None = None
    """Distinct images of the reference, divided by D; None where an earlier version measured it, which didn't say."""

    @property
    def too_small(self) -> float:
        """Up to what share of it is missing in the score; 0 where that is less than a tenth, or isn't known."""
        if self.images_per_feature is None or 4 * self.n <= self.reference_images:
            return 0.0
        for limit, few, many in _TOO_SMALL:
            if self.images_per_feature < limit:
                return few if self.n <= self.reference_images else many
        return 0.0

    @property
    def scale(self) -> float:
        """What the distance of `drawn` images to the rest was multiplied by."""
        rest = self.reference_images - self.drawn
        return (1 / self.n + 1 / self.reference_images) / (1 / self.drawn + 1 / rest)

    @property
    def words(self) -> str:
        """How it was measured, for people."""
        words = f"{counted(self.drawn, 'real image')} against the rest"
        if self.drawn != self.n:
            words += f", scaled to {self.n:,} against {counted(self.reference_images, 'image')}"
        if self.too_small and self.images_per_feature is not None:
            words += (
                f"; may be up to {percent(self.too_small)} too small, since the ratio of distinct reference images to "
                f"features is {self.images_per_feature:.2g}"
            )
        return words

    def __str__(self) -> str:
        return f"{with_error(self.score, self.spread)} ({self.words})"

    def to_json(self) -> dict[str, Any]:
        """Its numbers, with how they were measured."""
        return {**attrs.asdict(self), "version": _VERSION, "scale": self.scale, "words": self.words}

    @classmethod
    def from_json(cls, content: object) -> Self | None:
        """What `to_json` gave; None for anything else, or for numbers of another version."""
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
    """d for scores of n images against `reference_images`, at least 4, of which the features of `kept` are there."""
    wanted = n if 4 * n <= reference_images else round(n * reference_images / (n + reference_images))
    return min(wanted, kept // 2)


def measure_perfect_model(
    n: int, reference_images: int, mean: "Tensor", covariance: "Tensor", sample: "Tensor", work: "Work"
) -> PerfectModel:
    """What n images of a perfect model would score against a reference of this mean (D,) and covariance (D, D).

    n ≥ 1. sample: (m, D) features of m of the reference's images, m and their number at least 4. The draws have a seed
    of their own. Each takes a distance of `images_to_draw` images: seconds for 1,000 images in 2,048 dimensions.
    Raises NcsnxError.
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
    """Share of the images that differ from all before them."""
    return len({row.tobytes() for row in sample.numpy()}) / len(sample)


def _is_known(distances: list[float]) -> bool:
    if len(distances) < LEAST_DRAWS:
        return False
    error = statistics.stdev(distances) / math.sqrt(len(distances))
    return error <= ACCURACY * statistics.fmean(distances)

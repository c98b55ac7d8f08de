"""The score of a perfect model: the noise floor of the Fréchet distance, measured between disjoint sets of real images.

Even a model that draws new real images doesn't score 0. The distance of n images to a reference of N images is too
large by about c·(1/n + 1/N), since neither set has the exact moments of the distribution. Scores are therefore shown
beside the distance of d real images to the rest of the reference, averaged over several draws and divided by
(1/d + 1/(N − d)) / (1/n + 1/N). If n ≤ N/4, then d = n; otherwise d : (N − d) = n : N. d is at most half of the images
whose features are kept, so that draws differ.

On normal features of D dimensions the result is within 3 % of the mean over new images if the reference has 2D images.
With fewer it is too small, by up to 15 % for N = D and by 40 % for N = D/4, if n > N/4.
"""

import math
import statistics
from typing import Any

import attrs
from torch import Tensor

from ncsnx.features.moments import Moments
from ncsnx.metrics.frechet import frechet_distance_of_images
from ncsnx.quantities import counted, with_error
from ncsnx.randomness import Purpose, Stream
from ncsnx.storage.documents import document, document_values
from ncsnx.work import Work

LEAST_DRAWS, MOST_DRAWS = 5, 50
ACCURACY = 0.05
"""Relative standard error of the mean over draws at which drawing stops."""
LEAST_IMAGES = 4
"""Fewest real images that split into two sets with a covariance each."""
_FIRST_EPOCH = 100
"""First epoch of the permutations for draws; earlier ones choose other subsets."""


@document("what a perfect model would score", sealed=True)
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

    @property
    def words(self) -> str:
        """How it was measured, in words."""
        words = f"{counted(self.drawn, 'real image')} against the rest"
        if self.drawn != self.n:
            words += f", scaled to {self.n:,} against {counted(self.reference_images, 'image')}"
        return words

    def __str__(self) -> str:
        return f"{with_error(self.score, self.spread)} ({self.words})"

    def to_json(self) -> dict[str, Any]:
        """The numbers and how they were measured, as JSON."""
        return {**document_values(self), "words": self.words}


def images_to_draw(n: int, reference_images: int, kept: int) -> int:
    """d for scores of n images against `reference_images` ≥ 4, if the features of `kept` of them are available."""
    wanted = n if 4 * n <= reference_images else round(n * reference_images / (n + reference_images))
    return min(wanted, kept // 2)


def measure_perfect_model(
    n: int, reference_images: int, mean: Tensor, covariance: Tensor, sample: Tensor, work: Work
) -> PerfectModel:
    """The score of n ≥ 1 images of a perfect model against a reference with mean (D,) and covariance (D, D).

    sample: (m, D) features of m of the reference's images; m and `reference_images` at least 4. Draws use a fixed seed.
    Each computes one distance of `images_to_draw` images: seconds for 1,000 images in 2,048 dimensions. Raises
    NcsnxError.
    """
    drawn = images_to_draw(n, reference_images, len(sample))
    whole, stream = Moments.of(reference_images, mean, covariance), Stream(0, Purpose.SUBSETS)
    distances: list[float] = []
    with work.progress("perfect model", total=MOST_DRAWS, unit="draws") as advance:
        while len(distances) < MOST_DRAWS and not _is_known(distances):
            work.check_stop()
            chosen = sample[stream.permutation(len(sample), epoch=_FIRST_EPOCH + len(distances))[:drawn]]
            part = Moments.empty(len(mean))
            part.add(chosen)
            rest = whole.without(part)
            distances.append(frechet_distance_of_images(chosen, rest.mean, rest.covariance))
            advance()
    scale = (1 / n + 1 / reference_images) / (1 / drawn + 1 / (reference_images - drawn))
    return PerfectModel(
        score=scale * statistics.fmean(distances),
        spread=scale * statistics.stdev(distances),
        n=n,
        reference_images=reference_images,
        drawn=drawn,
        draws=len(distances),
    )


def _is_known(distances: list[float]) -> bool:
    if len(distances) < LEAST_DRAWS:
        return False
    return statistics.stdev(distances) / math.sqrt(len(distances)) <= ACCURACY * statistics.fmean(distances)

"""The kernel distance between two sets of features (the KID of Bińkowski et al. 2018, arXiv 1801.01401, section 4).

The squared maximum mean discrepancy under the kernel k(x, y) = (xᵀy/D + 1)³, in its unbiased form (their equation 4):
it needs no assumption about the features, and has no bias that depends on the number of images.
"""

import attrs
import torch
from torch import Tensor

from ncsnx.features.moments import require_dimensions, require_images, usable
from ncsnx.metrics.metric import FeatureSets, Quantity, metric
from ncsnx.randomness import Purpose, Stream

DISTANCE = Quantity("kernel_distance", "KD", of_inception="KID", error="kernel_distance_error", perfect=0.0)


@metric("kernel-distance", DISTANCE, needs=("sample",), on_request=False)
def kernel_score(sets: FeatureSets) -> dict[str, float | None]:
    """The kernel distance of the generated images to the reference's, and its standard error."""
    assert sets.sample is not None
    found = kernel_distance(sets.features, sets.sample, sets.seed)
    return {"kernel_distance": found.value, "kernel_distance_error": found.standard_error}


@attrs.frozen
class KernelDistance:
    """A squared distance, which the luck of the draw can make negative, and its error bar."""

    value: float
    standard_error: float
    """How far the value would stray with other images of the same model, the reference held fixed: one standard
    deviation. Not the spread over subsets, which share their images and so say too little."""


def kernel_distance(
    features: Tensor, reference: Tensor, seed: int, subsets: int = 100, most: int = 1000
) -> KernelDistance:
    """The mean distance over random subsets of both sets, each of min(n, m, `most`) images drawn from `seed`.

    `features` is (n, D) and `reference` (m, D), n and m from 2. The value is that of clean-fid's protocol, but in
    float64. Where the subset is all there is of both sets, one is enough.

    The standard error is that of a U-statistic (Hoeffding 1948): an image i moves the value by 2wᵢhᵢ, where hᵢ is
    its mean kernel with the model's other images less that with the reference's, and wᵢ its share in the draws; so
    the variance is 4·Var h·Σwᵢ². It holds where the model differs from the reference; where it does not, h is nothing
    but the noise of its means, and the standard error is too large, by up to √2.

    NcsnxError where a set has fewer than 2 images, the dimensions differ or features aren't finite; ValueError where
    `subsets` < 1 or `most` < 2.
    """
    if subsets < 1 or most < 2:
        raise ValueError(f"subsets must be from 1 and most from 2, not {subsets} and {most}")
    ours, theirs = usable(features), usable(reference)
    require_dimensions(ours.shape[1], theirs.shape[1], "the reference's")
    size = min(len(ours), len(theirs), most)
    require_images(size, 2, "a kernel distance")
    model, real = _Subsets(ours, size, seed, side=0), _Subsets(theirs, size, seed, side=1)
    count = 1 if size == len(ours) == len(theirs) else subsets

    total = 0.0
    pull, drawn = torch.zeros(2, len(ours), dtype=torch.float64)
    for number in range(count):
        chosen, within = model.draw(number)
        others, within_real = real.draw(number)
        across = _kernel(ours[chosen], theirs[others]).mean(dim=1)
        total += (within.mean() + within_real.mean() - 2 * across.mean()).item()
        pull[chosen] += within - across
        drawn[chosen] += 1
    seen = drawn > 0
    variance = (pull[seen] / drawn[seen]).var() * (drawn / drawn.sum()).square().sum()
    return KernelDistance(value=total / count, standard_error=2 * variance.sqrt().item())


class _Subsets:
    """Random subsets of one set, each with its images' mean kernel with the others of the subset."""

    def __init__(self, features: Tensor, size: int, seed: int, side: int) -> None:
        """`side` 0 or 1 keeps the draws of the two sets apart."""
        self._features, self._size, self._side = features, size, side
        self._stream = Stream(seed, Purpose.SUBSETS)
        everything = torch.arange(len(features))
        # the only subset of a small set, and half of the work of its distance: computed once
        self._whole = (everything, _within(features)) if size == len(features) else None

    def draw(self, number: int) -> tuple[Tensor, Tensor]:
        """Indices (size,) int64 of the subset with this number, and the means (size,) float64."""
        if self._whole is not None:
            return self._whole
        chosen = self._stream.permutation(len(self._features), epoch=2 * number + self._side)[: self._size]
        return chosen, _within(self._features[chosen])


def _within(features: Tensor) -> Tensor:
    """(n,): the mean kernel of each image with the other n − 1, without itself, which makes the mean unbiased."""
    return _kernel(features, features).fill_diagonal_(0.0).sum(dim=1) / (len(features) - 1)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """(n, m): (xᵀy/D + 1)³."""
    return (x @ y.T).div_(x.shape[1]).add_(1.0).pow_(3)

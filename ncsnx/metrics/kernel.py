"""The kernel distance between two sets of features (the KID of Bińkowski et al. 2018, arXiv 1801.01401, section 4).

It is the unbiased estimate (their equation 4) of the squared maximum mean discrepancy with the kernel
k(x, y) = (xᵀy/D + 1)³. It makes no assumption about the distribution of features.
"""

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
    return {**kernel_distance(sets.features, sets.sample, sets.seed)}


def kernel_distance(
    features: Tensor, reference: Tensor, seed: int, subsets: int = 100, most: int = 1000
) -> dict[str, float]:
    """The mean distance over random subsets of both sets, each of min(n, m, `most`) images drawn from `seed`.

    features: (n, D). reference: (m, D). n and m at least 2. The value follows clean-fid's protocol, but in float64. If
    a subset comprises both whole sets, one suffices. It is a squared distance, which can be negative by chance.

    The standard error is for other images of the same model and a fixed reference. The standard deviation over subsets
    would be too small, since subsets share images. It is that of a U-statistic (Hoeffding 1948): an image i contributes
    2wᵢhᵢ to the value, where hᵢ is its mean kernel with the model's other images minus that with the reference's, and
    wᵢ its share in the draws; so the variance is 4·Var h·Σwᵢ². It is valid if the model differs from the reference.
    Otherwise h is only the noise of its means, and the standard error is too large by up to √2.

    Raises NcsnxError for fewer than 2 images, different dimensions, NaN or infinity.
    """
    ours, theirs = usable(features), usable(reference)
    require_dimensions(ours.shape[1], theirs.shape[1], "the reference's")
    size = min(len(ours), len(theirs), most)
    require_images(size, 2, "a kernel distance")
    model, real = _Subsets(ours, size, seed, side=0), _Subsets(theirs, size, seed, side=1)
    count = 1 if size == len(ours) == len(theirs) else subsets

    total = 0.0
    influence, drawn = torch.zeros(2, len(ours), dtype=torch.float64)
    for number in range(count):
        chosen, within = model.draw(number)
        others, within_real = real.draw(number)
        across = _kernel(ours[chosen].double(), theirs[others].double()).mean(dim=1)
        total += (within.mean() + within_real.mean() - 2 * across.mean()).item()
        influence[chosen] += within - across
        drawn[chosen] += 1
    seen = drawn > 0
    variance = (influence[seen] / drawn[seen]).var() * (drawn / drawn.sum()).square().sum()
    return {"kernel_distance": total / count, "kernel_distance_error": 2 * variance.sqrt().item()}


class _Subsets:
    """Random subsets of a set, each with the mean kernel of every image with the others in the subset.

    side: 0 or 1, for independent draws of the two sets.
    """

    def __init__(self, features: Tensor, size: int, seed: int, side: int) -> None:
        self._features, self._size, self._side = features, size, side
        self._stream = Stream(seed, Purpose.SUBSETS)
        everything = torch.arange(len(features))
        # a small set has one subset, whose means are half of the work: computed once
        self._whole = (everything, _within(features.double())) if size == len(features) else None

    def draw(self, number: int) -> tuple[Tensor, Tensor]:
        """Indices (size,) int64 of subset `number`, and its means (size,) float64."""
        if self._whole is not None:
            return self._whole
        chosen = self._stream.choice(len(self._features), self._size, epoch=2 * number + self._side)
        return chosen, _within(self._features[chosen].double())


def _within(features: Tensor) -> Tensor:
    """Mean kernel (n,) of each image with the n − 1 others; leaving itself out makes the estimate unbiased."""
    return _kernel(features, features).fill_diagonal_(0.0).sum(dim=1) / (len(features) - 1)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """Kernel matrix (n, m): (xᵀy/D + 1)³."""
    return (x @ y.T).div_(x.shape[1]).add_(1.0).pow_(3)

"""Technique 1 of Song & Ermon 2020 (arXiv 2006.09011, section 3.1): σ_1 is the largest distance of training images.

Distances are Euclidean, between images as the network sees them: dequantized (one draw each) and transformed, but not
flipped. All pairs of up to SAMPLED_IMAGES are measured; of a larger set, those of a seeded sample, whose largest
distance is a lower bound.
"""

import math

import attrs
import torch
from torch import Tensor

from ncsnx.config.data_sets import Data
from ncsnx.data.dataset import Dataset
from ncsnx.data.transforms import Preprocessing
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.randomness import Purpose, Stream
from ncsnx.work import Work

SAMPLED_IMAGES = 8_000
"""Most images of which all pairs are measured: one to two minutes at 128 px on two cores."""
SAMPLED_VALUES = 2**29
"""Most values of these images, which are held in memory: 2 GiB."""
TAIL = 0.001
"""Share of pairs beyond the quantile that is reported beside the maximum, which a single outlier can set."""
_VALUES_AT_ONCE = 2**20
"""Values that are read and dequantized at once; the generator needs about a hundred bytes for each."""
_BLOCK_IMAGES = 512


@attrs.frozen(kw_only=True)
class Distances:
    """Euclidean distances between the training images, in the network's range."""

    largest: float
    """Largest distance found: the maximum if all images were compared, otherwise a lower bound."""
    pair: tuple[int, int]
    """Ids of the two images."""
    images: int
    """Number of training images."""
    compared: int
    """Number of images of which all pairs were measured."""
    quantile: float
    """99.9 % quantile of the measured distances."""
    dequantized: bool = False
    """Whether images were dequantized, with one draw each."""
    seed: int
    """Seed of the sample and of the dequantization."""

    @property
    def is_exact(self) -> bool:
        """Whether all pairs were measured."""
        return self.compared == self.images

    @property
    def source(self) -> str:
        """How `largest` was found, in words."""
        images = counted(self.images, "dequantized image" if self.dequantized else "image")
        seed = f", seed {self.seed}" if self.dequantized or not self.is_exact else ""
        if self.is_exact:
            return f"largest of {images}{seed}"
        return f"estimate (lower bound) from {images}: all pairs of {self.compared:,}{seed}"


def measure_distances(dataset: Dataset, data: Data, *, seed: int = 0, work: Work | None = None) -> Distances:
    """The distances between the images of a training split.

    seed: seed of the sample and of the dequantization. Raises NcsnxError for fewer than two images, and if all are
    equal.
    """
    work = work or Work()
    images = len(dataset)
    if images < 2:
        raise NcsnxError(f"distances need at least two training images, but there is {'one' if images else 'none'}")
    most = max(2, min(SAMPLED_IMAGES, SAMPLED_VALUES // math.prod(data.shape)))
    compared = torch.arange(images)
    if images > most:
        compared = Stream(seed, Purpose.PAIRS).permutation(images, epoch=0)[:most].sort().values
    points = _points(dataset, data, compared, seed, work)
    first, second, quantile = _all_pairs(points, work)
    largest = float(torch.linalg.vector_norm(points[first].double() - points[second].double()))
    if largest == 0:
        raise NcsnxError(f"all {counted(len(compared), 'compared image')} are equal, so there are no distances")
    one, other = dataset.read(compared[[first, second]]).ids.tolist()
    return Distances(
        largest=largest,
        pair=(one, other),
        images=images,
        compared=len(compared),
        quantile=quantile,
        dequantized=data.dequantization != "none",
        seed=seed,
    )


def _points(dataset: Dataset, data: Data, indices: Tensor, seed: int, work: Work) -> Tensor:
    """(n, D) float32: the network's input for the images at `indices`."""
    preprocessing = Preprocessing(data, dataset.value_range, seed)
    points = torch.empty(len(indices), math.prod(data.shape))
    some, done = max(1, _VALUES_AT_ONCE // points.shape[1]), 0
    with work.progress("reading images", total=len(indices), unit="images") as advance:
        for part in indices.split(some):  # type: ignore[no-untyped-call]
            work.check_stop()
            points[done : done + len(part)] = preprocessing.measured(dataset.read(part).pixels, part).flatten(1)
            done += len(part)
            advance(len(part))
    return points


def _all_pairs(points: Tensor, work: Work) -> tuple[int, int, float]:
    """The pair with the largest distance, and the quantile of all distances exceeded by a share TAIL of them."""
    count, largest, pair, blocks = len(points), -1.0, (0, 1), list[Tensor]()
    centred = points - points[:_BLOCK_IMAGES].mean(dim=0)  # fewer rounding errors at low contrast
    with work.progress("measuring distances", total=count * (count - 1) // 2, unit="pairs") as advance:
        for start in range(0, count - 1, _BLOCK_IMAGES):
            work.check_stop()
            rows = centred[start : start + _BLOCK_IMAGES]
            distances = torch.cdist(rows, centred[start:])
            once = torch.ones_like(distances, dtype=torch.bool).triu_(1)  # each pair once, and no image with itself
            distances.masked_fill_(~once, -1.0)
            place = int(distances.argmax())
            if float(distances.max()) > largest:
                largest, width = float(distances.max()), distances.shape[1]
                pair = start + place // width, start + place % width
            blocks.append(distances[once])
            advance(len(blocks[-1]))
    every = torch.cat(blocks)
    return *pair, float(every.kthvalue(math.ceil((1 - TAIL) * len(every))).values)

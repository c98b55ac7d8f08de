"""Technique 1 of Song & Ermon 2020 (arXiv 2006.09011, section 3.1): σ_1 is the largest distance of training images.

Distances are Euclidean, between images as the network sees them: dequantized (one draw each) and transformed, but not
flipped. For small data sets all pairs are measured, in blocks of bounded memory. For large ones all pairs of a seeded
sample are measured, then the outermost images against the rest. That gives a lower bound, which is nearly always the
maximum.
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

EXACT_IMAGES = 20_000
"""Largest data set of which all pairs are measured by default."""
SAMPLED_IMAGES = 8_000
"""Size of the sample of a larger data set: enough for a confidence interval of the 99.9 % quantile."""
SCANNED_IMAGES = 50_000
"""Number of images of a larger data set that are compared with the outermost ones."""
COST = 5e12
"""Limit of images² × values per image for all pairs: one to two minutes on two cores."""
DRAWN_NUMBERS = 2**28
"""Limit of values to dequantize in one pass: about a minute on two cores."""
TAIL = 0.001
"""Share of pairs beyond the quantile that is reported beside the maximum, which a single outlier can set."""
CONFIDENCE = 0.95
_ANCHORS = 16
_SCANS = 2
_BINS = 2**15
_BLOCK_BYTES = 64 * 2**20
_BLOCK_IMAGES = 2_048
_HELD_BYTES = 2**30
"""Bytes of images cached while pairs are measured, in their stored type or dequantized; others are read again."""
_DRAWN_AT_ONCE = 2**20
"""Values that are dequantized at once; the generator needs about a hundred bytes for each."""


@attrs.frozen(kw_only=True)
class Distances:
    """Euclidean distances between the training images, in the network's range."""

    largest: float
    """Largest distance found: the maximum if `exact`, otherwise a lower bound."""
    pair: tuple[int, int]
    """Ids of the two images."""
    exact: bool
    """Whether all pairs were measured."""
    images: int
    """Number of training images."""
    compared: int
    """Number of images of which all pairs were measured."""
    scanned: int
    """Number of images that were compared with the outermost ones."""
    bound: float | None
    """Upper bound of all distances by the triangle inequality; None if some images weren't read."""
    quantile: float
    """99.9 % quantile of the distances, to 1e-4 of `bound`; that of a sample unless `exact`."""
    quantile_interval: tuple[float, float | None]
    """95 % confidence interval of the quantile of all pairs (Hoeffding 1963); None: no upper end is known."""
    dequantized: bool = False
    """Whether images were dequantized, with one draw each."""
    seed: int
    """Seed of the sample and of the dequantization."""

    @property
    def source(self) -> str:
        """How `largest` was found, in words."""
        drawn = "dequantized " if self.dequantized else ""
        images = counted(self.images, f"{drawn}image")
        if self.exact:
            return f"largest of {images}" + (f", seed {self.seed}" if self.dequantized else "")
        scanned = "all" if self.scanned == self.images else f"{self.scanned:,}"
        return (
            f"estimate (lower bound) from {images}: all pairs of {self.compared:,}, and the outermost ones against "
            f"{scanned}, seed {self.seed}"
        )


def measure_distances(
    dataset: Dataset, data: Data, *, seed: int = 0, exact: bool | None = None, work: Work | None = None
) -> Distances:
    """The distances between the images of a training split.

    exact: True measures all pairs, however long it takes; False a sample; None decides by the size. seed: seed of the
    sample and of the dequantization. Raises NcsnxError for fewer than two images, and if all are equal.
    """
    work = work or Work()
    images, dimensions = len(dataset), math.prod(data.shape)
    if images < 2:
        raise NcsnxError(f"distances need at least two training images, but there is {'one' if images else 'none'}")
    is_drawn = data.dequantization != "none"
    affordable, in_a_pass = math.isqrt(int(COST / dimensions)), SCANNED_IMAGES
    if is_drawn:
        affordable, in_a_pass = (min(count, DRAWN_NUMBERS // dimensions) for count in (affordable, in_a_pass))
    if exact is None:
        exact = images <= min(EXACT_IMAGES, affordable)
    order = Stream(seed, Purpose.PAIRS).permutation(images, epoch=0)
    compared = torch.arange(images) if exact else order[: max(2, min(SAMPLED_IMAGES, affordable))].sort().values
    points = _Points(dataset, data, compared, seed, work)
    pairs = _all_pairs(points, work)
    if exact:
        found, reach, scanned = pairs.found, points.reach, images
    else:
        others = order[: max(2, in_a_pass)].sort().values
        found, reach = _scan(points, pairs, others, work)
        scanned = len(others)
    largest = points.distance(*found)
    if largest == 0 or not points.differ:  # dequantization would make equal images differ
        which = "" if scanned == images else " that were compared"
        raise NcsnxError(f"all {counted(scanned, 'training image')}{which} are equal, so there are no distances")
    bound = reach * (1 + 1e-6) if scanned == images else None  # with a margin for float32's rounding
    low, high = (TAIL, TAIL) if exact else tail_interval(TAIL, len(compared) // 2)
    first, second = dataset.read(torch.tensor(found)).ids.tolist()
    return Distances(
        largest=largest,
        pair=(first, second),
        exact=exact,
        images=images,
        compared=len(compared),
        scanned=scanned,
        bound=bound,
        quantile=pairs.beyond(TAIL),
        quantile_interval=(pairs.beyond(high), pairs.beyond(low) if low > 0 else bound),
        dequantized=is_drawn,
        seed=seed,
    )


def tail_interval(tail: float, independent_pairs: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """(low, high): tail shares of a sample's pairs that bracket the quantile exceeded by a share `tail` of all pairs.

    By Hoeffding (1963, section 5b): of the n(n − 1)/2 pairs of n sampled images, the share beyond a distance that a
    share t of all pairs exceeds is ≥ q > t, or ≤ q < t, with a probability of at most exp(−⌊n/2⌋ KL(q‖t)). This holds
    although pairs share images. low is 0 if the sample is too small for a bound.
    """
    most = math.log(2 / (1 - confidence)) / independent_pairs
    return _crossing(tail, 0.0, most), _crossing(tail, 1.0, most)


def _crossing(tail: float, end: float, divergence: float) -> float:
    """q between `tail` and `end` with KL(q‖tail) = divergence; `end` if KL stays below it."""

    def kl(q: float) -> float:
        inner = q * math.log(q / tail) if q > 0 else 0.0
        return inner + ((1 - q) * math.log((1 - q) / (1 - tail)) if q < 1 else 0.0)

    if kl(end) <= divergence:
        return end
    near, far = tail, end
    for _ in range(60):
        middle = 0.5 * (near + far)
        near, far = (middle, far) if kl(middle) <= divergence else (near, middle)
    return far


class _Points:
    """Images as points: float32 rows minus a common centre, which reduces rounding errors at low contrast."""

    def __init__(self, dataset: Dataset, data: Data, compared: Tensor, seed: int, work: Work) -> None:
        self.dataset = dataset
        self.compared = compared
        self.work = work
        self.differ = False
        """Whether two of the images read so far are different."""
        self._first = dataset.read(compared[:1]).pixels
        self._preprocessing = Preprocessing(data, dataset.value_range, seed)
        self._is_drawn = data.dequantization != "none"
        dimensions = math.prod(data.shape)
        self.block = max(1, min(_BLOCK_IMAGES, _BLOCK_BYTES // (4 * dimensions)))
        self._drawn_at_once = max(1, _DRAWN_AT_ONCE // dimensions)
        self._held: dict[int, Tensor] = {}
        self.centre = torch.zeros(dimensions)
        self.centre = self._flat(compared[: self.block]).mean(dim=0)
        self.squares = self._first_look()
        self.reach = float(self.squares.sqrt().topk(2).values.sum())

    def _first_look(self) -> Tensor:
        """(n,) float64: squared norms of the compared images, which are cached as far as memory allows.

        Dequantized images are cached as points, since dequantizing takes longer than computing distances.
        """
        squares = []
        with self.work.progress("reading images", total=len(self.compared), unit="images") as advance:
            for start in range(0, len(self.compared), self.block):
                self.work.check_stop()
                indices = self.compared[start : start + self.block]
                pixels = self.dataset.read(indices).pixels
                points = self._prepared(pixels, indices) - self.centre
                kept = points if self._is_drawn else pixels
                if kept.nbytes * len(self.compared) <= _HELD_BYTES * len(indices):
                    self._held[start] = kept
                squares.append(square_norms(points))
                advance(len(indices))
        return torch.cat(squares)

    def compared_block(self, start: int) -> Tensor:
        """(m, D) float32: the block of compared images from `start` on."""
        indices, held = self.compared[start : start + self.block], self._held.get(start)
        if held is None:
            return self._flat(indices)
        return held if self._is_drawn else self._prepared(held, indices) - self.centre

    def read(self, indices: Tensor) -> Tensor:
        """(m, D) float32: the images at any `indices`."""
        return self._flat(indices)

    def distance(self, first: int, second: int) -> float:
        """Distance between two images, computed in float64."""
        indices = torch.tensor([first, second])
        one, other = self._prepared(self.dataset.read(indices).pixels, indices).double()
        return float(torch.linalg.vector_norm(one - other))

    def _flat(self, indices: Tensor) -> Tensor:
        return self._prepared(self.dataset.read(indices).pixels, indices) - self.centre

    def _prepared(self, pixels: Tensor, indices: Tensor) -> Tensor:
        """(m, D) float32: the network's input. An image's draws depend only on its index in the data set."""
        self.differ = self.differ or bool((pixels != self._first).any())
        size = self._drawn_at_once if self._is_drawn else len(pixels)
        parts = zip(torch.split(pixels, size), torch.split(indices, size), strict=True)
        return torch.cat([self._preprocessing.measured(part, places).flatten(1) for part, places in parts])


def square_norms(points: Tensor) -> Tensor:
    """(m,) float64: ‖x‖² of (m, D) float32."""
    norms: Tensor = torch.linalg.vector_norm(points, dim=1, dtype=torch.float64)
    return norms.square()


def _distances(one: Tensor, other: Tensor, one_squares: Tensor, other_squares: Tensor) -> Tensor:
    """(m, n) float32 distances by ‖x‖² + ‖y‖² − 2x·y, which loses digits for near pairs only."""
    squares = torch.addmm(other_squares.float(), one, other.T, alpha=-2)
    return squares.add_(one_squares.float()[:, None]).clamp_(min=0).sqrt_()


@attrs.define
class _Pairs:
    """Largest distance and histogram of all pairs."""

    found: tuple[int, int]
    """Indices in the data set of the two images with the largest distance."""
    counts: Tensor
    """(bins,) int64: number of pairs by distance."""
    width: float
    """Width of a bin."""

    def beyond(self, tail: float) -> float:
        """The distance exceeded by a share `tail` of the pairs: the middle of its bin."""
        passed = self.counts.cumsum(0) >= math.ceil((1 - tail) * int(self.counts.sum()))
        return (int(passed.int().argmax()) + 0.5) * self.width


def _all_pairs(points: _Points, work: Work) -> _Pairs:
    count, block = len(points.compared), points.block
    starts = range(0, count, block)
    top = points.reach * (1 + 1e-5)  # float32 distances may be slightly too large
    counts = torch.zeros(_BINS, dtype=torch.int64)
    largest, found = -1.0, (0, 1)
    with work.progress("measuring distances", total=count * (count - 1) // 2, unit="pairs") as advance:
        for start in starts:
            rows = points.compared_block(start)
            for other in range(start, count, block):
                work.check_stop()
                columns = rows if other == start else points.compared_block(other)
                row_squares = points.squares[start : start + len(rows)]
                distances = _distances(rows, columns, row_squares, points.squares[other : other + len(columns)])
                if other == start:  # each pair once, and no image with itself
                    distances.masked_fill_(torch.ones_like(distances, dtype=torch.bool).tril_(), -1.0)
                counts += torch.histc(distances, _BINS, 0, top or 1.0).long()
                if float(distances.max()) > largest:
                    largest, place = float(distances.max()), int(distances.argmax())
                    found = start + place // len(columns), other + place % len(columns)
                advance(len(rows) * (len(rows) - 1) // 2 if other == start else distances.numel())
    first, second = points.compared[list(found)].tolist()
    return _Pairs((first, second), counts, top / _BINS)


def _scan(points: _Points, pairs: _Pairs, others: Tensor, work: Work) -> tuple[tuple[int, int], float]:
    """(farthest pair, bound by the triangle inequality) of the outermost images and `others`.

    The first pass compares all others with the farthest pair and with the compared images farthest from the centre; the
    second one with the images found at the other ends, and with those farthest from the centre of all.
    """
    outermost = points.compared[points.squares.topk(min(_ANCHORS, len(points.squares))).indices]
    anchors, used = torch.tensor(sorted({*outermost.tolist(), *pairs.found})), set[int]()
    best, found, reach = -1.0, pairs.found, 0.0
    with work.progress("looking for farther images", total=_SCANS * len(others), unit="images") as advance:
        for _ in range(_SCANS):
            used |= set(anchors.tolist())
            targets = points.read(anchors)
            target_squares = square_norms(targets)
            columns, radii = [], []
            for start in range(0, len(others), points.block):
                work.check_stop()
                part = points.read(others[start : start + points.block])
                squares = square_norms(part)
                columns.append(_distances(part, targets, squares, target_squares))
                radii.append(squares.sqrt())
                advance(len(part))
            distances, radius = torch.cat(columns), torch.cat(radii)
            reach = float(radius.topk(2).values.sum())
            place = int(distances.argmax())
            if float(distances.max()) > best:
                best = float(distances.max())
                found = int(others[place // len(anchors)]), int(anchors[place % len(anchors)])
            far = torch.cat([distances.argmax(0), radius.topk(min(_ANCHORS, len(radius))).indices])
            anchors = torch.tensor(sorted(set(others[far].tolist()) - used), dtype=torch.int64)
            if len(anchors) == 0:
                break
    return found, reach

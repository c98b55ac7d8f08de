"""References: mean and covariance of the features of real images, for distances to generated images.

references/DIGEST/reference.safetensors  reference.json  perfect-model-n1000.json

Even a model that draws new real images doesn't score 0. The distance of n images to a reference of N images is too
large by about c·(1/n + 1/N), since neither set has the exact moments of the distribution. Scores are therefore shown
beside the distance of d real images to the rest of the reference, averaged over several draws and divided by
(1/d + 1/(N − d)) / (1/n + 1/N). If n ≤ N/4, then d = n; otherwise d : (N − d) = n : N. d is at most half of the images
whose features are kept, so that draws differ.

On normal features of D dimensions the result is within 3 % of the mean over new images if the reference has 2D images.
With fewer it is too small, by up to 15 % for N = D and by 40 % for N = D/4, if n > N/4.
"""

import math
import os
import statistics
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import attrs
import numpy as np
import torch
from torch import Tensor

from ncsnx.bounded_reads import sha256_of
from ncsnx.config.codec import digest
from ncsnx.config.converter import unstructure
from ncsnx.config.variants import VERSION
from ncsnx.data import data_set_of
from ncsnx.data.dataset import Split
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.evaluation.image_folder import ImageFolder
from ncsnx.features.cached_tensors import cached_tensors
from ncsnx.features.feature_network import FeatureNetwork
from ncsnx.features.moments import Moments
from ncsnx.features.real_images import DataSource, RealImages, SplitImages
from ncsnx.metrics.frechet import frechet_distance_of_images
from ncsnx.paths import checked_path
from ncsnx.quantities import counted, number, with_error
from ncsnx.randomness import Purpose, Stream
from ncsnx.spelling import A_DIR, argument
from ncsnx.storage.array_files import ExpectedArray, read_arrays
from ncsnx.storage.documents import document, find_document, write_document
from ncsnx.work import Work

SUFFIX = ".npz"
_OTHERS = ("mu_s", "sigma_s", "arr_0")
"""Other arrays in the reference batches of ADM (Dhariwal & Nichol 2021): spatial statistics, and images."""
_ROUNDING = 1e-5
"""Tolerance for rounding, since some files are float32: for |Σ − Σᵀ| relative to the largest entry of Σ, and for
negative eigenvalues relative to the largest. Rounding moves an eigenvalue by at most 2⁻²⁴ √D, 3e-6 for D = 2,048."""
SAMPLE = 10_000
"""Most feature vectors that are kept, for metrics that compare single images."""
_BATCH = 64
"""Images per batch; changes the statistics by rounding at most."""
_CHOICE = 1
"""Epoch of the permutation that selects the sample."""
LEAST_DRAWS, MOST_DRAWS = 5, 50
ACCURACY = 0.05
"""Relative standard error of the mean over draws at which drawing stops."""
LEAST_IMAGES = 4
"""Fewest images of a reference: they split into two sets with a covariance each."""
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
        return {**unstructure(self), "words": self.words}


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
            chosen = sample[stream.choice(len(sample), drawn, epoch=_FIRST_EPOCH + len(distances))]
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


@document("a reference in the cache", sealed=True)
@attrs.frozen(kw_only=True)
class ReferenceRecord:
    """Content of reference.json."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    name: str
    images: int
    """Number of images."""
    facts: dict[str, Any]
    """Facts that identify the images and the feature network."""
    sha256: str = ""
    """sha256 of reference.safetensors, in hexadecimal."""


@attrs.frozen(eq=False)
class Reference:
    """Statistics of real images in D features, on the CPU, with what identifies them."""

    count: int | None
    """Number of images; None for a statistics file, which doesn't say."""
    mean: Tensor
    """(D,) float64."""
    covariance: Tensor
    """(D, D) float64, unbiased."""
    sample: Tensor | None
    """(m, D) float32: features of a random choice of the images, in order; None for a statistics file."""
    name: str
    """Name for messages: 'digits, training images (1,498)', 'folder /x/y', 'zip /x/y.zip', 'file stats.npz'."""
    facts: dict[str, Any]
    """JSON for protocols: name, kind, images, fingerprint, split, sha256 of the statistics …; no path in the cache."""
    path: Path
    """Folder or file of the statistics."""
    sample_labels: Callable[[], Tensor] | None = None
    """Reads the labels of the sample, (m,) int64; None where they aren't known."""

    def perfect_model(self, n: int, work: Work) -> PerfectModel | None:
        """The score of n images of a perfect model, measured once for each n and saved beside the statistics.

        None for a statistics file, which has no single images, and on ranks other than 0. Raises NcsnxError.
        """
        if not work.ranks.is_first or self.sample is None or self.count is None:
            return None
        path = self.path / f"perfect-model-n{n}.json"
        perfect = find_document(path, PerfectModel)
        if perfect is None:
            perfect = measure_perfect_model(n, self.count, self.mean, self.covariance, self.sample, work)
            if os.access(self.path, os.W_OK | os.X_OK):  # a shared cache may be read-only
                write_document(path, perfect)
        return perfect

    @property
    def why_unknown(self) -> str:
        """Why `perfect_model` is None, in words."""
        return f"unknown, since {self.name} holds mean and covariance only"


def reference_images(named: str | Path | None, source: DataSource | None, work: Work) -> RealImages | Path:
    """The images of the reference named by the user, which aren't read yet; the path of a statistics file.

    named: 'train' or 'held-out' for a split of `source`, None for its default split; otherwise a folder or zip of
    images, or a `.npz` file with mu and sigma. Raises UsageError if it is none of these, NcsnxError for a folder or zip
    that can't be read or has no images.
    """
    wanted = None if named is None else str(named)
    if wanted is None or wanted in get_args(Split):
        if source is None:
            which = "the reference" if wanted is None else f"the reference {wanted!r}"
            raise UsageError(f"{which} needs a data set: name an experiment or a run, or a folder of images")
        if source.data.noise:
            raise UsageError(
                f"the images of the data have noise (data.noise={source.data.noise:g}), and samples have none, so that "
                "their distance means nothing",
                Hint("compare with clean images", adds=argument("reference", A_DIR)),
            )
        return SplitImages(source, data_set_of(source.data).reference if wanted is None else cast("Split", wanted))
    path = checked_path(wanted)
    if wanted.endswith(SUFFIX) and not path.is_dir():
        return path
    if not path.is_dir() and not (path.is_file() and zipfile.is_zipfile(path)):
        raise UsageError(
            f"there is no folder or zip {wanted!r} for the reference; expected train, held-out, a folder or zip of "
            f"images, or a statistics file ({SUFFIX})"
        )
    return ImageFolder.open(path, work)


def open_reference(images: RealImages | Path, features: FeatureNetwork, cache: Path, work: Work) -> Reference:
    """The reference of these images: loaded from the cache, or built and cached; that of a statistics file.

    With several ranks, rank 0 builds it. Raises NcsnxError for anything unreadable.
    """
    if isinstance(images, Path):
        return _of_file(images, features)
    return work.ranks.in_turn(lambda: _of_images(images, features, cache, work), work.check_stop)


def _of_images(images: RealImages, features: FeatureNetwork, cache: Path, work: Work) -> Reference:
    """The cached reference of some images."""

    def make() -> tuple[ReferenceRecord, dict[str, Tensor]]:
        record = ReferenceRecord(
            name=images.title,
            images=len(images),
            facts={**images.facts, "features": features.facts},
        )
        return record, _measured(images, features, work)

    key = {"schema_version": 1, "files": 2, "images": images.facts, "features": features.facts}
    folder = cache / "references" / digest(key)
    record, tensors = cached_tensors(folder, "reference", ReferenceRecord, make, work)
    name = f"{images.title} ({record.images:,})" if images.facts["kind"] == "split" else images.title
    facts = {
        "name": name,
        **images.facts,
        "images": record.images,
        "sample": len(tensors["sample"]),
        "statistics_sha256": record.sha256,
    }
    labels = partial(_sample_labels, images, record.images) if isinstance(images, SplitImages) else None
    return Reference(count=record.images, **tensors, name=name, facts=facts, path=folder, sample_labels=labels)


def _sample_labels(images: SplitImages, count: int) -> Tensor:
    """Labels of the sample of `count` images, in order."""
    return images.labels(_chosen(count).nonzero().flatten())


def _chosen(count: int) -> Tensor:
    """(count,) bool: the images of the sample."""
    chosen = torch.zeros(count, dtype=torch.bool)
    chosen[Stream(0, Purpose.SUBSETS).choice(count, SAMPLE, _CHOICE)] = True
    return chosen


def _of_file(path: Path, features: FeatureNetwork) -> Reference:
    (mean, covariance), sha256 = read_statistics(path, features.dimensions, features.name)
    facts = {
        "name": (name := f"file {path.name}"),
        "kind": "npz",
        "images": None,
        "fingerprint": sha256,
        "statistics_sha256": sha256,
    }
    return Reference(count=None, mean=mean, covariance=covariance, sample=None, name=name, facts=facts, path=path)


def _measured(images: RealImages, features: FeatureNetwork, work: Work) -> dict[str, Tensor]:
    """Mean, covariance and sample, computed in one pass. Only features of the sample are held."""
    count = len(images)
    if count < LEAST_IMAGES:
        raise NcsnxError(f"{images.title}: expected at least {counted(LEAST_IMAGES, 'image')}, found {count}")
    chosen = _chosen(count)
    moments, sample = Moments.empty(features.dimensions), list[Tensor]()
    with work.progress(f"reference: {images.title}", total=count, unit="images") as advance:
        for batch in images.batches(_BATCH, work.check_stop):
            some = features(batch).features.cpu()
            sample.append(some[chosen[moments.count : moments.count + len(some)]])
            moments.add(some)
            advance(len(some))
    return {"mean": moments.mean, "covariance": moments.covariance, "sample": torch.cat(sample)}


# Statistics from other programs: a `.npz` file with `mu` (D,) and `sigma` (D, D), as is common for FID. Nothing in such
# a file is ever executed: object arrays, which are pickles, are refused.


def read_statistics(path: Path, dimensions: int, features: str) -> tuple[tuple[Tensor, Tensor], str]:
    """Mean (D,) and covariance (D, D) of D = `dimensions` features, both float64, and the sha256 of the file.

    Raises NcsnxError for an unreadable or invalid file, and for one that doesn't match the features.
    """
    advice = f"; the features here are {features}: choose those of the file with {argument('features')}"
    expected = {
        name: ExpectedArray("real numbers", "iuf", (shape,), advice=advice)
        for name, shape in {"mu": (dimensions,), "sigma": (dimensions, dimensions)}.items()
    }
    arrays = read_arrays(path, expected, "save it with numpy.savez(FILE, mu=…, sigma=…)", ignored=_OTHERS)
    mean, covariance = (torch.from_numpy(arrays[name].astype(np.float64)) for name in ("mu", "sigma"))
    if not (mean.isfinite().all() and covariance.isfinite().all()):
        raise NcsnxError(f"{path}: expected finite numbers, found nan or infinity")
    symmetric = (covariance + covariance.T) / 2
    eigenvalues = torch.linalg.eigvalsh(symmetric)
    smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
    asymmetry = float((covariance - covariance.T).abs().max())
    if not largest > 0 or smallest < -_ROUNDING * largest or asymmetry > _ROUNDING * float(covariance.abs().max()):
        raise NcsnxError(
            f"{path}: expected a covariance as sigma, symmetric with no eigenvalue below 0 and one above; found "
            f"eigenvalues from {number(smallest)} to {number(largest)}, and opposite entries that differ by up to "
            f"{number(asymmetry)}"
        )
    return (mean, symmetric), sha256_of(path)

"""References: mean and covariance of the features of real images, for distances to generated images."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Self, get_args

import attrs
import numpy as np
import torch
from torch import Tensor

from ncsnx.config.codec import digest
from ncsnx.data import data_set_of
from ncsnx.data.dataset import Split
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.evaluation.image_folder import ImageFolder
from ncsnx.evaluation.perfect_model import LEAST_IMAGES, PerfectModel, measure_perfect_model
from ncsnx.evaluation.reference_cache import (
    REFERENCES,
    CachedReference,
    DamagedReferenceError,
    ReferenceRecord,
    Statistics,
    list_references,
    read_reference,
    reference_folder,
    write_reference,
)
from ncsnx.features.data_source import DataSource
from ncsnx.features.feature_network import FeatureNetwork
from ncsnx.features.moments import Moments
from ncsnx.features.real_images import RealImages, SplitImages
from ncsnx.features.torchscript import AS_THEY_ARE
from ncsnx.paths import typed_path
from ncsnx.quantities import counted, number
from ncsnx.randomness import Purpose, Stream
from ncsnx.ranks.joining import require_same
from ncsnx.ranks.rank_group import ALONE, held_by_first
from ncsnx.spelling import A_DIR, argument
from ncsnx.storage import atomic
from ncsnx.storage.cache import cache_lock
from ncsnx.storage.documents import find_document, write_document
from ncsnx.storage.expected_arrays import ExpectedArray, read_arrays, require_arrays
from ncsnx.storage.reading import sha256_of
from ncsnx.storage.zips import is_zip
from ncsnx.work import SILENT, Work

__all__ = ["CachedReference", "Reference", "list_references", "open_reference"]

SUFFIX = ".npz"
_HOW = "save it with numpy.savez(FILE, mu=…, sigma=…)"
OTHERS = ("mu_s", "sigma_s", "arr_0")
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


@attrs.frozen(eq=False)
class Reference(Statistics):
    """Statistics of real images, with what identifies them."""

    name: str
    """Name for messages: 'digits, training images (1,498)', 'folder /x/y', 'zip /x/y.zip', 'file stats.npz'."""
    facts: dict[str, Any]
    """JSON for protocols: name, kind, images, fingerprint, split, sha256 of the statistics …; no path in the cache."""
    path: Path
    """Folder or file of the statistics."""

    @classmethod
    def of(cls, statistics: Statistics, name: str, facts: dict[str, Any], path: Path) -> Self:
        """Adds the name to statistics and to facts."""
        known = attrs.asdict(statistics, recurse=False)
        return cls(**known, name=name, facts={"name": name, **facts}, path=path)

    def perfect_model(self, n: int, work: Work) -> PerfectModel | None:
        """The score of n images of a perfect model, measured once for each n and saved beside the statistics.

        None for a statistics file, which has no single images, for fewer than four images, and on ranks other than 0.
        Raises NcsnxError.
        """
        if not work.ranks.is_first or self.sample is None or self.count is None or self.count < LEAST_IMAGES:
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
        if self.sample is None:
            return f"unknown, since {self.name} holds mean and covariance only"
        return f"unknown, since it takes at least {counted(LEAST_IMAGES, 'real image')}"


def open_reference(
    wanted: str | None, source: DataSource | None, features: FeatureNetwork, cache: Path, work: Work
) -> Reference:
    """The reference named by `wanted`: loaded from the cache, or built and cached.

    wanted: 'train' or 'held-out' for a split of `source`, None for its default split; otherwise a folder or zip of
    images, or a `.npz` file with mu and sigma. With several ranks, each computes the features of its own batches, and
    rank 0 adds them in order, so that the statistics have the same bits. Raises UsageError if `wanted` is none of
    these, NcsnxError for anything unreadable.
    """
    if wanted is not None and _is_statistics_file(wanted):
        return _of_file(typed_path(wanted), features)
    images = _images(wanted, source, work)
    facts = {"images": digest(images.facts), "features": digest(features.facts)}
    hint = Hint("share one cache folder among the machines", adds=argument("cache", A_DIR))
    require_same(work.ranks, "has another reference", facts, hint, check_stop=work.check_stop)

    folder = reference_folder(cache, images.facts, features.facts)
    kept = _kept(folder, images)
    if work.ranks.first(lambda: kept is None, check_stop=work.check_stop):
        lock = cache_lock(cache / REFERENCES / f".{folder.name}", f"the reference of {images.title}", work)
        with held_by_first(work.ranks, lock, work.check_stop):
            if work.ranks.first(lambda: _is_lacking(folder, images, work), check_stop=work.check_stop):
                statistics = _measure(images, features, work)
                work.ranks.first(lambda: _write(folder, statistics, images, features), check_stop=work.check_stop)
        kept = _kept(folder, images)
    if kept is None and not work.ranks.is_first:  # on another machine with a cache of its own
        return open_reference(wanted, source, features, cache, attrs.evolve(work, ranks=ALONE))
    return _read(folder, images) if kept is None else kept


def _kept(folder: Path, images: RealImages) -> Reference | None:
    """The reference in the cache; None if it doesn't exist or is damaged."""
    try:
        return _read(folder, images)
    except (FileNotFoundError, DamagedReferenceError):
        return None


def _is_lacking(folder: Path, images: RealImages, work: Work) -> bool:
    """Whether the reference is to be built; a damaged one is removed. The caller holds its lock."""
    try:
        _read(folder, images)
    except FileNotFoundError:
        return True
    except DamagedReferenceError as error:
        work.warning(f"{error}; the reference is built again")
        with atomic.reporting(folder):
            atomic.remove_tree(folder)
        return True
    return False


def _write(folder: Path, statistics: Statistics | None, images: RealImages, features: FeatureNetwork) -> None:
    assert statistics is not None
    record = ReferenceRecord(
        name=_name(images, len(images)),
        images=len(images),
        features=features.name,
        dimensions=features.dimensions,
        facts={**images.facts, "features": features.facts},
    )
    write_reference(folder, statistics, record)


def check_reference(wanted: str | None, source: DataSource | None) -> None:
    """Checks `wanted` before any expensive work; reads no images.

    Raises UsageError if it names nothing that `open_reference` can open, NcsnxError for a folder or zip that can't be
    read or has no images, and for a file without statistics.
    """
    if wanted is not None and _is_statistics_file(wanted):
        check_statistics(typed_path(wanted))
    else:
        _images(wanted, source, SILENT)


def _is_statistics_file(wanted: str) -> bool:
    return wanted.endswith(SUFFIX) and not typed_path(wanted).is_dir()


def _of_file(path: Path, features: FeatureNetwork) -> Reference:
    statistics, sha256 = read_statistics(path, features.dimensions, features.name)
    facts = {"kind": "npz", "images": None, "fingerprint": sha256, "statistics_sha256": sha256}
    return Reference.of(statistics, f"file {path.name}", facts, path)


def _images(wanted: str | None, source: DataSource | None, work: Work) -> RealImages:
    if source is not None and wanted is None:
        return SplitImages(source, data_set_of(source.data).reference)
    for split in get_args(Split):
        if source is not None and wanted == split:
            return SplitImages(source, split)
    if wanted is None or wanted in get_args(Split):
        which = "the reference" if wanted is None else f"the reference {wanted!r}"
        raise UsageError(f"{which} needs a data set: name an experiment or a run, or a folder of images")
    path = typed_path(wanted)
    if not path.is_dir() and not is_zip(path):
        raise UsageError(
            f"there is no folder or zip {wanted!r} for the reference; expected train, held-out, a folder or zip of "
            f"images, or a statistics file ({SUFFIX})"
        )
    return ImageFolder.open(path, work)


def _name(images: RealImages, count: int | None) -> str:
    return f"{images.title} ({count:,})" if images.facts["kind"] == "split" else images.title


def _read(folder: Path, images: RealImages) -> Reference:
    statistics, sha256 = read_reference(folder)
    assert statistics.sample is not None
    sample = len(statistics.sample)
    facts = {**images.facts, "images": statistics.count, "sample": sample, "statistics_sha256": sha256}
    return Reference.of(statistics, _name(images, statistics.count), facts, folder)


def _measure(images: RealImages, features: FeatureNetwork, work: Work) -> Statistics | None:
    """Computes the statistics in one pass; None on ranks other than 0. Only features of the sample are held."""
    count = len(images)
    if count < 2:
        raise NcsnxError(f"{images.title}: expected at least 2 images, for a covariance; found {count}")
    chosen = torch.zeros(count, dtype=torch.bool)
    chosen[Stream(0, Purpose.SUBSETS).permutation(count, _CHOICE)[:SAMPLE]] = True
    moments, sample = Moments.empty(features.dimensions), list[Tensor]()
    shape: tuple[int, ...] = ()
    done = 0
    with work.progress(f"reference: {images.title}", total=count, unit="images") as advance:
        for some, its_shape in _measured(images, features, work):
            _require_shape(its_shape, shape, images, features)
            if work.ranks.is_first:
                moments.add(some)
                sample.append(some[chosen[done : done + len(some)]])
            shape, done = its_shape, done + len(some)
            advance(len(some))
    if done != count:
        raise NcsnxError(f"{images.title}: expected {counted(count, 'image')}, and read {done:,}")
    return Statistics(count, moments.mean, moments.covariance, torch.cat(sample)) if work.ranks.is_first else None


def _measured(images: RealImages, features: FeatureNetwork, work: Work) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
    """Features (b, D) and shape (C, H, W) of all batches of images, in order. The ranks share the batches."""

    def own() -> Iterator[tuple[Tensor, tuple[int, ...]]]:
        shape: tuple[int, ...] = ()
        for batch in images.batches(_BATCH, work.check_stop, share=(work.ranks.rank, work.ranks.world)):
            before, shape = shape, tuple(batch.shape[1:])
            _require_shape(shape, before, images, features)
            yield features(batch).features.cpu(), shape

    batches = own()
    while True:
        # one batch of each rank, by rank; none has more than one before it
        shares = work.ranks.gather(lambda: list(islice(batches, 1)), check_stop=work.check_stop)
        yield from (batch for share in shares for batch in share)
        if not all(shares):
            return


def _require_shape(
    shape: tuple[int, ...], before: tuple[int, ...], images: RealImages, features: FeatureNetwork
) -> None:
    """Raises NcsnxError for images of another shape than `before`, if there are any and features don't resize them."""
    if before and shape != before and features.facts.get("images") == AS_THEY_ARE:
        (_, *first), (_, *other) = before, shape
        raise NcsnxError(
            f"{images.title}: found images of {first[0]}×{first[1]} and {other[0]}×{other[1]} pixels (height × "
            f"width), but {features.name} does not resize images and takes a single size; resize them"
        )


# Statistics from other programs: a `.npz` file with `mu` (D,) and `sigma` (D, D), as is common for FID. Nothing in such
# a file is ever executed: object arrays, which are pickles, are refused.


def check_statistics(path: Path) -> None:
    """Checks by names and headers whether a file holds statistics of any features; reads no values.

    Raises NcsnxError.
    """
    file = require_arrays(path, _expected("D", copies=0), _HOW, ignored=OTHERS)
    dimensions = min(file.header(name).shape[0] for name in ("mu", "sigma"))  # the error names the larger array
    require_arrays(path, _expected(dimensions), _HOW, ignored=OTHERS)


def read_statistics(path: Path, dimensions: int, features: str) -> tuple[Statistics, str]:
    """The statistics of `dimensions` features by the network named `features`, and the sha256 of the file.

    Raises NcsnxError for an unreadable or invalid file, and for one that doesn't match the features.
    """
    advice = f"; the features here are {features}: choose those of the file with {argument('features')}"
    arrays = read_arrays(path, _expected(dimensions, advice), _HOW, ignored=OTHERS)
    mean, covariance = (torch.from_numpy(arrays[name].astype(np.float64)) for name in ("mu", "sigma"))
    _check(path, mean, covariance)
    symmetric = (covariance + covariance.T) / 2
    return Statistics(None, mean, symmetric, None), sha256_of(path)


def _expected(dimensions: int | str, advice: str = "", copies: int = 1) -> dict[str, ExpectedArray]:
    shapes = {"mu": (dimensions,), "sigma": (dimensions, dimensions)}
    return {
        name: ExpectedArray("real numbers", "iuf", (shape,), advice=advice, copies=copies)
        for name, shape in shapes.items()
    }


def _check(path: Path, mean: Tensor, covariance: Tensor) -> None:
    if not (mean.isfinite().all() and covariance.isfinite().all()):
        raise NcsnxError(f"{path}: expected finite numbers, found nan or infinity")
    asymmetry = float((covariance - covariance.T).abs().max())
    if asymmetry > _ROUNDING * float(covariance.abs().max()):
        raise NcsnxError(f"{path}: expected a symmetric sigma, found entries that differ by {number(asymmetry)}")
    if not covariance.any():
        raise NcsnxError(f"{path}: expected a covariance, found only zeros in sigma")
    eigenvalues = torch.linalg.eigvalsh((covariance + covariance.T) / 2)
    smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
    if smallest < -_ROUNDING * largest:
        raise NcsnxError(
            f"{path}: sigma is not a covariance, since its eigenvalues are from {number(smallest)} to "
            f"{number(largest)}; expected none below 0"
        )

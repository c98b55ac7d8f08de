"""Cache of the statistics of real images, measured once per data set and feature network.

    references/DIGEST/statistics.safetensors  reference.json  perfect-model-n1000.json

reference.json holds the sha256 of the tensors and a digest of itself, so damage is detected.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ncsnx.config.codec import digest
from ncsnx.config.variants import VERSION
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.perfect_model import PerfectModel
from ncsnx.storage import atomic, reading
from ncsnx.storage.documents import document, document_bytes, find_document, read_document

if TYPE_CHECKING:
    from torch import Tensor

REFERENCES = "references"
STATISTICS, FACTS = "statistics.safetensors", "reference.json"


class DamagedReferenceError(NcsnxError):
    """A file of a cached reference is missing or was changed."""


@attrs.frozen(eq=False)
class Statistics:
    """Statistics of real images in D features, on the CPU."""

    count: int | None
    """Number of images; None for a statistics file, which doesn't say."""
    mean: "Tensor"
    """(D,) float64."""
    covariance: "Tensor"
    """(D, D) float64, unbiased."""
    sample: "Tensor | None"
    """(m, D) float32: features of a random choice of the images, in order; None for a statistics file."""


@document("a reference in the cache", sealed=True)
@attrs.frozen(kw_only=True)
class ReferenceRecord:
    """Content of reference.json."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    name: str
    images: int
    """Number of images."""
    features: str
    """Name of the feature network."""
    dimensions: int
    """D, the length of a feature vector."""
    facts: dict[str, Any]
    """Facts that identify the images and the feature network."""
    statistics_sha256: str = ""
    """sha256 of statistics.safetensors, in hexadecimal."""


@attrs.frozen
class CachedReference:
    """Facts on a cached reference, read without loading its statistics; None if it is damaged."""

    path: Path
    size: int
    """Bytes on disk."""
    name: str | None = None
    images: int | None = None
    features: str | None = None
    dimensions: int | None = None
    perfect_models: tuple[PerfectModel, ...] = ()
    """Measured scores of a perfect model, in ascending order of `n`."""


def reference_folder(cache: Path, images: dict[str, Any], features: dict[str, Any]) -> Path:
    """The cache folder for the statistics of some images in some features, both given by their facts."""
    return cache / REFERENCES / digest({"schema_version": 1, "images": images, "features": features})


def write_reference(folder: Path, statistics: Statistics, record: ReferenceRecord) -> None:
    """Writes a reference atomically. record: without the sha256 of the statistics. Raises NcsnxError."""
    from safetensors.torch import save  # here, since listing references doesn't need torch

    content = save({name: getattr(statistics, name).contiguous() for name in ("mean", "covariance", "sample")})
    record = attrs.evolve(record, statistics_sha256=hashlib.sha256(content).hexdigest())
    with atomic.new_folder(folder) as draft:
        atomic.write_new(draft / STATISTICS, content, shown=folder / STATISTICS)
        atomic.write_new(draft / FACTS, document_bytes(record), shown=folder / FACTS)


def read_reference(folder: Path) -> tuple[Statistics, str]:
    """The statistics in `folder` and the sha256 of their file.

    Raises FileNotFoundError if the folder doesn't exist, DamagedReferenceError for anything wrong in it.
    """
    from safetensors.torch import load

    record = _read_record(folder)
    path = folder / STATISTICS
    try:
        content = reading.read_bytes(path)
    except OSError as error:
        raise DamagedReferenceError(f"{path}: cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != record.statistics_sha256:
        raise DamagedReferenceError(f"{path}: it was changed since it was written")
    return Statistics(record.images, **load(content)), record.statistics_sha256


def list_references(cache: Path) -> list[CachedReference]:
    """The cached references by name, damaged ones last. Raises NcsnxError if the cache can't be read."""
    with atomic.reporting(cache / REFERENCES):
        folders = [path for path in (cache / REFERENCES).glob("*") if path.is_dir() and not path.name.startswith(".")]
        references = [_listed(folder) for folder in folders]
    return sorted(references, key=lambda one: (one.name is None, one.name or "", one.path))


def _listed(folder: Path) -> CachedReference:
    size = sum(path.lstat().st_size for path in folder.iterdir())
    try:
        record = _read_record(folder)
    except (FileNotFoundError, DamagedReferenceError):
        return CachedReference(folder, size)
    perfect = [find_document(path, PerfectModel) for path in folder.glob("perfect-model-n*.json")]
    return CachedReference(
        folder,
        size,
        name=record.name,
        images=record.images,
        features=record.features,
        dimensions=record.dimensions,
        perfect_models=tuple(sorted((one for one in perfect if one is not None), key=lambda one: one.n)),
    )


def _read_record(folder: Path) -> ReferenceRecord:
    if not folder.exists():
        raise FileNotFoundError(folder)
    try:
        return read_document(folder / FACTS, ReferenceRecord)
    except FileNotFoundError as error:
        raise DamagedReferenceError(f"{folder / FACTS} is missing") from error
    except NcsnxError as error:
        raise DamagedReferenceError(str(error)) from error

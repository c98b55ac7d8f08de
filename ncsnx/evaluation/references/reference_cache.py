"""Cache of the statistics of real images, measured once per data set and feature network.

    references/DIGEST/statistics.safetensors  reference.json  perfect-model-n1000.json

The JSON holds the sha256 of the tensors and a digest of itself, so damage is detected.
"""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ncsnx.config.canonical import digest
from ncsnx.config.strict.fields import REST, VERSION
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.references.perfect_model import PerfectModel
from ncsnx.storage import atomic, reading
from ncsnx.storage.documents import document, document_bytes, document_of, find_document, read_document, write_document

if TYPE_CHECKING:
    from torch import Tensor

REFERENCES = "references"
STATISTICS, FACTS = "statistics.safetensors", "reference.json"
_PERFECT_MODEL = "perfect-model-n"
_SCHEMA_VERSION = 1


class DamagedReferenceError(NcsnxError):
    """A file of a cached reference is missing or was changed."""


@attrs.frozen(eq=False)
class Statistics:
    """Statistics of n real images in D features."""

    count: int
    """n."""
    mean: "Tensor"
    """(D,) float64, on the CPU."""
    covariance: "Tensor"
    """(D, D) float64, unbiased, on the CPU."""
    sample: "Tensor"
    """(m, D) float32, on the CPU: features of a random choice of the images, in order."""


@attrs.frozen(kw_only=True)
class FeatureFacts:
    """The feature network of a reference."""

    name: str
    facts: dict[str, Any] = attrs.field(metadata=REST)


@document("a reference in the cache", sealed=True)
@attrs.frozen(kw_only=True)
class ReferenceRecord:
    """Content of reference.json."""

    name: str
    facts: dict[str, Any] = attrs.field(metadata=REST)
    """Facts that identify its images."""
    features: FeatureFacts
    schema_version: int = attrs.field(default=_SCHEMA_VERSION, metadata=VERSION)
    images: int
    """Number of images."""
    dimensions: int
    """D, the length of a feature vector."""
    statistics_sha256: str
    """sha256 of statistics.safetensors, in hexadecimal."""


@document("what a perfect model would score", sealed=True)
@attrs.frozen(kw_only=True)
class PerfectModelRecord:
    """A perfect model measured against a reference."""

    statistics_sha256: str
    """sha256 of the reference's statistics."""
    found: dict[str, Any] = attrs.field(metadata=REST)
    """Result of `PerfectModel.to_json`."""


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
    return cache / REFERENCES / digest({"schema_version": _SCHEMA_VERSION, "images": images, "features": features})


def write_reference(folder: Path, facts: dict[str, Any], statistics: Statistics) -> None:
    """Writes a reference atomically, with `facts` beside the statistics. Raises NcsnxError."""
    from safetensors.torch import save  # here, since listing references doesn't need torch

    tensors = {"mean": statistics.mean, "covariance": statistics.covariance, "sample": statistics.sample}
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    counts = {"images": statistics.count, "dimensions": len(statistics.mean)}
    checked = {"schema_version": _SCHEMA_VERSION, "statistics_sha256": hashlib.sha256(content).hexdigest()}
    record = document_of({**facts, **counts, **checked}, ReferenceRecord, folder / FACTS)
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
    found = hashlib.sha256(content).hexdigest()
    if found != record.statistics_sha256:
        raise DamagedReferenceError(f"{path}: it was changed since it was written")
    tensors = load(content)
    return Statistics(record.images, **tensors), found


def write_perfect_model(folder: Path, found: PerfectModel, statistics_sha256: str) -> None:
    """Saves the score of a perfect model beside a reference, unless the folder is read-only, as in a shared cache.

    Raises NcsnxError.
    """
    if os.access(folder, os.W_OK | os.X_OK):
        record = PerfectModelRecord(statistics_sha256=statistics_sha256, found=found.to_json())
        write_document(_perfect_model_path(folder, found.n), record)


def read_perfect_model(folder: Path, n: int, statistics_sha256: str) -> PerfectModel | None:
    """The saved score of a perfect model for n images and these statistics; None if it is missing or damaged."""
    record = find_document(_perfect_model_path(folder, n), PerfectModelRecord)
    if record is None or record.statistics_sha256 != statistics_sha256:
        return None
    found = PerfectModel.from_json(record.found)
    return found if found is not None and found.n == n else None


def _perfect_model_path(folder: Path, n: int) -> Path:
    return folder / f"{_PERFECT_MODEL}{n}.json"


def _perfect_models(folder: Path, statistics_sha256: str) -> tuple[PerfectModel, ...]:
    counts = [path.stem.removeprefix(_PERFECT_MODEL) for path in folder.glob(f"{_PERFECT_MODEL}*.json")]
    found = [read_perfect_model(folder, int(n), statistics_sha256) for n in counts if n.isdecimal()]
    return tuple(sorted((one for one in found if one is not None), key=lambda one: one.n))


def list_references(cache: Path) -> list[CachedReference]:
    """The cached references by name, damaged ones last. Raises NcsnxError if the cache can't be read."""
    try:
        folders = [path for path in (cache / REFERENCES).iterdir() if path.is_dir() and not path.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise NcsnxError(f"cannot read {cache / REFERENCES}: {error.strerror}") from error
    found = [reference for reference in map(_listed, folders) if reference is not None]
    return sorted(found, key=lambda reference: (reference.name is None, reference.name or "", reference.path))


def _listed(folder: Path) -> CachedReference | None:
    """The reference in `folder`; None if another process is removing it."""
    try:
        size = sum(path.lstat().st_size for path in folder.iterdir())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NcsnxError(f"cannot read {folder}: {error.strerror}") from error
    try:
        record = _read_record(folder)
    except FileNotFoundError:
        return None
    except DamagedReferenceError:
        return CachedReference(folder, size)
    return CachedReference(
        folder,
        size,
        name=record.name,
        images=record.images,
        features=record.features.name,
        dimensions=record.dimensions,
        perfect_models=_perfect_models(folder, record.statistics_sha256),
    )


def _read_record(folder: Path) -> ReferenceRecord:
    if not folder.exists():
        raise FileNotFoundError(folder)
    path = folder / FACTS
    try:
        return read_document(path, ReferenceRecord)
    except FileNotFoundError as error:
        raise DamagedReferenceError(f"{path} is missing") from error
    except NcsnxError as error:
        raise DamagedReferenceError(str(error)) from error

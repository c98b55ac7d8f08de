"""Cache of the statistics of real images, measured once per data set and feature network.

references/DIGEST/statistics.safetensors  reference.json  perfect-model-n1000.json
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ncsnx.config.codec import digest
from ncsnx.config.variants import VERSION
from ncsnx.evaluation.perfect_model import PerfectModel
from ncsnx.features.cached_tensors import CachedTensors, DamagedError
from ncsnx.storage import atomic
from ncsnx.storage.documents import document, find_document

if TYPE_CHECKING:
    pass

REFERENCES = "references"


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
    sha256: str = ""
    """sha256 of statistics.safetensors, in hexadecimal."""


CACHED = CachedTensors("the reference", "statistics.safetensors", "reference.json", ReferenceRecord)


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


def list_references(cache: Path) -> list[CachedReference]:
    """The cached references by name, damaged ones last. Raises NcsnxError if the cache can't be read."""
    with atomic.reporting(cache / REFERENCES):
        folders = [path for path in (cache / REFERENCES).glob("*") if path.is_dir() and not path.name.startswith(".")]
        references = [_listed(folder) for folder in folders]
    return sorted(references, key=lambda one: (one.name is None, one.name or "", one.path))


def _listed(folder: Path) -> CachedReference:
    size = sum(path.lstat().st_size for path in folder.iterdir())
    try:
        record = CACHED.read_record(folder)
    except DamagedError:
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

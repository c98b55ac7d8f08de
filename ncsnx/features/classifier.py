"""A classifier of a data set's own classes as feature network, for data where Inception is unavailable or unsuitable.

Images without labels get classes by clustering. It is trained once (see `classifier_training`) and cached:

    classifier/DIGEST/weights.safetensors  classifier.json

DIGEST identifies the configuration and the training images. The JSON holds the sha256 of the weights and a digest of
itself, so a damaged classifier is detected and trained again.
"""

import hashlib
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors.torch import load, save
from torch import Tensor

from ncsnx.config.codec import digest
from ncsnx.config.converter import unstructure
from ncsnx.config.data_sets import Data
from ncsnx.config.feature_networks import Classifier
from ncsnx.config.variants import OMITTED, VERSION, tag_of
from ncsnx.errors import Hint, NcsnxError
from ncsnx.features.classifier_training import DIMENSIONS, ClassifierNetwork, Trained, train_classifier
from ncsnx.features.data_source import DataSource
from ncsnx.features.feature_network import Extracted
from ncsnx.features.real_images import SplitImages
from ncsnx.features.torchscript import AS_THEY_ARE
from ncsnx.quantities import counted, percent
from ncsnx.spelling import argument
from ncsnx.storage import atomic
from ncsnx.storage.cache import cache_lock
from ncsnx.storage.documents import document, document_bytes, document_values, read_document
from ncsnx.work import Work

_FOLDER = "classifier"
WEIGHTS, CLASSIFIER_RECORD = "weights.safetensors", "classifier.json"
_SCHEMA_VERSION = 1
"""Raised with every change of the network or its training, so that cached classifiers are trained again."""


@document("a classifier in the cache", sealed=True)
@attrs.frozen(kw_only=True)
class ClassifierRecord:
    """Content of classifier.json."""

    schema_version: int = attrs.field(default=_SCHEMA_VERSION, metadata=VERSION)
    sha256: str
    """sha256 of the weights, in hexadecimal."""
    width: int
    steps: int
    seed: int
    trained_on: dict[str, Any]
    """Facts of the training images."""
    shape: tuple[int, int, int]
    """Shape (C, H, W) of an image."""
    classes: int
    of_clusters: bool = attrs.field(default=False, metadata=OMITTED)
    """Whether the classes are clusters, since the images have no labels."""
    accuracy: float | None
    """Share of held-out images classified correctly; None without held-out images."""
    held_out_images: int


class ClassifierFeatures:
    """The 64 features before the last layer, and the logits, of images without resizing."""

    dimensions = DIMENSIONS
    has_logits = True

    def __init__(self, network: ClassifierNetwork, record: ClassifierRecord, data: Data, device: torch.device) -> None:
        self._network = network
        self._device = device
        self._shape = record.shape
        kind = "cluster classifier" if record.of_clusters else "classifier"
        self.name = f"{tag_of(type(data)) or type(data).__name__} {kind} {record.sha256[:8]}"
        self.facts: dict[str, Any] = {
            "type": "classifier",
            "dimensions": self.dimensions,
            "images": AS_THEY_ARE,
            **{key: value for key, value in document_values(record).items() if key != "schema_version"},
            "shape": list(record.shape),  # facts are compared as JSON
        }

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Extracted:
        """Features and logits. Raises NcsnxError for images of another shape than the training images."""
        if tuple(images.shape[1:]) != self._shape:
            raise NcsnxError(
                f"the {self.name} takes images of shape {self._shape}, not {tuple(images.shape[1:])}",
                Hint("use other features", adds=argument("features", "inception")),
            )
        features, logits = self._network(images.to(self._device))
        return Extracted(features.cpu(), logits.cpu())


def open_classifier(
    config: Classifier, source: DataSource, cache: Path, device: torch.device, work: Work
) -> ClassifierFeatures:
    """The classifier of the training images of `source`: from the cache, which doesn't need the data, or trained now.

    Raises NcsnxError for data that is missing, has one class only, or has images that are too small.
    """
    images = SplitImages(source, "train").facts
    key = {"schema_version": _SCHEMA_VERSION, "features": unstructure(config), "images": images}
    folder = cache / _FOLDER / digest(key)
    with cache_lock(folder.parent, "the classifier", work):
        if folder.exists():
            try:
                return _read(folder, source.data, device)
            except _DamagedError as error:
                work.warning(f"{error}; the classifier is trained again")
                with atomic.reporting(folder):
                    atomic.remove_tree(folder)
        trained = train_classifier(config, source, device, work)
        _write(folder, config, trained, images)
        opened = _read(folder, source.data, device)
    if trained.of_clusters:
        work.info("not all images have labels, so the classifier learned to tell clusters of similar images")
    work.info(f"{opened.name}: {_accuracy(trained)}; saved in {folder}")
    return opened


def _accuracy(trained: Trained) -> str:
    if trained.accuracy is None:
        return "accuracy unknown, since there are no held-out images"
    return f"accuracy {percent(trained.accuracy)} on {counted(trained.held_out, 'held-out image')}"


class _DamagedError(NcsnxError):
    """A file of a cached classifier is missing or was changed."""


def _write(folder: Path, config: Classifier, trained: Trained, images: dict[str, Any]) -> None:
    tensors = {name: value.cpu().contiguous() for name, value in trained.network.state_dict().items()}
    weights = save(tensors)
    record = ClassifierRecord(
        sha256=hashlib.sha256(weights).hexdigest(),
        width=config.width,
        steps=config.steps,
        seed=config.seed,
        trained_on=images,
        shape=trained.shape,
        classes=trained.classes,
        of_clusters=trained.of_clusters,
        accuracy=trained.accuracy,
        held_out_images=trained.held_out,
    )
    with atomic.new_folder(folder) as draft:
        atomic.write_new(draft / WEIGHTS, weights, shown=folder / WEIGHTS)
        atomic.write_new(draft / CLASSIFIER_RECORD, document_bytes(record), shown=folder / CLASSIFIER_RECORD)


def _read(folder: Path, data: Data, device: torch.device) -> ClassifierFeatures:
    """The classifier in `folder`. Raises _DamagedError for anything wrong with it."""
    path = folder / CLASSIFIER_RECORD
    try:
        record = read_document(path, ClassifierRecord)
        path = folder / WEIGHTS
        weights = path.read_bytes()
    except OSError as error:
        raise _DamagedError(f"{path}: cannot be read: {error.strerror}") from error
    except NcsnxError as error:
        raise _DamagedError(str(error)) from error
    if hashlib.sha256(weights).hexdigest() != record.sha256:
        raise _DamagedError(f"{path}: it was changed since it was written")
    network = ClassifierNetwork(record.shape, record.width, record.classes, record.seed)
    network.load_state_dict(load(weights))
    return ClassifierFeatures(network.to(device).eval(), record, data, device)

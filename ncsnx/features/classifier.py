"""A classifier of a data set's own classes as feature network: scores where Inception can't be had or doesn't fit.

It is trained once (see `classifier_training`) and kept in the cache:

    classifier/DIGEST/weights.safetensors  classifier.json

DIGEST is that of the configuration and of the training images. The JSON holds the sha256 of the weights and a digest of
itself, so that what is damaged is known for it, and is made again.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors.torch import load, save
from torch import Tensor

from ncsnx.config.canonical import digest
from ncsnx.config.codec import unstructure
from ncsnx.config.data_sets import Data
from ncsnx.config.feature_networks import Classifier
from ncsnx.config.strict.fields import versioned
from ncsnx.config.variants import tag_of
from ncsnx.errors import NcsnxError
from ncsnx.features.classifier_training import DIMENSIONS, ClassifierNetwork, Trained, train_classifier
from ncsnx.features.data_source import DataSource
from ncsnx.features.feature_network import Extracted
from ncsnx.features.real_images import SplitImages
from ncsnx.features.torchscript import AS_THEY_ARE
from ncsnx.quantities import counted, percent
from ncsnx.spelling import parameter
from ncsnx.storage import atomic
from ncsnx.storage.cache import cache_lock
from ncsnx.storage.documents.document import document, document_bytes, document_values
from ncsnx.storage.documents.document_files import read_document
from ncsnx.work import Work

_FOLDER = "classifier"
WEIGHTS, CLASSIFIER_RECORD = "weights.safetensors", "classifier.json"
_SCHEMA_VERSION = 1
"""Rises with every change of the network or its training, so that older ones are made again."""


@document("a classifier in the cache", sealed=True)
@attrs.frozen(kw_only=True)
class ClassifierRecord:
    """What classifier.json says."""

    schema_version: int = attrs.field(default=_SCHEMA_VERSION, metadata=versioned())
    sha256: str
    """Of the weights, in hexadecimal."""
    width: int
    steps: int
    seed: int
    trained_on: dict[str, Any]
    """The facts of its training images."""
    shape: tuple[int, int, int]
    """(C, H, W)."""
    classes: int
    accuracy: float | None
    """Share of held-out images that it tells right; None where there are none."""
    held_out_images: int


class ClassifierFeatures:
    """Features before the last layer, 64 of them, and logits; images as they are."""

    dimensions = DIMENSIONS
    has_logits = True

    def __init__(self, network: ClassifierNetwork, record: ClassifierRecord, data: Data, device: torch.device) -> None:
        self._network = network
        self._device = device
        self._shape = record.shape
        self.name = f"classifier on {tag_of(type(data)) or type(data).__name__}"
        self.facts: dict[str, Any] = {
            "type": "classifier",
            "dimensions": self.dimensions,
            "images": AS_THEY_ARE,
            **{key: value for key, value in document_values(record).items() if key != "schema_version"},
            "shape": list(record.shape),  # as JSON, which facts are compared as
        }

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Extracted:
        """Features and logits. Raises NcsnxError for images of another shape than those that it was trained on."""
        if tuple(images.shape[1:]) != self._shape:
            raise NcsnxError(
                f"the {self.name} takes images of shape {self._shape}, not {tuple(images.shape[1:])}; compare images "
                f"of another shape with {parameter('features')} inception"
            )
        features, logits = self._network(images.to(self._device))
        return Extracted(features.cpu(), logits.cpu())


def open_classifier(
    config: Classifier, source: DataSource, cache: Path, device: torch.device, work: Work
) -> ClassifierFeatures:
    """The classifier on the training images of `source`: from the cache, without the data; else trained and kept.

    Raises NcsnxError for data without labels, with one class or images that are too small, or that isn't there.
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
                    shutil.rmtree(folder)
        trained = train_classifier(config, source, device, work)
        _write(folder, config, trained, images)
        opened = _read(folder, source.data, device)
    work.info(f"{opened.name}: {_worth(trained)}; kept in {folder}")
    return opened


def _worth(trained: Trained) -> str:
    if trained.accuracy is None:
        return "there are no held-out images to tell how good it is"
    return f"tells {percent(trained.accuracy)} of {counted(trained.held_out, 'held-out image')} right"


class _DamagedError(NcsnxError):
    """A cached classifier whose files are not those that were written."""


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
        raise _DamagedError(f"{path}: its bytes are not those that were written")
    network = ClassifierNetwork(record.shape, record.width, record.classes, record.seed)
    network.load_state_dict(load(weights))
    return ClassifierFeatures(network.to(device).eval(), record, data, device)

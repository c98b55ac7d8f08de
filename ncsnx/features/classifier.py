"""A classifier of a data set's own classes as feature network, for data where Inception is unavailable or unsuitable.

Images without labels get classes by clustering. It is trained once (see `classifier_training`) and cached:

    classifier/DIGEST/weights.safetensors  classifier.json

DIGEST identifies the configuration and the training images.
"""

from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ncsnx.config.codec import digest
from ncsnx.config.converter import unstructure
from ncsnx.config.data_sets import Data
from ncsnx.config.feature_networks import Classifier
from ncsnx.config.variants import OMITTED, VERSION, tag_of
from ncsnx.errors import Hint, NcsnxError
from ncsnx.features.cached_tensors import CachedTensors
from ncsnx.features.classifier_training import DIMENSIONS, ClassifierNetwork, Trained, train_classifier
from ncsnx.features.feature_network import Extracted
from ncsnx.features.real_images import DataSource, SplitImages
from ncsnx.features.torchscript import AS_THEY_ARE
from ncsnx.quantities import counted, percent
from ncsnx.spelling import argument
from ncsnx.storage.documents import document, document_values
from ncsnx.work import Work

WEIGHTS, CLASSIFIER_RECORD = "weights.safetensors", "classifier.json"
_SCHEMA_VERSION = 1
"""Raised with every change of the network or its training, so that cached classifiers are trained again."""


@document("a classifier in the cache", sealed=True)
@attrs.frozen(kw_only=True)
class ClassifierRecord:
    """Content of classifier.json."""

    schema_version: int = attrs.field(default=_SCHEMA_VERSION, metadata=VERSION)
    sha256: str = ""
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


_CACHED = CachedTensors("the classifier", WEIGHTS, CLASSIFIER_RECORD, ClassifierRecord)


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
    folder = cache / "classifier" / digest(key)

    def make() -> tuple[ClassifierRecord, dict[str, Tensor]]:
        trained = train_classifier(config, source, device, work)
        record = ClassifierRecord(
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
        if trained.of_clusters:
            work.info("not all images have labels, so the classifier learned to tell clusters of similar images")
        work.info(f"the classifier was trained: {_accuracy(trained)}; saved in {folder}")
        return record, {name: value.cpu() for name, value in trained.network.state_dict().items()}

    record, weights = _CACHED.opened(folder, make, work)
    network = ClassifierNetwork(record.shape, record.width, record.classes, record.seed)
    network.load_state_dict(weights)
    return ClassifierFeatures(network.to(device).eval(), record, source.data, device)


def _accuracy(trained: Trained) -> str:
    if trained.accuracy is None:
        return "accuracy unknown, since there are no held-out images"
    return f"accuracy {percent(trained.accuracy)} on {counted(trained.held_out, 'held-out image')}"

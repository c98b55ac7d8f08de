"""A classifier of a data set's own classes as feature network, for data where Inception is unavailable or unsuitable.

Images without labels get classes by clustering. It is trained once (see `classifier_training`) and cached:

    classifier/DIGEST/weights.safetensors  classifier.json

DIGEST identifies the configuration and the training images.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ncsnx.config.codec import digest
from ncsnx.config.converter import unstructure
from ncsnx.config.data_sets import Data
from ncsnx.config.feature_networks import Classifier
from ncsnx.config.variants import tag_of
from ncsnx.errors import Hint, NcsnxError
from ncsnx.features.cached_tensors import CachedTensors
from ncsnx.features.classifier_training import (
    DIMENSIONS,
    SCHEMA_VERSION,
    ClassifierNetwork,
    ClassifierRecord,
    train_classifier,
)
from ncsnx.features.feature_network import Extracted
from ncsnx.features.real_images import DataSource, SplitImages
from ncsnx.features.torchscript import AS_THEY_ARE
from ncsnx.quantities import counted, percent
from ncsnx.spelling import argument
from ncsnx.storage.documents import document_values
from ncsnx.work import Work

WEIGHTS, CLASSIFIER_RECORD = "weights.safetensors", "classifier.json"
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
    key = {"schema_version": SCHEMA_VERSION, "features": unstructure(config), "images": images}
    folder = cache / "classifier" / digest(key)

    def make() -> tuple[ClassifierRecord, dict[str, Tensor]]:
        record, network = train_classifier(config, source, device, work)
        if record.of_clusters:
            work.info("not all images have labels, so the classifier learned to tell clusters of similar images")
        accuracy = "accuracy unknown, since there are no held-out images"
        if record.accuracy is not None:
            accuracy = f"accuracy {percent(record.accuracy)} on {counted(record.held_out_images, 'held-out image')}"
        work.info(f"the classifier was trained: {accuracy}; saved in {folder}")
        return record, {name: value.cpu() for name, value in network.state_dict().items()}

    record, weights = _CACHED.opened(folder, make, work)
    network = ClassifierNetwork(record.shape, record.width, record.classes, record.seed)
    network.load_state_dict(weights)
    return ClassifierFeatures(network.to(device).eval(), record, source.data, device)

"""A classifier of a data set's own classes as feature network, for data where Inception is unavailable or unsuitable.

Images without labels get classes by clustering. It is trained once and cached:

    classifier/DIGEST/classifier.safetensors  classifier.json

DIGEST identifies the configuration and the training images.

It is designed for features that judge images rather than for accuracy: no normalization, so that it is sensitive to
contrast; no noise as augmentation, so that it stays sensitive to noise; and features before the nonlinearity, which are
closer to the normal distribution that a Fréchet distance assumes.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ncsnx.config.codec import digest
from ncsnx.config.converter import unstructure
from ncsnx.config.data_sets import Data
from ncsnx.config.feature_networks import Classifier
from ncsnx.config.variants import OMITTED, VERSION, tag_of
from ncsnx.data import StoredImages
from ncsnx.data.dataset import NO_LABEL
from ncsnx.errors import Hint, NcsnxError
from ncsnx.features.cached_tensors import cached_tensors
from ncsnx.features.feature_network import Extracted
from ncsnx.features.real_images import DataSource, SplitImages
from ncsnx.features.torchscript import AS_THEY_ARE
from ncsnx.networks.layers import Convolution
from ncsnx.quantities import counted, percent
from ncsnx.randomness import Purpose, Stream
from ncsnx.spelling import argument
from ncsnx.storage.documents import document
from ncsnx.work import Work

SCHEMA_VERSION = 1
"""Raised with every change of the network or its training, so that cached classifiers are trained again."""
CLUSTERS = 10
"""Number of clusters that stand in for the classes of images without labels."""
DIMENSIONS = 64
"""Length of a feature vector: well below 1,000, a typical number of images for a score."""
SMALLEST = 4
"""Smallest height and width of an image, in pixels."""
_MOST_STAGES = 4
_BATCH = 128
_CHUNK = 512
_CLUSTERED, _CLUSTER_SIDE = 10_000, 8
"""Number of images that clusters are found on at most, and height and width that their pixels are averaged to."""
_LEARNING_RATE = 3e-3
_WARMUP_STEPS = 20
_LARGEST_GRADIENT = 1.0


class ClassifierNetwork(nn.Module):
    """Stages of two 3×3 convolutions, each at half the resolution; then global average pooling and two linear layers.

    The first stage has `width` channels, the others twice as many. There are up to four stages, as long as the last has
    a side of at least four pixels. `seed` determines the weights: normal with variance 4/fan-in, since SiLU halves
    values near zero.
    """

    def __init__(self, shape: tuple[int, int, int], width: int, classes: int, seed: int) -> None:
        super().__init__()
        channels, *sides = shape
        number = min(_MOST_STAGES, int(math.log2(min(sides) / 4)) + 1)
        widths = [width] + [2 * width] * (number - 1)
        inputs = [channels, *widths[:-1]]
        self.stages = nn.ModuleList(
            nn.Sequential(Convolution(before, after), nn.SiLU(), Convolution(after, after), nn.SiLU())
            for before, after in zip(inputs, widths, strict=True)
        )
        self.features = Convolution(widths[-1], DIMENSIONS, size=1)
        self.output = Convolution(DIMENSIONS, classes, size=1)
        self._initialize(Stream(seed, Purpose.FEATURE_WEIGHTS))

    @torch.no_grad()
    def _initialize(self, stream: Stream) -> None:
        for position, (_, tensor) in enumerate(sorted(self.named_parameters())):
            tensor.zero_()
            if tensor.dim() > 1:
                drawn = stream.normal(torch.tensor([position]), tuple(tensor.shape))[0]
                tensor.copy_(drawn * math.sqrt(4 / tensor[0].numel()))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) in 0 … 255 → (B, DIMENSIONS) features and (B, classes) logits."""
        x = images.to(torch.float32) / 255
        for number, stage in enumerate(self.stages):
            if number > 0:
                x = F.avg_pool2d(x, 2, ceil_mode=True)
            x = stage(x)
        features: Tensor = self.features(x.mean(dim=(2, 3), keepdim=True))
        logits: Tensor = self.output(F.silu(features))
        return features.flatten(1), logits.flatten(1)


@document("a classifier in the cache", sealed=True)
@attrs.frozen(kw_only=True)
class ClassifierRecord:
    """Content of classifier.json."""

    schema_version: int = attrs.field(default=SCHEMA_VERSION, metadata=VERSION)
    sha256: str = ""
    """sha256 of the weights, in hexadecimal; empty before they are written."""
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


def train_classifier(
    config: Classifier, source: DataSource, device: torch.device, work: Work
) -> tuple[ClassifierRecord, ClassifierNetwork]:
    """Trains a classifier on the training images of `source`; reproducible on one machine.

    The classes are the labels or, of images without, k-means clusters of their coarse pixels. Raises NcsnxError for
    images of one class only, or smaller than SMALLEST.
    """
    train, held_out = SplitImages(source, "train"), SplitImages(source, "held-out")
    shape = source.splits().train.shape
    if min(shape[1:]) < SMALLEST:
        raise NcsnxError(
            f"the classifier takes images of at least {SMALLEST}×{SMALLEST} pixels, not {shape[1]}×{shape[2]}",
            _other_features(source.data),
        )
    work.info(f"training a classifier for the features, once for this data: {counted(config.steps, 'step')}")
    labels, held_out_labels = _labels(train, work), _labels(held_out, work)
    of_clusters = bool((torch.cat([labels, held_out_labels]) == NO_LABEL).any())
    if of_clusters:
        labels, held_out_labels = _clusters([train, held_out], config.seed, work)
    known, targets = torch.unique(labels, return_inverse=True)
    if len(known) < 2:
        raise NcsnxError("the data has images of one class only", _other_features(source.data))
    network = ClassifierNetwork(shape, config.width, len(known), config.seed).to(device)
    _fit(network, config, train, targets.to(device), work)
    if not all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
        raise NcsnxError(
            f"the training of the classifier diverged; try another seed, or a width other than {config.width}"
        )
    answers = known[_classes(network.eval(), held_out, device, work)]
    accuracy = float((answers == held_out_labels).double().mean()) if len(answers) else None
    record = ClassifierRecord(
        width=config.width,
        steps=config.steps,
        seed=config.seed,
        trained_on=train.facts,
        shape=shape,
        classes=len(known),
        of_clusters=of_clusters,
        accuracy=accuracy,
        held_out_images=len(answers),
    )
    return record, network


def _other_features(data: Data) -> Hint:
    if data.is_bounded:
        return Hint("use other features", adds=argument("features", "inception"))
    return Hint("use a network of your own, in TorchScript", adds=argument("features", "torchscript:FILE"))


def _read(images: SplitImages, work: Work, name: str) -> Iterator[StoredImages]:
    """All images, in chunks."""
    with work.progress(name, total=len(images), unit="images") as advance:
        for indices in torch.arange(len(images)).split(_CHUNK) if len(images) else ():  # type: ignore[no-untyped-call]
            work.check_stop()
            yield images.at(indices)
            advance(len(indices))


def _labels(images: SplitImages, work: Work) -> Tensor:
    """Labels of all images: (N,) int64."""
    none = torch.empty(0, dtype=torch.int64)
    return torch.cat([none, *(stored.labels for stored in _read(images, work, "reading labels"))])


def _clusters(splits: Sequence[SplitImages], seed: int, work: Work) -> list[Tensor]:
    """The cluster of each image, (N,) int64 for each split, by k-means on up to 10,000 images of the first.

    Images are compared by their pixels, averaged to at most 8×8.
    """
    from sklearn.cluster import KMeans

    coarse = [_coarse_pixels(split, work) for split in splits]
    step = -(-len(coarse[0]) // _CLUSTERED)
    means = KMeans(min(CLUSTERS, len(coarse[0])), n_init=4, random_state=seed).fit(coarse[0][::step].numpy())
    return [
        torch.from_numpy(means.predict(split.numpy())).long() if len(split) else split[:, 0].long() for split in coarse
    ]


def _coarse_pixels(images: SplitImages, work: Work) -> Tensor:
    """(N, C·h·w) float32 with h and w at most 8, in [0, 1]."""
    channels, height, width = images.source.data.shape
    side = min(_CLUSTER_SIDE, height), min(_CLUSTER_SIDE, width)
    coarse = [torch.empty(0, channels * math.prod(side))]
    for stored in _read(images, work, "finding clusters"):
        coarse.append(F.adaptive_avg_pool2d(stored.pixels.float() / 255, side).flatten(1))
    return torch.cat(coarse)


@torch.no_grad()
def _classes(network: ClassifierNetwork, images: SplitImages, device: torch.device, work: Work) -> Tensor:
    """Index of the predicted class of each image: (N,) int64 on the CPU."""
    classes = [torch.empty(0, dtype=torch.int64)]
    for stored in _read(images, work, "testing the classifier"):
        _, logits = network(stored.pixels.to(device))
        classes.append(logits.argmax(dim=1).cpu())
    return torch.cat(classes)


def _fit(network: ClassifierNetwork, config: Classifier, images: SplitImages, targets: Tensor, work: Work) -> None:
    """Minimizes the cross-entropy with Adam, with warm-up and cosine decay to zero. targets: (N,) on the device."""
    optimizer = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
    shifts = Stream(config.seed, Purpose.FEATURE_AUGMENTATION)
    with work.progress("training the classifier", total=config.steps, unit="steps") as advance:
        for step, indices in enumerate(_batches(len(images), config)):
            work.check_stop()
            fraction = min(1.0, (step + 1) / _WARMUP_STEPS) * (1 + math.cos(math.pi * step / config.steps)) / 2
            for group in optimizer.param_groups:
                group["lr"] = _LEARNING_RATE * fraction
            pixels = images.at(indices).pixels.to(targets.device)
            positions = torch.arange(step * _BATCH, step * _BATCH + len(indices), device=targets.device)
            _, logits = network(shifted(pixels, shifts, positions))
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(logits, targets[indices.to(targets.device)]).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), _LARGEST_GRADIENT)
            optimizer.step()
            advance()


def _batches(size: int, config: Classifier) -> Iterator[Tensor]:
    """Yields the indices of each step: every epoch has a new random order, and drops its last, partial batch."""
    stream = Stream(config.seed, Purpose.FEATURE_ORDER)
    batch = min(_BATCH, size)
    orders = (stream.permutation(size, epoch) for epoch in count())
    batches = (order[k : k + batch] for order in orders for k in range(0, size - size % batch, batch))
    return islice(batches, config.steps)


def shifted(images: Tensor, stream: Stream, positions: Tensor) -> Tensor:
    """Images shifted by whole pixels, up to an eighth of height and width, with edge padding: (B, C, H, W) uint8.

    images: (B, C, H, W) uint8. positions: (B,) int64, the positions of the draws in the stream.
    """
    count_images, channels, height, width = images.shape
    most = torch.tensor([height // 8, width // 8], device=images.device)
    moves = (stream.uniform(positions, (2,)) * (2 * most + 1)).long() - most
    rows = (moves[:, :1] + torch.arange(height, device=images.device)).clamp(0, height - 1)
    columns = (moves[:, 1:] + torch.arange(width, device=images.device)).clamp(0, width - 1)
    each = torch.arange(count_images, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[:, None, None]
    return images[each, channel, rows[:, None, :, None], columns[:, None, None, :]]


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
            **{key: value for key, value in unstructure(record).items() if key != "schema_version"},
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
    key = {"schema_version": SCHEMA_VERSION, "files": 2, "features": unstructure(config), "images": images}
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

    record, weights = cached_tensors(folder, "classifier", ClassifierRecord, make, work)
    network = ClassifierNetwork(record.shape, record.width, record.classes, record.seed)
    network.load_state_dict(weights)
    return ClassifierFeatures(network.to(device).eval(), record, source.data, device)

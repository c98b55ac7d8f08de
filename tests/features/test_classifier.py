"""The classifier: accuracy, distances in its features, training, and cache."""

import json
from pathlib import Path
from typing import ClassVar

import attrs
import pytest
import torch

from ncsnx.config import CelebA, Digits
from ncsnx.config.data_sets import Data
from ncsnx.config.feature_networks import Classifier, Inception
from ncsnx.config.variants import OUTSIDE_IDENTITY
from ncsnx.data import InMemory, Splits, data_set, data_set_of, open_data
from ncsnx.data.dataset import NO_LABEL, StoredImages
from ncsnx.errors import NcsnxError
from ncsnx.features.classifier import CLUSTERS, ClassifierNetwork, open_classifier
from ncsnx.features.extractors import build_features
from ncsnx.features.feature_network import FeatureNetwork
from ncsnx.features.real_images import DataSource
from ncsnx.runtime import Runtime
from ncsnx.work import Work
from tests.training.tiny import files

CPU = torch.device("cpu")
STEPS = 80
"""A configuration that is good enough on digits and trains in about a second."""


@attrs.frozen(kw_only=True)
class Stripes(Data):
    """Vertical and horizontal stripes of 12×12 pixels in two channels. labels: 'good', or their defect."""

    opened: ClassVar[int] = 0
    labels: str = attrs.field(default="good", metadata=OUTSIDE_IDENTITY)
    held_out: int = attrs.field(default=10, metadata=OUTSIDE_IDENTITY)
    brightness: int = attrs.field(default=200, metadata=OUTSIDE_IDENTITY)

    @property
    def image_size(self) -> int:
        return 12

    @property
    def channels(self) -> int:
        return 2


@data_set(Stripes, features=Classifier(width=4))
def read_stripes(data: Stripes, folder: Path, work: Work) -> Splits:
    Stripes.opened += 1
    number = torch.arange(40)
    upright = number % 2 == 1
    pixels = torch.zeros(40, 2, 12, 12, dtype=torch.uint8)
    pixels[upright, :, :, ::2] = data.brightness
    pixels[~upright, :, ::2] = data.brightness
    pixels += (number // 2).to(torch.uint8)[:, None, None, None]
    labels = torch.where(upright, 7, 3)
    if data.labels == "one missing":
        labels[5] = NO_LABEL
    elif data.labels == "one class":
        labels = torch.full((40,), 3)
    elif data.labels == "too small":
        pixels = pixels[..., :3]
    whole = InMemory(StoredImages(pixels, labels, number), value_range=(0, 255))
    first = 40 - data.held_out
    return Splits(whole.subset(number < first), whole.subset(number >= first), fingerprint(data.brightness))


def fingerprint(brightness: int) -> str:
    """Fingerprint of stripes."""
    return f"{brightness:064d}"


def stripes(
    cache: Path,
    work: Work | None = None,
    *,
    labels: str = "good",
    held_out: int = 10,
    brightness: int = 200,
    steps: int = 12,
    seed: int = 0,
) -> FeatureNetwork:
    """The classifier of stripes, opened as in a command."""
    source = DataSource(data=Stripes(labels=labels, held_out=held_out, brightness=brightness), folder=cache)
    config = Classifier(width=4, steps=steps, seed=seed)
    return build_features(config, source, cache, Runtime.choose(device="cpu", threads=1), work or Work())


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> FeatureNetwork:
    """A classifier of digits after a few steps."""
    cache = tmp_path_factory.mktemp("cache")
    source = DataSource(data=Digits(), folder=cache)
    return open_classifier(Classifier(steps=STEPS), source, cache, CPU, Work())


def test_it_tells_digits_apart_and_says_how_well(judge: FeatureNetwork) -> None:
    assert judge.name == f"digits classifier {judge.facts['sha256'][:8]}"
    assert (judge.dimensions, judge.has_logits) == (64, True)
    assert 0.75 < judge.facts["accuracy"] <= 1
    held_out = open_data(Digits(), Path()).held_out
    images = held_out.read(torch.arange(len(held_out)))
    seen = judge((images.pixels.float() * 255 / 16).round().to(torch.uint8))
    assert seen.logits is not None
    assert (seen.features.shape, seen.logits.shape) == ((299, 64), (299, 10))
    right = (seen.logits.argmax(1) == images.labels).double().mean()
    assert float(right) == pytest.approx(judge.facts["accuracy"])


def test_images_of_another_shape_are_refused(judge: FeatureNetwork) -> None:
    with pytest.raises(NcsnxError, match=r"takes images of shape \(1, 8, 8\), not \(3, 8, 8\)"):
        judge(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize(("side", "stages"), [(8, 2), (15, 2), (16, 3), (64, 4)])
def test_larger_images_get_more_stages_up_to_four(side: int, stages: int) -> None:
    network = ClassifierNetwork((3, side, side + 3), 2, 5, seed=0)
    features, logits = network(torch.zeros(2, 3, side, side + 3, dtype=torch.uint8))
    assert (len(network.stages), features.shape, logits.shape) == (stages, (2, 64), (2, 5))


def test_it_is_trained_once_and_then_read_from_the_cache_without_the_data(tmp_path: Path) -> None:
    said: list[str] = []
    first = stripes(tmp_path, Work(info=said.append))
    announced = "training a classifier for the features, once for this data"
    assert [text.split(":")[0] for text in said] == [announced, "the classifier was trained"]
    assert "% on 10 held-out images" in said[1]
    before, images = Stripes.opened, torch.zeros(2, 2, 12, 12, dtype=torch.uint8)
    config = Classifier(width=4, steps=12)
    recorded = DataSource(data=Stripes(), folder=Path("nowhere"), recorded=fingerprint(200))
    second = open_classifier(config, recorded, tmp_path, CPU, Work(info=said.append))
    assert (Stripes.opened, len(said)) == (before, 2)
    assert second.facts == first.facts == json.loads(json.dumps(first.facts))
    assert first.facts["trained_on"]["fingerprint"] == fingerprint(200)
    assert first.facts["sha256"] != stripes(tmp_path, brightness=50).facts["sha256"], "of other data"
    assert torch.equal(second(images).features, first(images).features)


def test_without_held_out_images_how_good_it_is_stays_unknown(tmp_path: Path) -> None:
    said: list[str] = []
    facts = stripes(tmp_path, Work(info=said.append), held_out=0).facts
    assert (facts["accuracy"], facts["held_out_images"]) == (None, 0)
    assert ["there are no held-out images" in text for text in said] == [False, True]
    assert stripes(tmp_path, held_out=0).facts == facts


def test_training_is_the_same_every_time_and_another_for_another_seed(tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    first, again = stripes(tmp_path / "1"), stripes(tmp_path / "2")
    assert first.facts == again.facts
    assert first.facts["sha256"] != stripes(tmp_path / "1", seed=1).facts["sha256"]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(list((tmp_path / "1" / "classifier").glob("[!.]*"))) == 2


def test_images_without_labels_are_told_apart_by_clusters(tmp_path: Path) -> None:
    said: list[str] = []
    found = stripes(tmp_path, Work(info=said.append), labels="one missing", steps=60)
    assert found.name == f"Stripes cluster classifier {found.facts['sha256'][:8]}"
    assert found.facts["of_clusters"]
    assert found.facts["classes"] == CLUSTERS
    assert any("have labels" in line for line in said)
    assert found.facts == stripes(tmp_path / "again", labels="one missing", steps=60).facts


@pytest.mark.parametrize(
    ("labels", "message"), [("one class", "images of one class only"), ("too small", "at least 4×4 pixels, not 12×3")]
)
def test_data_that_cannot_be_classified_is_refused(labels: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(NcsnxError, match=f"{message}; use other features: features='inception'"):
        stripes(tmp_path, labels=labels)
    assert files(tmp_path) == {}


def test_a_classifier_without_a_data_set_says_what_to_use(tmp_path: Path) -> None:
    with pytest.raises(NcsnxError, match="needs a data set to train on; use other features: features='inception'"):
        build_features(Classifier(), None, tmp_path, Runtime.choose(device="cpu", threads=1), Work())


def test_digits_are_judged_by_the_classifier_and_other_data_by_inception_unless_registered() -> None:
    assert data_set_of(Digits()).features == Classifier()
    assert data_set_of(CelebA()).features == Inception()
    assert data_set_of(Stripes()).features == Classifier(width=4)

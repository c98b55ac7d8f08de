"""References of real images: statistics, cache, resumed builds, and damage."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import ncsnx
from ncsnx.config.data_sets import CIFAR10, FFHQ, LSUN, CelebA, Data, Digits
from ncsnx.data import data_set_of
from ncsnx.errors import NcsnxError, Stopped, UsageError
from ncsnx.evaluation import reference as reference_module
from ncsnx.evaluation.reference import Reference, open_reference
from ncsnx.features.feature_network import Extracted
from ncsnx.features.real_images import DataSource
from ncsnx.metrics.frechet import frechet_distance
from ncsnx.work import Work
from tests.data.miniature import write_cifar10
from tests.data.watching import Watcher
from tests.training.tiny import damage, files

D = 5


class Means:
    """Means of five stripes of an image of any shape as features, which are correlated for real images."""

    dimensions = D
    has_logits = False

    def __init__(self, **facts: Any) -> None:
        self.name = facts.pop("name", "means")
        self.facts: dict[str, Any] = {"type": "means", "dimensions": D, **facts}
        self.seen: list[Tensor] = []

    def __call__(self, images: Tensor) -> Extracted:
        self.seen.append(images)
        flat = images.float().flatten(1)
        return Extracted(torch.stack([part.mean(dim=1) for part in flat.tensor_split(D, dim=1)], dim=1), None)


def digits(folder: Path, data: Data | None = None, recorded: str | None = None) -> DataSource:
    return DataSource(data=data or Digits(), folder=folder, recorded=recorded)


def opened(folder: Path, wanted: str | None = None, network: Means | None = None) -> Reference:
    """The reference of the digits, with the cache in `folder`."""
    return open_reference(wanted, digits(folder), network or Means(), folder / "cache", Work())


def features_of(source: DataSource, wanted: str = "train") -> Tensor:
    """Expected features (n, D) from stored values, where 0 … 16 is black to white."""
    split = source.splits().train if wanted == "train" else source.splits().held_out
    low, high = split.value_range
    pixels = split.read(torch.arange(len(split))).pixels.numpy().astype(np.float64)
    return Means()(torch.from_numpy(np.rint((pixels - low) / (high - low) * 255).astype(np.uint8))).features


def pictures(folder: Path, sizes: list[int]) -> Path:
    """Writes random square images with these sides."""
    folder.mkdir()
    generator = np.random.default_rng(1)
    for number, side in enumerate(sizes):
        values = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{number:03d}.png")
    return folder


@pytest.mark.parametrize(("wanted", "count", "words"), [("train", 1498, "training"), ("held-out", 299, "held-out")])
def test_mean_and_covariance_are_those_of_the_clean_images_of_a_split(
    tmp_path: Path, wanted: str, count: int, words: str
) -> None:
    expected = features_of(digits(tmp_path), wanted).double().numpy()
    reference = opened(tmp_path, wanted)
    assert len(expected) == reference.count == count
    assert reference.mean.dtype == reference.covariance.dtype == torch.float64
    # float64 sums of 1,498 numbers below 255, in another order
    assert np.allclose(reference.mean.numpy(), expected.mean(axis=0), rtol=1e-12)
    assert np.allclose(reference.covariance.numpy(), np.cov(expected, rowvar=False), rtol=1e-10)
    assert reference.sample is not None
    assert np.array_equal(reference.sample.double().numpy(), expected), "a small set is its own sample"
    assert reference.name == f"digits, {words} images ({count:,})"


def test_the_batch_size_changes_a_reference_by_rounding_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Means()
    monkeypatch.setattr(reference_module, "_BATCH", 7)
    first = opened(tmp_path / "a", "held-out", network)
    monkeypatch.setattr(reference_module, "_BATCH", 300)
    second = opened(tmp_path / "b", "held-out")
    assert [len(images) for images in network.seen] == [7] * 42 + [5]
    assert torch.allclose(first.covariance, second.covariance, rtol=1e-10)
    assert first.sample is not None
    assert second.sample is not None
    assert torch.equal(first.sample, second.sample)


@pytest.mark.parametrize(
    ("data", "split"),
    [
        (Digits(), "train"),
        (CIFAR10(), "train"),
        (CelebA(), "held-out"),
        (LSUN(category="tower", image_size=128), "train"),
        (FFHQ(), "train"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Data) else None,
)
def test_the_split_that_is_compared_with_by_default_is_the_published_one(data: Data, split: str) -> None:
    assert data_set_of(data).reference == split


def test_what_a_perfect_model_would_score_is_measured_once_for_each_number_of_images(tmp_path: Path) -> None:
    reference, watcher = opened(tmp_path), Watcher()
    real = features_of(digits(tmp_path)).double()
    few, many = reference.perfect_model(100, watcher.work), reference.perfect_model(1_000, watcher.work)
    assert few is not None
    assert many is not None
    assert (few.drawn, many.drawn) == (100, 600)
    assert [name for name, *_ in watcher.jobs] == ["perfect model"] * 2
    inverted = 255 - real
    others = frechet_distance(inverted.mean(0), inverted.T.cov(), reference.mean, reference.covariance)
    assert 0 < many.score < few.score < others / 10
    again = opened(tmp_path)
    assert (again.perfect_model(100, watcher.work), again.perfect_model(1_000, watcher.work)) == (few, many)
    assert len(watcher.jobs) == 2


def test_a_cache_that_cannot_be_written_to_costs_the_keeping_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = opened(tmp_path, "held-out")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert reference.perfect_model(50, Work()) is not None
    assert not list(reference.path.glob("perfect-model-*"))


def test_the_sample_is_a_choice_of_the_images_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reference_module.SAMPLE == 10_000
    monkeypatch.setattr(reference_module, "SAMPLE", 1_000)
    write_cifar10(tmp_path / "cifar-10-batches-bin", per_file=220)
    source = digits(tmp_path, CIFAR10())
    reference = open_reference(None, source, Means(), tmp_path / "cache", Work())
    features = features_of(source)
    place = {tuple(row): index for index, row in enumerate(features.tolist())}
    assert len(place) == reference.count == 1_100
    assert reference.sample is not None
    assert reference.sample.dtype == torch.float32
    indices = [place[tuple(row)] for row in reference.sample.tolist()]
    assert len(indices) == 1_000
    assert indices == sorted(set(indices))
    # a random choice takes 200 ± 3.8 (hypergeometric) of the first 220; five times that passes
    assert 181 < sum(index < 220 for index in indices) < 219


def test_a_second_opening_reads_the_cache_and_needs_neither_network_nor_data(tmp_path: Path) -> None:
    root = tmp_path / "cifar-10-batches-bin"
    write_cifar10(root)
    source = digits(tmp_path, CIFAR10())
    first = open_reference(None, source, Means(), tmp_path / "cache", Work())
    root.rename(tmp_path / "away")
    network = Means(name="another")
    recorded = digits(tmp_path / "nowhere", CIFAR10(root="gone"), recorded=source.fingerprint)
    second = open_reference("train", recorded, network, tmp_path / "cache", Work())
    assert network.seen == []
    assert (second.name, second.count, second.facts) == (first.name, first.count, first.facts)
    for name in ("mean", "covariance", "sample"):
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_other_data_other_splits_and_other_features_have_references_of_their_own(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-bin")
    of_digits = [opened(tmp_path, split, Means(**facts)) for split in ("train", "held-out") for facts in ({}, {"x": 1})]
    of_cifar = open_reference(None, digits(tmp_path, CIFAR10()), Means(), tmp_path / "cache", Work())
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(bytes(3073))
    of_changed = open_reference(None, digits(tmp_path, CIFAR10()), Means(), tmp_path / "cache", Work())
    assert len({reference.path for reference in (*of_digits, of_cifar, of_changed)}) == 6


@pytest.mark.parametrize("name", ["reference.safetensors", "reference.json"])
@pytest.mark.parametrize("harm", [damage, Path.unlink], ids=["damaged", "missing"])
def test_a_damaged_reference_is_said_to_be_so_and_built_again(
    tmp_path: Path, name: str, harm: Callable[[Path], None]
) -> None:
    first = opened(tmp_path, "held-out")
    before = files(first.path)
    harm(first.path / name)
    watcher, network = Watcher(), Means()
    again = open_reference("held-out", digits(tmp_path), network, tmp_path / "cache", watcher.work)
    assert len(network.seen) > 0
    (line,) = watcher.warnings
    assert line == f"{first.path} is damaged; the reference is made again"
    assert files(first.path) == before
    assert again.facts == first.facts


def stopping_at(poll: int) -> Callable[[], None]:
    """Stops the work at the n-th check."""
    polls = iter(range(1, 1_000))

    def check_stop() -> None:
        if next(polls) == poll:
            raise Stopped("stopped by SIGTERM")

    return check_stop


@pytest.mark.parametrize("poll", [1, 3])
def test_a_build_that_was_stopped_leaves_nothing(tmp_path: Path, poll: int) -> None:
    with pytest.raises(Stopped):
        open_reference("held-out", digits(tmp_path), Means(), tmp_path / "cache", Work(check_stop=stopping_at(poll)))
    assert files(tmp_path / "cache") == {}
    watcher = Watcher()
    open_reference("held-out", digits(tmp_path), Means(), tmp_path / "cache", watcher.work)
    assert watcher.jobs == [("reference: digits, held-out images", 299)]
    opened(tmp_path / "straight", "held-out")
    assert files(tmp_path / "cache") == files(tmp_path / "straight" / "cache")


BUILDER = """
import sys, time
from pathlib import Path
from ncsnx.evaluation.reference import open_reference
from ncsnx.work import Work
from tests.evaluation.test_reference import Means, digits
class Waiting(Means):
    def __call__(self, images):
        Path("building").touch()
        while not Path("go on").exists():
            time.sleep(0.01)
        return super().__call__(images)
open_reference("held-out", digits(Path()), Waiting(), Path("cache"), Work())
"""


def test_of_two_processes_one_builds_and_the_other_waits_and_reads(tmp_path: Path) -> None:
    path = ":".join([str(Path(ncsnx.__file__).parents[1]), *filter(None, sys.path)])
    environment = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    builder = subprocess.Popen([sys.executable, "-c", BUILDER], cwd=tmp_path, env=environment)
    try:
        while not (tmp_path / "building").exists():
            assert builder.poll() is None
            time.sleep(0.01)
        said: list[str] = []

        def info(text: str) -> None:
            said.append(text)
            (tmp_path / "go on").touch()

        network = Means()
        reference = open_reference("held-out", digits(tmp_path), network, tmp_path / "cache", Work(info=info))
        assert builder.wait(60) == 0
    finally:
        builder.kill()
    assert (reference.count, network.seen) == (299, [])
    (line,) = said
    assert "waiting for another process to write the reference" in line


def test_a_folder_of_pictures_of_any_sizes_is_a_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_module, "_BATCH", 2)
    root = pictures(tmp_path / "my [1].zip", [8, 8, 9, 8, 12, 12])
    network = Means()
    reference = open_reference(str(root), None, network, tmp_path / "cache", Work())
    assert [tuple(images.shape) for images in network.seen] == [
        (2, 3, 8, 8),
        (1, 3, 9, 9),
        (1, 3, 8, 8),
        (2, 3, 12, 12),
    ]
    assert (reference.name, reference.count) == (f"folder {root}", 6)
    expected = torch.cat([Means()(images).features for images in network.seen]).double()
    assert torch.allclose(reference.covariance, expected.T.cov(), rtol=1e-10)
    moved = root.rename(tmp_path / "moved")
    same = open_reference(str(moved), digits(tmp_path), network, tmp_path / "cache", Work())
    assert (same.path, same.name) == (reference.path, f"folder {moved}")


def test_a_reference_takes_four_images(tmp_path: Path) -> None:
    four = open_reference(str(pictures(tmp_path / "4", [8] * 4)), None, Means(), tmp_path / "cache", Work())
    assert four.perfect_model(10, Work()) is not None
    with pytest.raises(NcsnxError, match="expected at least 4 images, found 3"):
        open_reference(str(pictures(tmp_path / "3", [8] * 3)), None, Means(), tmp_path / "cache", Work())


def test_a_wish_that_means_nothing_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'trian' for the reference; expected train, held-out, a folder or zip"):
        opened(tmp_path, "trian")
    with pytest.raises(UsageError, match="'train' needs a data set"):
        open_reference("train", None, Means(), tmp_path / "cache", Work())
    assert files(tmp_path) == {}

"""References of real images: statistics, cache, resumed builds, and damage."""

import hashlib
import math
import os
import re
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import Tensor

from ncsnx.config.data_sets import CIFAR10, FFHQ, LSUN, CelebA, Data, Digits
from ncsnx.data import data_set_of
from ncsnx.errors import NcsnxError, Stopped, UsageError
from ncsnx.evaluation import reference as reference_module
from ncsnx.evaluation.reference import (
    ACCURACY,
    LEAST_DRAWS,
    MOST_DRAWS,
    PerfectModel,
    Reference,
    images_to_draw,
    measure_perfect_model,
    open_reference,
    read_statistics,
    reference_images,
)
from ncsnx.features.feature_network import Extracted
from ncsnx.features.real_images import DataSource
from ncsnx.metrics.frechet import frechet_distance, frechet_distance_of_images
from ncsnx.work import SILENT, Work
from tests.data.miniature import write_cifar10
from tests.data.pictures import save as save_picture
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


def reference_of(wanted: str | None, source: DataSource | None, network: Means, cache: Path, work: Work) -> Reference:
    """The reference named by `wanted`."""
    return open_reference(reference_images(wanted, source, work), network, cache, work)


def opened(folder: Path, wanted: str | None = None, network: Means | None = None) -> Reference:
    """The reference of the digits, with the cache in `folder`."""
    return reference_of(wanted, digits(folder), network or Means(), folder / "cache", Work())


def features_of(source: DataSource, wanted: str = "train") -> Tensor:
    """Expected features (n, D) from stored values, where 0 … 16 is black to white."""
    split = source.splits().train if wanted == "train" else source.splits().held_out
    low, high = split.value_range
    pixels = split.read(torch.arange(len(split))).pixels.numpy().astype(np.float64)
    return Means()(torch.from_numpy(np.rint((pixels - low) / (high - low) * 255).astype(np.uint8))).features


def pictures(folder: Path, sizes: list[int]) -> Path:
    """Writes random square images with these sides."""
    for number, side in enumerate(sizes):
        save_picture(folder / f"{number:03d}.png", number, (side, side))
    return folder


@pytest.mark.parametrize(("wanted", "count", "words"), [("train", 1498, "training"), ("held-out", 299, "held-out")])
def test_mean_and_covariance_are_those_of_a_splits_images(tmp_path: Path, wanted: str, count: int, words: str) -> None:
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


def test_the_split_that_is_compared_with_by_default_is_the_published_one() -> None:
    for data in (Digits(), CIFAR10(), LSUN(category="tower", image_size=128), FFHQ()):
        assert data_set_of(data).reference == "train"
    assert data_set_of(CelebA()).reference == "held-out"


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


def test_a_cache_that_is_read_only_costs_the_keeping_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = opened(tmp_path, "held-out")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert reference.perfect_model(50, Work()) is not None
    assert not list(reference.path.glob("perfect-model-*"))


def test_the_sample_is_a_choice_of_the_images_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reference_module.SAMPLE == 10_000
    monkeypatch.setattr(reference_module, "SAMPLE", 1_000)
    write_cifar10(tmp_path / "cifar-10-batches-bin", per_file=220)
    source = digits(tmp_path, CIFAR10())
    reference = reference_of(None, source, Means(), tmp_path / "cache", Work())
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
    first = reference_of(None, source, Means(), tmp_path / "cache", Work())
    root.rename(tmp_path / "away")
    network = Means(name="another")
    recorded = digits(tmp_path / "nowhere", CIFAR10(root="gone"), recorded=source.fingerprint)
    second = reference_of("train", recorded, network, tmp_path / "cache", Work())
    assert network.seen == []
    assert (second.name, second.count, second.facts) == (first.name, first.count, first.facts)
    for name in ("mean", "covariance", "sample"):
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_other_data_other_splits_and_other_features_have_references_of_their_own(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-bin")
    of_digits = [opened(tmp_path, split, Means(**facts)) for split in ("train", "held-out") for facts in ({}, {"x": 1})]
    of_cifar = reference_of(None, digits(tmp_path, CIFAR10()), Means(), tmp_path / "cache", Work())
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(bytes(3073))
    of_changed = reference_of(None, digits(tmp_path, CIFAR10()), Means(), tmp_path / "cache", Work())
    assert len({reference.path for reference in (*of_digits, of_cifar, of_changed)}) == 6


@pytest.mark.parametrize("name", ["reference.safetensors", "reference.json"])
@pytest.mark.parametrize("harm", [damage, Path.unlink], ids=["damaged", "missing"])
def test_a_damaged_reference_is_said_and_built_again(tmp_path: Path, name: str, harm: Callable[[Path], None]) -> None:
    first = opened(tmp_path, "held-out")
    before = files(first.path)
    harm(first.path / name)
    watcher, network = Watcher(), Means()
    again = reference_of("held-out", digits(tmp_path), network, tmp_path / "cache", watcher.work)
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
        reference_of("held-out", digits(tmp_path), Means(), tmp_path / "cache", Work(check_stop=stopping_at(poll)))
    assert files(tmp_path / "cache") == {}
    watcher = Watcher()
    reference_of("held-out", digits(tmp_path), Means(), tmp_path / "cache", watcher.work)
    assert watcher.jobs == [("reference: digits, held-out images", 299)]
    opened(tmp_path / "straight", "held-out")
    assert files(tmp_path / "cache") == files(tmp_path / "straight" / "cache")


def test_one_waits_for_the_reference_that_another_process_builds(tmp_path: Path) -> None:
    built = opened(tmp_path / "other", "held-out").path
    place = tmp_path / "cache" / built.relative_to(tmp_path / "other" / "cache")
    said: list[str] = []
    network = Means()
    lock = FileLock(place / ".lock")

    def end_the_other(text: str) -> None:
        said.append(text)
        shutil.copytree(built, place, ignore=shutil.ignore_patterns(".lock"), dirs_exist_ok=True)
        lock.release()

    Path(lock.lock_file).parent.mkdir(parents=True)
    with lock:
        reference_of("held-out", digits(tmp_path), network, tmp_path / "cache", Work(info=end_the_other))
    assert network.seen == []
    (line,) = said
    assert "waiting for another process to write the reference" in line


def test_a_folder_of_pictures_of_any_sizes_is_a_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_module, "_BATCH", 2)
    root = pictures(tmp_path / "my [1].zip", [8, 8, 9, 8, 12, 12])
    network = Means()
    reference = reference_of(str(root), None, network, tmp_path / "cache", Work())
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
    same = reference_of(str(moved), digits(tmp_path), network, tmp_path / "cache", Work())
    assert (same.path, same.name) == (reference.path, f"folder {moved}")


def test_a_reference_takes_four_images(tmp_path: Path) -> None:
    four = reference_of(str(pictures(tmp_path / "4", [8] * 4)), None, Means(), tmp_path / "cache", Work())
    assert four.perfect_model(10, Work()) is not None
    with pytest.raises(NcsnxError, match="expected at least 4 images, found 3"):
        reference_of(str(pictures(tmp_path / "3", [8] * 3)), None, Means(), tmp_path / "cache", Work())


def test_a_wish_that_means_nothing_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'trian' for the reference; expected train, held-out, a folder or zip"):
        opened(tmp_path, "trian")
    with pytest.raises(UsageError, match="'train' needs a data set"):
        reference_of("train", None, Means(), tmp_path / "cache", Work())
    assert files(tmp_path) == {}


FEATURES = 32
SETS = 30


def images(generator: torch.Generator, count: int) -> Tensor:
    """Features of new real images: normal, with variances from 1 down to 1/32."""
    scale = torch.arange(1, FEATURES + 1, dtype=torch.float64).rsqrt()
    return torch.randn(count, FEATURES, generator=generator, dtype=torch.float64) * scale


def measured(real: Tensor, n: int, kept: int | None = None) -> PerfectModel:
    """The perfect model for a reference of these images, with the features of the first `kept`."""
    return measure_perfect_model(n, len(real), real.mean(dim=0), real.T.cov(), real[:kept], SILENT)


def distance(features: Tensor, real: Tensor) -> float:
    return frechet_distance_of_images(features, real.mean(dim=0), real.T.cov())


def over_sets(measure: Callable[[torch.Generator], float]) -> tuple[float, float]:
    """Mean and standard error of the score over sets of real images."""
    generator = torch.Generator().manual_seed(8)
    found = [measure(generator) for _ in range(SETS)]
    return statistics.fmean(found), statistics.stdev(found) / math.sqrt(SETS)


@pytest.mark.parametrize(
    ("n", "reference", "kept"),
    # n of N/20 and more than N; and N with few kept features
    [(125, 2_500, None), (500, 187, None), (1_000, 1_000, 200)],
)
def test_a_perfect_model_scores_what_new_images_score(n: int, reference: int, kept: int | None) -> None:
    fresh, fresh_error = over_sets(lambda one: distance(images(one, n), images(one, reference)))
    found, found_error = over_sets(lambda one: measured(images(one, reference), n, kept).score)
    # four standard errors of the difference, and 4 % for terms in D/d beyond the formula
    assert found == pytest.approx(fresh, abs=4 * math.hypot(fresh_error, found_error) + 0.04 * fresh)


@pytest.mark.parametrize(("n", "reference"), [(125, 2_500), (125, 187)])
def test_the_spread_is_that_of_the_scores_of_perfect_models(n: int, reference: int) -> None:
    generator = torch.Generator().manual_seed(10)
    real = images(generator, reference)
    scores = [distance(images(generator, n), real) for _ in range(200)]
    spreads = [measured(images(generator, reference), n).spread for _ in range(SETS)]
    expected = statistics.stdev(scores)
    # a standard deviation from 5 draws is known to 1/√8, its mean over the sets to 6 %, that of 200 to 5 %: four of
    # both together are 33 %; from 5 draws it is 6 % too small on average, and another 8 % since draws share images
    assert statistics.fmean(spreads) == pytest.approx(expected, rel=0.33 + 0.14)


@pytest.mark.parametrize(
    ("n", "reference", "kept", "drawn", "words"),
    [
        (1_000, 20_000, 10_000, 1_000, "1,000 real images against the rest"),
        (250, 1_000, 1_000, 250, "250 real images against the rest"),
        (1_000, 1_498, 1_498, 600, "600 real images against the rest, scaled to 1,000 against 1,498 images"),
        (50_000, 50_000, 10_000, 5_000, "5,000 real images against the rest, scaled to 50,000 against 50,000 images"),
        (10_000, 50_000, 10_000, 5_000, "5,000 real images against the rest, scaled to 10,000 against 50,000 images"),
        (1_000, 5, 5, 2, "2 real images against the rest, scaled to 1,000 against 5 images"),
    ],
)
def test_as_many_are_drawn_as_leave_a_reference(n: int, reference: int, kept: int, drawn: int, words: str) -> None:
    assert images_to_draw(n, reference, kept) == drawn
    found = PerfectModel(score=9.7412, spread=0.1234, n=n, reference_images=reference, drawn=drawn, draws=5)
    assert str(found) == f"9.74 ± 0.12 ({words})"


def test_features_that_vary_in_one_direction_take_more_draws() -> None:
    """A distance in one direction is nearly the square of a normal number, whose deviation is √2 of its mean.

    5 % would take 800 draws. In 32 directions with equal variances, the standard deviation is at most 10 % here: 5
    draws give the mean to 5 %.
    """
    generator = torch.Generator().manual_seed(13)
    spread_out = torch.randn(400, FEATURES, generator=generator, dtype=torch.float64)
    one_way = spread_out * torch.tensor([1.0] + [1e-3] * (FEATURES - 1))
    few, many = measured(spread_out, 50), measured(one_way, 50)
    assert few.draws == LEAST_DRAWS
    assert many.draws == MOST_DRAWS
    assert few.spread <= ACCURACY * math.sqrt(few.draws) * few.score


THREE = 3
MEAN = np.array([1.0, 2.0, 3.0])
COVARIANCE = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 0.2], [0.1, 0.2, 4.0]])


def save(path: Path, **arrays: Any) -> Path:
    given = {"mu": MEAN, "sigma": COVARIANCE} | arrays
    np.savez(path, **{name: values for name, values in given.items() if values is not None})
    return path


def read(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    return read_statistics(path, THREE, "Inception")[0]


class Three:
    """A network of three features that is never called."""

    name, dimensions, has_logits = "three", THREE, False
    facts: dict[str, Any] = {"type": "three"}  # noqa: RUF012

    def __call__(self, images: torch.Tensor) -> Extracted:
        raise AssertionError("a file of statistics needs no features")


def test_a_compressed_file_of_float32_is_read_in_float64(tmp_path: Path) -> None:
    single = COVARIANCE.astype(np.float32)
    single[0, 1] = np.nextafter(single[0, 1], 1, dtype=np.float32)  # rounded differently from its transposed entry
    np.savez_compressed(tmp_path / "a.npz", mu=MEAN.astype(np.float32), sigma=single)
    mean, covariance = read(tmp_path / "a.npz")
    assert covariance.dtype == mean.dtype == torch.float64
    assert torch.equal(covariance, covariance.T)
    assert np.allclose(covariance.numpy(), COVARIANCE, rtol=1e-6)


def test_a_covariance_of_fewer_images_than_features_passes_after_rounding_to_float32(tmp_path: Path) -> None:
    dimensions = 200
    features = np.random.default_rng(0).normal(size=(20, dimensions)) * np.linspace(0.1, 10, dimensions)
    sigma = np.cov(features, rowvar=False).astype(np.float32)
    assert np.linalg.eigvalsh(sigma.astype(np.float64))[0] < -1e-9 * sigma.max()  # rounding shows
    path = save(tmp_path / "few.npz", mu=features.mean(axis=0), sigma=sigma)
    assert read_statistics(path, dimensions, "Inception")[0][1].shape == (dimensions, dimensions)


def test_a_file_is_a_reference_without_images(tmp_path: Path) -> None:
    path = save(tmp_path / "a [1].npz", mu_s=np.arange(4))  # as in a reference batch of ADM
    reference = reference_of(str(path), None, Three(), tmp_path / "cache", Work())
    assert (reference.name, reference.count, reference.sample) == ("file a [1].npz", None, None)
    assert reference.perfect_model(1_000, Work()) is None
    assert reference.why_unknown == "unknown, since file a [1].npz holds mean and covariance only"
    assert reference.facts["fingerprint"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert reference.facts["kind"] == "npz"
    assert torch.equal(reference.mean, torch.from_numpy(MEAN))
    assert torch.equal(reference.covariance, torch.from_numpy(COVARIANCE))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        (
            {"mu": MEAN[:2]},
            r"mu: expected real numbers of shape \(3,\), found float64 of shape \(2,\).*here are Inception.* features=",
        ),
        ({"sigma": COVARIANCE[:2]}, r"sigma: expected real numbers of shape \(3, 3\), found float64 of shape \(2, 3\)"),
        ({"mu": np.array([1.0, np.nan, 0.0])}, "expected finite numbers"),
        ({"sigma": COVARIANCE * np.inf}, "expected finite numbers"),
        ({"sigma": np.triu(COVARIANCE)}, "expected a covariance as sigma.*opposite entries that differ by up to 0.5"),
        ({"sigma": -COVARIANCE}, "found eigenvalues from -4"),
        ({"sigma": np.eye(THREE) + 5 * (1 - np.eye(THREE))}, "eigenvalues from -4.000 to 11.00"),
        ({"sigma": np.zeros((THREE, THREE))}, "and one above; found eigenvalues from 0.* to 0"),
        ({"sigma": None}, "expected .*sigma"),
        ({"sigma": COVARIANCE * 1j}, "sigma: expected real numbers .* found complex128"),
    ],
)
def test_arrays_that_are_no_statistics_are_refused(tmp_path: Path, arrays: dict[str, Any], complaint: str) -> None:
    with pytest.raises(NcsnxError, match=complaint) as error:
        read(save(tmp_path / "stats.npz", **arrays))
    assert re.search(r"stats\.npz(, array (mu|sigma))?: ", str(error.value))

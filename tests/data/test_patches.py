"""Patches of pictures: what is cut and from where, and the file that it is cut from."""

import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ncsnx.config.checks import FieldError
from ncsnx.config.data_sets import Images
from ncsnx.data import Splits, StoredImages, TrainingBatches, cache_in_memory
from ncsnx.data.decoding import decode, flattened
from ncsnx.data.patches import Patches
from ncsnx.data.readers.own_images import open_images
from ncsnx.data.value_statistics import measured_space
from ncsnx.errors import NcsnxError
from ncsnx.work import Work
from tests.config.examples import minimal
from tests.data.pictures import mixed, save
from tests.data.watching import Watcher

HEIGHT, WIDTH = 4, 6


def data(root: Path, **fields: Any) -> Images:
    return Images(root=str(root), **{"image_size": (HEIGHT, WIDTH), "patches": True, **fields})


def opened(root: Path, work: Work | None = None, **fields: Any) -> Splits:
    return open_images(data(root, **fields), root.parent, work or Work())


def patches(split: object) -> Patches:
    assert isinstance(split, Patches)
    return split


def names(split: object, images: StoredImages) -> list[str]:
    return [patches(split).image_name(number) for number in images.ids.tolist()]


def at_scales(path: Path, channels: int, scales: tuple[float, ...]) -> list[NDArray[np.uint8]]:
    """A picture (H, W, C) at each scale."""
    picture = flattened(decode(path.read_bytes(), path.name), channels, (255, 255, 255))
    sizes = [(round(picture.width * scale), round(picture.height * scale)) for scale in scales]
    reduced = [np.array(picture.resize(size, Image.Resampling.LANCZOS)) for size in sizes]
    return [pixels.reshape(*pixels.shape[:2], channels) for pixels in reduced]


def corners(patch: Tensor, picture: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """The places of a picture where a patch is found."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, (HEIGHT, WIDTH), axis=(0, 1))
    return [(int(top), int(left)) for top, left in np.argwhere((windows == patch.numpy()).all(axis=(2, 3, 4)))]


@pytest.mark.parametrize(("channels", "scales"), [(3, (1.0,)), (1, (0.5, 1.0))])
def test_patches_are_of_their_split_at_each_scale(tmp_path: Path, channels: int, scales: tuple[float, ...]) -> None:
    mixed(tmp_path / "x", 20, (25, 17))
    splits = opened(tmp_path / "x", channels=channels, scales=scales, held_out=0.3)
    train, held_out = patches(splits.train), patches(splits.held_out)
    batch = TrainingBatches(train, len(train), seed=3).at(0).images
    whole = held_out.read(torch.arange(len(held_out)))
    for split, images in ((train, batch), (held_out, whole)):
        assert (split.shape, split.value_range) == ((channels, HEIGHT, WIDTH), (0, 255))
        seen = set()
        for pixels, name in zip(images.pixels, names(split, images), strict=True):
            pictures = at_scales(tmp_path / "x" / name, channels, scales)
            seen |= {scale for scale, picture in zip(scales, pictures, strict=True) if corners(pixels, picture)}
            assert any(corners(pixels, picture) for picture in pictures)
        assert seen == set(scales)
    assert not {*names(train, batch)} & {*names(held_out, whole)}
    assert sorted([*batch.ids.tolist(), *whole.ids.tolist()]) == list(range(20 * 16))  # 17 // 4 · 25 // 6 of each


def test_patches_of_a_picture_are_as_many_as_fit_and_their_places_are_uniform(tmp_path: Path) -> None:
    save(tmp_path / "x" / "wide.png", 1, (40, 9))
    save(tmp_path / "x" / "tall.png", 2, (11, 10))
    train = patches(opened(tmp_path / "x", held_out=0.0).train)
    assert len(train) == 2 * 1 + 2 * 6
    (picture,) = at_scales(tmp_path / "x" / "tall.png", 3, (1.0,))
    positions = torch.arange(42 * 60)
    images = train.cut(positions % 2, positions, seed=0)  # the two cells of the first picture
    assert {*names(train, images)} == {"tall.png"}
    counts = np.zeros((7, 6), int)
    for pixels in images.pixels:
        counts[corners(pixels, picture)[0]] += 1
    # each of 42 corners has 60 patches, with a standard deviation of less than 8
    assert abs(counts - 60).max() < 40


def test_a_patch_is_a_function_of_seed_and_position(tmp_path: Path) -> None:
    mixed(tmp_path / "x", 6, (25, 17))
    train = opened(tmp_path / "x", scales=(0.5, 1.0)).train

    def stream(seed: int, batch_size: int, first: int, last: int) -> Tensor:
        batches = TrainingBatches(train, batch_size, seed)
        return torch.cat([batches.at(step).images.pixels for step in range(first, last)])

    whole = stream(0, 12, 0, 20)
    assert torch.equal(whole, stream(0, 30, 0, 8))
    assert torch.equal(whole[48:], stream(0, 48, 1, 5))  # as after resuming
    assert not torch.equal(whole, stream(1, 12, 0, 20))
    indices = torch.arange(len(train))
    assert torch.equal(train.read(indices).pixels, torch.cat([train.read(one).pixels for one in indices.split(7)]))
    epochs = [TrainingBatches(train, len(train), 0).at(epoch).images for epoch in (0, 1)]
    first, second = (images.pixels[images.ids.argsort()] for images in epochs)
    assert not torch.equal(first, second)


def test_pictures_without_room_for_a_patch_are_left_out_and_counted(tmp_path: Path) -> None:
    sizes = [(25, 17), (24, 16), (12, 8), (40, 6), (10, 40)]
    for number, size in enumerate(sizes):
        save(tmp_path / "x" / f"{number}.png", number, size)
    watcher = Watcher()
    splits = opened(tmp_path / "x", watcher.work, scales=(1.0, 0.5), held_out=0.0)
    assert watcher.warnings == [f"{tmp_path}/x: patches need 8×12 pixels at scale 0.5, so 2 of 5 pictures are left out"]
    read = splits.train.read(torch.arange(len(splits.train)))
    assert {*names(splits.train, read)} == {"0.png", "1.png", "2.png"}
    assert splits.fingerprint != opened(tmp_path / "x", held_out=0.0).fingerprint
    with pytest.raises(NcsnxError, match=r"x: patches need 40×60 pixels at scale 0\.1, which none of 5 pictures has$"):
        opened(tmp_path / "x", scales=(0.1,))


def test_pictures_are_decoded_once_and_mapped_by_every_process(tmp_path: Path) -> None:
    mixed(tmp_path / "x", 5, (250, 170))
    jobs, splits = [], list[Splits]()
    for channels in (3, 3, 1):
        watcher = Watcher()
        splits.append(opened(tmp_path / "x", watcher.work, channels=channels))
        jobs.append([name for name, _ in watcher.jobs if name.startswith("decoding")])
    assert jobs == [["decoding x"], [], ["decoding x"]]
    train, again = patches(splits[0].train), patches(splits[1].train)
    indices = torch.arange(len(train))
    expected = train.read(indices).pixels
    copied = pickle.dumps(train)
    assert len(copied) < train.decoded.nbytes / 10
    assert torch.equal(pickle.loads(copied).read(indices).pixels, expected)
    with train.decoded.path.open("r+b") as file:
        file.truncate(train.decoded.nbytes - 1)
    assert torch.equal(patches(opened(tmp_path / "x").train).read(indices).pixels, expected)
    assert torch.equal(again.read(indices).pixels, expected)


def test_a_disk_without_room_for_the_decoded_pictures_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed(tmp_path / "x", 4, (250, 170))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4 * 3 * 250 * 170 - 1))
    with pytest.raises(NcsnxError, match=r"x: the decoded pictures take 498 KiB, and .* has room for 498 KiB; choose"):
        opened(tmp_path / "x")


def test_patches_are_neither_cached_nor_given_a_mean_image(tmp_path: Path) -> None:
    mixed(tmp_path / "x", 8, (25, 17))
    splits = opened(tmp_path / "x")
    kept = cache_in_memory(splits, torch.device("cpu"))
    assert (kept.train, kept.held_out) == (splits.train, splits.held_out)
    experiment = attrs.evolve(minimal(), data=data(tmp_path / "x"))
    assert measured_space(experiment, splits, "x", Work()).mean_image is None
    assert measured_space(
        experiment, open_images(data(tmp_path / "x", patches=False), tmp_path, Work()), "x", Work()
    ).mean_image


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"random_crop": 8}, "random_crop must be left out with patches=true, whose places are drawn"),
        ({"scales": ()}, "scales must have at least one number"),
        ({"scales": (1.0, 0.0)}, "scales must be above 0 and at most 1, not 0.0"),
        ({"scales": (2.0,)}, "scales must be above 0 and at most 1, not 2.0"),
        ({"patches": False, "scales": (0.5,)}, "scales needs patches=true; leave it out"),
    ],
)
def test_fields_that_do_not_suit_patches_are_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(FieldError) as caught:
        data(Path("x"), **fields)
    assert str(caught.value) == complaint

"""The user's own pictures as a data set."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ncsnx.config.data_sets import Images
from ncsnx.data import DataMissingError, Splits
from ncsnx.data.dataset import NO_LABEL
from ncsnx.data.decoding import fitted_pixels
from ncsnx.data.places import existing_path
from ncsnx.data.readers.encoded_pictures import EncodedPictures
from ncsnx.data.readers.own_images import open_images
from ncsnx.errors import NcsnxError
from ncsnx.work import Work
from tests.data.pictures import mixed, save, zip_of
from tests.data.watching import Watcher


def opened(root: Path, work: Work | None = None, **fields: Any) -> Splits:
    data = Images(root=str(root), **{"image_size": 4, **fields})
    return open_images(data, root.parent / "data", work or Work())


def pictures(splits: Splits) -> tuple[EncodedPictures, EncodedPictures]:
    assert isinstance(splits.train, EncodedPictures)
    assert isinstance(splits.held_out, EncodedPictures)
    return splits.train, splits.held_out


def names(splits: Splits) -> tuple[list[str], ...]:
    return tuple([split.image_name(number) for number in split.ids.tolist()] for split in pictures(splits))


def labels(splits: Splits) -> dict[str, int]:
    found = torch.cat([split.labels for split in pictures(splits)])
    train, held_out = names(splits)
    return dict(zip(train + held_out, found.tolist(), strict=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_every_picture_is_in_one_split_as_it_is_decoded(tmp_path: Path, channels: int) -> None:
    written = mixed(tmp_path / "x", 30)
    splits = opened(tmp_path / "x", channels=channels, background="#0102ff")
    seen = {}
    for split, found in zip(pictures(splits), names(splits), strict=True):
        assert (split.shape, split.value_range) == ((channels, 4, 4), (0, 255))
        images = split.read(torch.arange(len(split)))
        assert (images.pixels.dtype, images.labels.dtype, images.ids.dtype) == (torch.uint8, torch.int64, torch.int64)
        for name, pixels, number in zip(found, images.pixels, images.ids, strict=True):
            content = (tmp_path / "x" / name).read_bytes()
            expected = fitted_pixels(content, name, size=4, channels=channels, background=(1, 2, 255))
            assert np.array_equal(pixels.numpy(), expected)
            assert written[number] == name
            seen[name] = number
    assert sorted(seen) == written
    assert len(pictures(splits)[1]) > 0


def test_the_split_stays_when_pictures_are_added(tmp_path: Path) -> None:
    mixed(tmp_path / "x", 40)
    train, held_out = names(opened(tmp_path / "x", held_out=0.3))
    for number in range(20):
        save(tmp_path / "x" / f"new{number}.png")
    more_train, more_held_out = names(opened(tmp_path / "x", held_out=0.3))
    assert set(train) < set(more_train)
    assert set(held_out) < set(more_held_out)


def test_of_a_few_pictures_one_is_held_out_and_one_is_left(tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / "x" / f"{name}.png")
    for share in (0.01, 0.999999999):
        assert [len(split) for split in pictures(opened(tmp_path / "x", held_out=share))] == [1, 1]


def test_a_folder_can_be_held_out(tmp_path: Path) -> None:
    for name in ("train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png"):
        save(tmp_path / "x" / "data" / name)
    splits = opened(tmp_path / "x", held_out_folder="test")
    assert names(splits) == (["data/train/a/1.png", "data/train/b/2.png"], ["data/test/a/3.png", "data/test/b/4.png"])
    assert list(labels(splits).values()) == [0, 1, 0, 1]
    with pytest.raises(NcsnxError, match=r"folder valid \(data\.held_out_folder\), found the folders test, train"):
        opened(tmp_path / "x", held_out_folder="valid")


def test_folders_are_classes_where_every_picture_is_in_one_of_several(tmp_path: Path) -> None:
    for name in ("x/all/cat/1.png", "x/all/cat/deep/2.png", "x/all/dog/3.png", "x/all/ape/4.png"):
        save(tmp_path / name)
    expected = {"all/ape/4.png": 0, "all/cat/1.png": 1, "all/cat/deep/2.png": 1, "all/dog/3.png": 2}
    assert labels(opened(tmp_path / "x")) == expected
    for name in ("x/all/5", "one/all/1", "one/all/2", "held/cat/1", "held/dog/2", "held/test/3"):
        save(tmp_path / f"{name}.png")
    assert set(labels(opened(tmp_path / "x")).values()) == {NO_LABEL}
    assert set(labels(opened(tmp_path / "one")).values()) == {NO_LABEL}
    # classes of the training images alone are useless
    assert set(labels(opened(tmp_path / "held", held_out_folder="test")).values()) == {NO_LABEL}


def test_broken_pictures_are_refused_or_skipped_and_ids_stay(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / "x" / f"{number}.png", number)
    whole = opened(tmp_path / "x", held_out=0.5)
    (tmp_path / "x" / "2.png").write_bytes(b"text")
    with pytest.raises(
        NcsnxError, match=r"1 of 6 pictures cannot be used: 2\.png: .*; fix or remove it, or skip it with"
    ):
        opened(tmp_path / "x", held_out=0.5)
    watcher = Watcher()
    rest = opened(tmp_path / "x", watcher.work, held_out=0.5, on_error="skip")
    assert len(watcher.warnings) == 1
    ids = sorted(int(number) for split in pictures(rest) for number in split.ids)
    assert ids == [0, 1, 3, 4, 5]
    assert rest.fingerprint != whole.fingerprint
    (tmp_path / "x" / "2.png").unlink()
    assert opened(tmp_path / "x", held_out=0.5).fingerprint == rest.fingerprint


def test_a_path_is_looked_for_here_then_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(DataMissingError) as error:
        existing_path("mine", tmp_path / "data", field="root")
    for part in (str(tmp_path / "here" / "mine"), str(tmp_path / "data" / "mine"), "data.root=DIR"):
        assert part in str(error.value)
    (tmp_path / "data" / "mine").mkdir(parents=True)
    assert existing_path("mine", tmp_path / "data") == tmp_path / "data" / "mine"
    (tmp_path / "here" / "mine").mkdir()
    assert existing_path("mine", tmp_path / "data") == tmp_path / "here" / "mine"
    assert existing_path(str(tmp_path / "data"), tmp_path / "nowhere") == tmp_path / "data"
    with pytest.raises(DataMissingError, match=r"is not at /nowhere/x; .*data\.path=FILE"):
        existing_path("/nowhere/x", tmp_path)


def test_files_and_fingerprint_are_unchanged_without_the_new_formats(tmp_path: Path) -> None:
    mixed(tmp_path / "x", 12)
    before = opened(tmp_path / "x")
    assert before.fingerprint == opened(tmp_path / "x", gif=True, heic=True).fingerprint
    save(tmp_path / "x" / "a" / "0" / "000a.gif", mode="P")
    (tmp_path / "x" / "photo.heic").write_bytes(b"whatever it holds")
    after = opened(tmp_path / "x")
    assert (after.fingerprint, names(after)) == (before.fingerprint, names(before))
    assert opened(tmp_path / "x", gif=True).fingerprint != before.fingerprint


def test_heic_is_read_where_its_extra_is_installed(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    heif.register_heif_opener()
    for name in ("one.heic", "two.HEIF"):
        (tmp_path / "x").mkdir(exist_ok=True)
        Image.new("RGB", (64, 48), (200, 40, 90)).save(tmp_path / "x" / name, format="HEIF", quality=95)
    for split in pictures(opened(tmp_path / "x", heic=True)):
        pixels = split.read(torch.arange(1)).pixels[0].int()
        # lossy compression and 8-bit YCbCr change a few gray levels
        assert (pixels - torch.tensor([200, 40, 90])[:, None, None]).abs().max() <= 6


def test_heic_without_a_decoder_is_refused_with_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it weren't installed
    save(tmp_path / "x" / "a.png")
    (tmp_path / "x" / "b.heic").write_bytes(b"?")
    with pytest.raises(NcsnxError, match=r"HEIC \(1 of 2 pictures\) needs an extra") as error:
        opened(tmp_path / "x", heic=True)
    assert "pip install '.[heic]'" in str(error.value)
    assert "data.heic=false" in str(error.value)


def test_unread_files_are_one_line_and_only_when_scanned(tmp_path: Path) -> None:
    for number in range(2):
        save(tmp_path / "x" / f"{number}.png", number)
    for name in ("a.svg", "sub/b.SVG", "c.mp4", "LICENSE", ".DS_Store", "Thumbs.db", "__MACOSX/b.svg", ".git/c.svg"):
        (tmp_path / "x" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "x" / name).write_bytes(b"?")
    said: list[str] = []
    for root in (tmp_path / "x", tmp_path / "x", zip_of(tmp_path / "x.zip", tmp_path / "x")):
        opened(root, Work(info=said.append), held_out=0)
    told = "4 files were not read: 2 .svg, 1 without a suffix, 1 .mp4"
    assert [line for line in said if "not read" in line] == [f"{tmp_path}/x: {told}", f"{tmp_path}/x.zip: {told}"]

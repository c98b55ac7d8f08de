"""Pictures in Parquet and Arrow, as the package `datasets` writes them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from ncsnx.config.data_sets import Hub
from ncsnx.data import DataMissingError, Splits
from ncsnx.data.dataset import NO_LABEL
from ncsnx.data.decoding import fitted_pixels
from ncsnx.data.readers.hub import open_hub
from ncsnx.errors import NcsnxError
from ncsnx.work import Work
from tests.data.miniature import encoded, write_hub

COUNT = 12
MODES = ("RGB", "L", "RGBA")


def pictures(count: int = COUNT, seed: int = 0) -> list[bytes]:
    return [encoded(MODES[n % 3], (7, 6), "PNG", seed + n) for n in range(count)]


def opened(root: Path, **fields: Any) -> Splits:
    return open_hub(Hub(root=str(root), **{"image_size": 4, **fields}), root.parent / "data", Work())


def whole(splits: Splits) -> dict[int, tuple[torch.Tensor, int]]:
    """Pixels and label of every image by id."""
    found = {}
    for split in (splits.train, splits.held_out):
        images = split.read(torch.arange(len(split)))
        found |= {int(n): (x, int(label)) for n, x, label in zip(images.ids, images.pixels, images.labels, strict=True)}
    return found


@pytest.mark.parametrize("form", ["saved", "saved alone", "parquet"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_picture_is_in_one_split_with_its_class(tmp_path: Path, form: str, channels: int) -> None:
    written = pictures()
    write_hub(tmp_path / "set", form, train=written)
    splits = opened(tmp_path / "set", channels=channels, held_out=0.3, background="#0102ff")
    found = whole(splits)
    assert sorted(found) == list(range(COUNT))
    assert 0 < len(splits.held_out) < COUNT / 2
    assert splits.class_names == ("cat", "dog")
    for number, (pixels, label) in found.items():
        expected = fitted_pixels(written[number], "x", size=4, channels=channels, background=(1, 2, 255))
        assert np.array_equal(pixels.numpy(), expected)
        assert label == number % 2
    shutil.move(tmp_path / "set", tmp_path / "moved")
    assert opened(tmp_path / "moved", held_out=0.3).fingerprint == splits.fingerprint
    write_hub(tmp_path / "set", form, train=pictures(seed=100))
    assert opened(tmp_path / "set", held_out=0.3).fingerprint != splits.fingerprint


@pytest.mark.parametrize("form", ["saved", "parquet"])
def test_a_split_of_the_set_is_held_out(tmp_path: Path, form: str) -> None:
    written = pictures()
    write_hub(tmp_path / "set", form, train=written[:8], test=written[8:])
    splits = opened(tmp_path / "set", held_out_split="test")
    assert (len(splits.train), len(splits.held_out)) == (8, 4)
    for number, (pixels, label) in whole(splits).items():
        assert np.array_equal(pixels, fitted_pixels(written[number], "x", size=4, channels=3, background=(255,) * 3))
        assert label == (number if number < 8 else number - 8) % 2
    assert opened(tmp_path / "set").fingerprint != splits.fingerprint


def test_images_without_a_label_are_of_no_class(tmp_path: Path) -> None:
    write_hub(tmp_path / "set", "saved", labels=[0, 1, None, -1], train=pictures(4))
    splits = opened(tmp_path / "set", held_out=0)
    assert splits.class_names == ()
    assert [label for _, label in whole(splits).values()] == [0, 1, NO_LABEL, NO_LABEL]


@pytest.mark.parametrize(
    ("columns", "fields", "told"),
    [
        ({"image": "Value"}, {}, r"one column of type Image, found image \(Value\), label \(ClassLabel\); say which"),
        ({"other": "Image"}, {}, r"one column of type Image, found .*other \(Image\); say which: data\.image=NAME$"),
        ({"coarse": "ClassLabel"}, {}, r"one column of type ClassLabel, .*say which: data\.label=NAME$"),
        ({}, {"label": "image"}, r"a column image of type ClassLabel, found image \(Image\), label \(ClassLabel\)"),
        ({}, {"split": "val"}, r"set: expected a split val, found train, test$"),
        ({}, {"held_out_split": "val"}, r"set: expected a split val, found train, test$"),
    ],
)
def test_columns_and_splits_that_are_not_there_are_named_with_those_that_are(
    tmp_path: Path, columns: dict[str, str], fields: dict[str, Any], told: str
) -> None:
    write_hub(tmp_path / "set", "saved", columns=columns, train=pictures(4), test=pictures(2))
    with pytest.raises(NcsnxError, match=told):
        opened(tmp_path / "set", **fields)


def test_a_column_of_several_can_be_named(tmp_path: Path) -> None:
    write_hub(tmp_path / "set", "saved", columns={"other": "Image", "coarse": "ClassLabel"}, train=pictures(4))
    splits = opened(tmp_path / "set", image="image", label="coarse")
    assert len(whole(splits)) == 4


def cut(root: Path) -> None:
    (path,) = root.rglob("*.arrow")
    path.write_bytes(path.read_bytes()[:-300])


def beyond(root: Path) -> None:
    """Lets the last picture end far beyond the file."""
    (path,) = root.rglob("*.arrow")
    sizes = np.cumsum([len(content) for content in pictures(4)]).astype("<i4").tobytes()
    content = path.read_bytes()
    assert content.count(sizes) == 1
    path.write_bytes(content.replace(sizes, sizes[:-4] + np.array(2**30, "<i4").tobytes()))


def with_code(root: Path) -> None:
    (root / "set.py").write_text("raise SystemExit('run')")


def empty(root: Path) -> None:
    shutil.rmtree(root)
    (root / "cats").mkdir(parents=True)
    (root / "cats" / "1.png").write_bytes(pictures(1)[0])


@pytest.mark.parametrize(
    ("form", "change", "told"),
    [
        ("saved", cut, "set: cannot be read: "),
        ("saved", beyond, "set: cannot be read: .*Struct child array #0 invalid"),
        ("parquet", with_code, "scripts are no longer supported, but found set.py"),
        ("parquet", empty, r"expected \.parquet or \.arrow files, found none; read pictures with data=images"),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_line_and_none_of_its_code_runs(
    tmp_path: Path, form: str, change: Callable[[Path], None], told: str
) -> None:
    write_hub(tmp_path / "set", form, train=pictures(4))
    change(tmp_path / "set")
    with pytest.raises(NcsnxError, match=told) as caught:
        opened(tmp_path / "set")
    assert str(caught.value).isprintable()


def test_pictures_that_are_not_in_the_file_or_broken_are_named(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.png").write_bytes(pictures(1)[0])
    given = [*pictures(1), {"bytes": None, "path": str(tmp_path / "elsewhere.png")}, None, b"text"]
    (tmp_path / "set").mkdir()
    values = [picture if not isinstance(picture, bytes) else {"bytes": picture, "path": None} for picture in given]
    made = datasets.Dataset.from_dict({"image": values}, features=datasets.Features({"image": datasets.Image()}))
    made.with_format("arrow").to_parquet(tmp_path / "set" / "a.parquet")
    split = opened(tmp_path / "set", held_out=0).train
    split.read(torch.tensor([0]))
    for place, reason in ((1, "is not in the file itself"), (2, "is not in the file itself"), (3, "not a picture")):
        with pytest.raises(NcsnxError, match=rf"set, train: picture {place}: .*{reason}"):
            split.read(torch.tensor([place]))


def test_what_is_missing_is_said_with_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataMissingError, match=r"data\.root=DIR"):
        opened(tmp_path / "nowhere")
    monkeypatch.setattr("ncsnx.data.readers.hub.find_spec", lambda name: None)
    with pytest.raises(NcsnxError, match=r"needs the extra datasets, .*: pip install '\.\[datasets\]'"):
        opened(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "repository must be given, or root, and not both"),
        ({"root": "x", "repository": "ada/pets"}, "repository must be given, or root, and not both"),
        ({"repository": "pets"}, "repository must be USER/SET, not 'pets'"),
        ({"repository": "../ada/pets"}, "repository must be USER/SET"),
        ({"repository": "ada/pets", "revision": "../.."}, "revision must be a branch, tag or commit, not"),
    ],
)
def test_a_set_has_one_place_which_is_no_path(fields: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Hub(image_size=4, **fields)

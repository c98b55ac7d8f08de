"""Packed data sets: equal images, written atomically, and damage that is found."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ncsnx.config.data_sets import CIFAR10, Digits, Packed
from ncsnx.data import InMemory, Splits
from ncsnx.data.dataset import NO_LABEL, StoredImages
from ncsnx.data.readers.packed import PackedFolder, is_packed, open_packed, pack, settings_of
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.storage import atomic
from ncsnx.work import Work
from tests.data.recorded import Recorded, assert_equal

TRAIN, HELD_OUT = 23, 7
SHAPE = (3, 4, 4)
DECLARED = Packed(path="a.pack", image_size=4)


def images(count: int, first_id: int, seed: int = 0) -> InMemory:
    generator = torch.Generator().manual_seed(seed + first_id)
    pixels = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=generator)
    labels = torch.arange(count) % 3 + NO_LABEL
    return InMemory(StoredImages(pixels, labels, first_id + torch.arange(count).flip(0)), value_range=(0, 255))


def source(seed: int = 0) -> Splits:
    return Splits(Recorded(images(TRAIN, 0, seed)), Recorded(images(HELD_OUT, TRAIN, seed)), f"mark {seed}")


def packed(out: Path, splits: Splits | None = None, work: Work | None = None, **options: Any) -> PackedFolder:
    settings = options.pop("settings", {"size": 4})
    return pack(splits or source(), out, settings=settings, work=work or Work(), **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> PackedFolder:
    """30 images of 48 bytes."""
    return packed(tmp_path / "a.pack")


def test_a_packed_folder_gives_the_packed_images(tmp_path: Path, folder: PackedFolder) -> None:
    original, opened = source(), open_packed(DECLARED, tmp_path)
    assert opened.fingerprint == folder.fingerprint
    for ours, theirs in ((opened.train, original.train), (opened.held_out, original.held_out)):
        assert (len(ours), ours.shape, ours.value_range) == (len(theirs), theirs.shape, theirs.value_range)
        backwards = torch.arange(len(theirs)).flip(0)
        assert_equal(ours.read(backwards), theirs.read(backwards))
        twice = torch.tensor([3, 0, 3])
        assert_equal(ours.read(twice), theirs.read(twice))


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        (Packed(path="a.pack", image_size=8), "of 3×8×8 as declared, found 3×4×4; declare channels=3, image_size=4 "),
        (Packed(path="a.pack", image_size=4, random_crop=6), r"3×6×6 as declared, .*random_crop=4"),
    ],
)
def test_a_wrong_declaration_is_refused(tmp_path: Path, folder: PackedFolder, declared: Packed, found: str) -> None:
    with pytest.raises(NcsnxError, match=found):
        open_packed(declared, tmp_path)


def test_every_changed_file_is_named(folder: PackedFolder) -> None:
    assert folder.damaged(Work()) == []
    for name in ("pixels.npy", "labels.npy", "ids.npy"):
        content = bytearray((folder.path / name).read_bytes())
        content[-1] ^= 1
        (folder.path / name).write_bytes(content)
        assert PackedFolder.open(folder.path).damaged(Work()) == [name]
        content[-1] ^= 1
        (folder.path / name).write_bytes(content)


@pytest.mark.parametrize("name", ["pixels.npy", "labels.npy", "ids.npy", "packed.json"])
def test_a_truncated_or_missing_file_is_refused_when_opened(folder: PackedFolder, name: str) -> None:
    path = folder.path / name
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(NcsnxError, match=name):
        PackedFolder.open(folder.path)
    path.unlink()
    with pytest.raises(NcsnxError, match=name):
        PackedFolder.open(folder.path)


@pytest.mark.parametrize(
    "values", [{"count": 10**15}, {"count": 31}, {"train": 31}, {"size": 5}, {"dtype": "float32"}], ids=str
)
def test_a_record_that_does_not_match_the_files_is_refused(folder: PackedFolder, values: dict[str, Any]) -> None:
    path = folder.path / "packed.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | values))
    with pytest.raises(NcsnxError, match=r"a\.pack"):
        PackedFolder.open(folder.path)


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.write_text("no"), lambda path: None])
def test_what_isnt_packed_is_named(tmp_path: Path, make: Callable[[Path], object]) -> None:
    path = tmp_path / "x.pack"
    make(path)
    assert not is_packed(path)
    with pytest.raises(NcsnxError, match=r"x\.pack: is not a packed data set"):
        PackedFolder.open(path)


def test_workers_write_the_same_bytes(tmp_path: Path, folder: PackedFolder) -> None:
    assert contents(packed(tmp_path / "b.pack", workers=2).path) == contents(folder.path)
    assert names(tmp_path) == ["a.pack", "b.pack"]


def test_the_files_are_those_of_numpy(folder: PackedFolder) -> None:
    expected = source()
    everything = expected.train.read(torch.arange(TRAIN)), expected.held_out.read(torch.arange(HELD_OUT))
    for name in ("pixels", "labels", "ids"):
        values = np.load(folder.path / f"{name}.npy")
        assert np.array_equal(values, torch.cat([getattr(part, name) for part in everything]).numpy())
    assert folder.record.source == {"fingerprint": "mark 0", "settings": {"size": 4}}


def test_the_fingerprint_covers_every_pixel_but_no_path(tmp_path: Path, folder: PackedFolder) -> None:
    (tmp_path / "elsewhere").mkdir()
    assert packed(tmp_path / "elsewhere" / "b.pack").fingerprint == folder.fingerprint
    splits = source()
    assert isinstance(splits.held_out, Recorded)
    splits.held_out.inner.images.pixels[-1, -1, -1, -1] ^= 1
    assert packed(tmp_path / "c.pack", splits).fingerprint != folder.fingerprint


def test_nothing_is_replaced_unasked(tmp_path: Path, folder: PackedFolder) -> None:
    before = folder.path.stat().st_mtime_ns, contents(folder.path)
    with pytest.raises(UsageError, match=r"a\.pack already exists; .*overwrite=True"):
        packed(folder.path)
    assert (folder.path.stat().st_mtime_ns, contents(folder.path)) == before
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "notes").mkdir()
    for name, overwrite in (("notes.txt", False), ("notes.txt", True), ("notes", False), ("notes", True)):
        with pytest.raises(UsageError, match=f"{name} already exists, and is not a packed data set"):
            packed(tmp_path / name, overwrite=overwrite)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert packed(folder.path, source(seed=1), overwrite=True).fingerprint != folder.fingerprint


@pytest.mark.parametrize("refused", ["sync_folder", "rename"])
def test_a_replacement_that_fails_at_its_end_leaves_the_old_set(
    folder: PackedFolder, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rename = contents(folder.path), Path.rename

    def fails(path: Path, target: Path | None = None) -> Path:
        if target is None or (target == folder.path and "pixels.npy" in names(path) and contents(path) != before):
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(*((atomic, "sync_folder") if refused == "sync_folder" else (Path, "rename")), fails)
        with pytest.raises(NcsnxError, match="Input/output error"):
            packed(folder.path, source(seed=1), overwrite=True)
    assert contents(folder.path) == before
    packed(folder.path, source(seed=1), overwrite=True)
    assert names(folder.path.parent) == ["a.pack"]


def test_an_unreadable_image_stops_the_packing_with_its_own_message(tmp_path: Path) -> None:
    for workers in (0, 2):
        splits = Splits(Recorded(images(TRAIN, 0), broken=[12]), images(HELD_OUT, TRAIN), "")
        with pytest.raises(NcsnxError, match=r"^cat\.png: is broken$"):
            packed(tmp_path / "b.pack", splits, workers=workers)
        assert names(tmp_path) == []


def test_a_full_disk_is_reported_before_anything_is_decoded(tmp_path: Path) -> None:
    class Endless(Recorded):
        def __len__(self) -> int:
            return 10**12

    endless = Endless(images(TRAIN, 0))
    with pytest.raises(NcsnxError, match=r"cannot write .*b\.pack: it needs [0-9,]{18} bytes, and [0-9,]+ are free"):
        packed(tmp_path / "b.pack", Splits(endless, images(0, 0), ""))
    assert endless.reads == [0]


@pytest.mark.parametrize("held_out", [0, 3])
def test_a_set_without_training_images_is_refused(tmp_path: Path, held_out: int) -> None:
    with pytest.raises(NcsnxError, match="has no training images to pack"):
        packed(tmp_path / "b.pack", Splits(images(0, 0), images(held_out, 0), ""))
    assert not list(tmp_path.iterdir())


def test_settings_contain_no_path_and_nothing_applied_after_reading() -> None:
    assert settings_of(CIFAR10(root="/home/me", random_flip=True, transform="rescaled")) == {"type": "cifar10"}
    assert settings_of(Digits(dequantization="uniform")) == {"type": "digits"}
    assert settings_of(Packed(path="/home/me/a.pack", image_size=32, random_crop=40)) == {
        "type": "packed",
        "image_size": 32,
        "random_crop": 40,
        "channels": 3,
    }


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.float32])
def test_unbounded_values_are_packed_in_their_type_and_read_back(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.randint(0, 200, (7, 2, 3, 5), generator=torch.Generator().manual_seed(0)) - 50
    pixels = values.abs().to(dtype) if dtype == torch.uint8 else (values * 7).to(dtype)
    whole = InMemory(StoredImages(pixels, torch.arange(7), torch.arange(7)), (0.0, 3.0))
    splits = Splits(whole.subset(torch.arange(7) < 5), whole.subset(torch.arange(7) >= 5), "mark")
    packed = pack(splits, tmp_path / "x.pack", settings={"range": "unbounded"}, work=Work())
    assert (packed.record.bounds, packed.record.dtype) == ("unbounded", str(dtype).removeprefix("torch."))
    assert packed.damaged(Work()) == []
    data = Packed(path=str(packed.path), image_size=(3, 5), channels=2, range="unbounded", scale=2.0)
    opened = open_packed(data, tmp_path)
    read = opened.train.read(torch.arange(5)).pixels
    assert read.dtype == dtype
    assert torch.equal(read, pixels[:5])
    with pytest.raises(NcsnxError, match="its values are unbounded, expected values between"):
        open_packed(Packed(path=str(packed.path), image_size=(3, 5), channels=2), tmp_path)


def test_other_types_need_unbounded_data(tmp_path: Path) -> None:
    whole = InMemory(StoredImages(torch.zeros(4, 1, 3, 3), torch.arange(4), torch.arange(4)), (0.0, 1.0))
    with pytest.raises(UsageError, match="only 8-bit images can be packed, and these are float32"):
        pack(Splits(whole, whole, "mark"), tmp_path / "x.pack", settings={}, work=Work())
    wide = InMemory(StoredImages(torch.zeros(4, 1, 3, 3).double(), torch.arange(4), torch.arange(4)), (0.0, 1.0))
    with pytest.raises(UsageError, match="type uint8, int16, int32, float32 can be packed, and these are float64"):
        pack(Splits(wide, wide, "mark"), tmp_path / "x.pack", settings={"range": "unbounded"}, work=Work())
    assert list(tmp_path.iterdir()) == []

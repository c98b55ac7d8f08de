import os
from pathlib import Path

import attrs
import pytest
import torch
from torchvision import transforms

from ncsnx.config.data_sets import LSUN
from ncsnx.data.dataset import Splits
from ncsnx.data.lmdb_store import LmdbStore
from ncsnx.data.places import DataMissingError
from ncsnx.data.readers.lsun import read_lsun
from ncsnx.errors import NcsnxError
from ncsnx.work import Work
from tests.data import published
from tests.data.miniature import LSUN_PICTURES, encoded, write_lmdb, write_lsun
from tests.data.watching import Watcher

EVERYTHING = torch.arange(len(LSUN_PICTURES))
BEDROOM = LSUN(category="bedroom", image_size=16)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A separate cache for every test, so that none finds another's list of keys."""
    monkeypatch.setenv("NCSNX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def opened(folder: Path, data: LSUN = BEDROOM, work: Work | None = None) -> Splits:
    return read_lsun(data, folder, work or Work())


# ---------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("size", [16, 11, 40])
def test_pictures_of_every_kind_come_in_the_order_of_their_keys_as_torchvision_transforms_them(
    tmp_path: Path, size: int
) -> None:
    train, held_out = write_lsun(tmp_path / "lsun")
    splits = opened(tmp_path, LSUN(category="bedroom", image_size=size))
    transform = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size)])
    published.check(splits.train, train, range(len(train)), transform)
    published.check(splits.held_out, held_out, [len(train), len(train) + 1], transform)


def test_nothing_that_the_parent_opened_is_used_after_a_fork(tmp_path: Path) -> None:
    train, _ = write_lsun(tmp_path / "lsun")
    folder = tmp_path / "lsun" / "bedroom_train_lmdb"
    first, second = LmdbStore(folder), LmdbStore(folder)
    key = next(first.keys())
    before = first.get(key)
    child = os.fork()
    if child == 0:
        is_same = False
        try:
            is_same = first.get(key) == second.get(key) == LmdbStore(folder).get(key) == before
        finally:
            os._exit(0 if is_same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert first.get(key) == before == train[0]


def test_an_lmdb_replaced_at_the_same_path_is_read_again_and_a_moved_one_has_its_fingerprint(tmp_path: Path) -> None:
    write_lsun(tmp_path / "lsun")
    before = opened(tmp_path)
    before.train.read(EVERYTHING)
    (tmp_path / "lsun").rename(tmp_path / "old")
    for split in ("train", "val"):
        write_lmdb(tmp_path / "lsun" / f"bedroom_{split}_lmdb", {b"0": encoded("RGB", (20, 20), "JPEG", 5)})
    after = opened(tmp_path)
    assert len(after.train) == 1
    assert after.fingerprint != before.fingerprint
    assert opened(tmp_path, attrs.evolve(BEDROOM, root=str(tmp_path / "old"))).fingerprint == before.fingerprint


# --------------------------------------------------------------------------------------------------- the list of keys


def test_keys_are_listed_once_with_progress_and_then_found_in_the_cache(tmp_path: Path, own_cache: Path) -> None:
    write_lsun(tmp_path / "lsun")
    first, second = Watcher(), Watcher()
    pixels = opened(tmp_path, work=first.work).train.read(EVERYTHING).pixels
    assert first.jobs == [("listing bedroom_train_lmdb", 6), ("listing bedroom_val_lmdb", 2)]
    assert len(list((own_cache / "lmdb-keys").iterdir())) == 2
    assert torch.equal(opened(tmp_path, work=second.work).train.read(EVERYTHING).pixels, pixels)
    assert second.jobs == []


@pytest.mark.parametrize("length", [0, 45, 140])
def test_a_truncated_list_is_replaced(tmp_path: Path, own_cache: Path, length: int) -> None:
    train, _ = write_lsun(tmp_path / "lsun")
    opened(tmp_path)
    for path in (own_cache / "lmdb-keys").iterdir():
        path.write_bytes(path.read_bytes()[:length])
    assert len(opened(tmp_path).train) == len(train)


# ----------------------------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda content: b"", "an empty file"),
        (lambda content: content[::-1], "MDB_INVALID"),
        (lambda content: content[:-4096], r"[0-9,]+ of [0-9,]+ bytes"),
    ],
    ids=["empty", "foreign", "cut"],
)
def test_an_invalid_lmdb_is_one_line_and_never_kills_the_process(
    tmp_path: Path, change: "type[bytes]", found: str
) -> None:
    write_lsun(tmp_path / "lsun")
    path = tmp_path / "lsun" / "bedroom_val_lmdb" / "data.mdb"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(NcsnxError, match=rf"data\.mdb: expected a valid LMDB file, found .*{found}.*get a complete"):
        opened(tmp_path)


def test_an_lmdb_without_entries_is_refused(tmp_path: Path) -> None:
    write_lsun(tmp_path / "lsun")
    (tmp_path / "lsun" / "bedroom_val_lmdb").rename(tmp_path / "other")
    write_lmdb(tmp_path / "lsun" / "bedroom_val_lmdb", {})
    with pytest.raises(NcsnxError, match="found no entries"):
        opened(tmp_path)


def test_an_entry_that_is_not_a_picture_is_named_by_its_key(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_lmdb(
            tmp_path / "lsun" / f"bedroom_{split}_lmdb",
            {b"a": encoded("RGB", (20, 20), "JPEG", 5), b"b\xff": b"no picture"},
        )
    split = opened(tmp_path).train
    assert split.read(torch.tensor([0])).ids.tolist() == [0]
    with pytest.raises(NcsnxError, match=r"bedroom_train_lmdb/data\.mdb: b\\xff: is not a picture"):
        split.read(torch.tensor([1]))


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_split_is_named_with_the_command_that_downloads_it(tmp_path: Path, split: str) -> None:
    write_lsun(tmp_path / "lsun")
    place = tmp_path / "lsun" / f"bedroom_{split}_lmdb"
    place.rename(tmp_path / "elsewhere")
    with pytest.raises(DataMissingError, match=rf"LSUN bedroom is not here: {place}/data\.mdb is missing; ") as caught:
        opened(tmp_path)
    root = tmp_path / "lsun"
    command = f"download it (43 GB): wget -c -P {root} http://dl.yf.io/lsun/scenes/bedroom_{split}_lmdb.zip"
    assert command in str(caught.value)
    assert f"unzip -d {root}" in str(caught.value)

"""CelebA, LSUN and FFHQ in the forms in which they are published."""

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from ncsnx.config.data_sets import FFHQ, LSUN, CelebA
from ncsnx.data.dataset import NO_LABEL, Dataset, Splits
from ncsnx.data.lmdb_store import LmdbStore
from ncsnx.data.places import DataMissingError
from ncsnx.data.readers.celeba import crop_and_resize, read_celeba
from ncsnx.data.readers.ffhq import read_ffhq, shrunk, square_center
from ncsnx.data.readers.lsun import read_lsun
from ncsnx.errors import NcsnxError
from ncsnx.work import Work
from tests.data.miniature import (
    CELEBA_PARTS,
    LSUN_PICTURES,
    encoded,
    write_celeba,
    write_ffhq,
    write_ffhq_folder,
    write_lmdb,
    write_lsun,
)
from tests.data.watching import Watcher


def expected(content: bytes, transform: Callable[[Image.Image], Image.Image]) -> Tensor:
    """(3, H, W) uint8: the picture decoded by Pillow, converted to RGB and transformed."""
    image = transform(Image.open(io.BytesIO(content)).convert("RGB"))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def check(
    split: Dataset, pictures: Sequence[bytes], ids: Sequence[int], transform: Callable[[Image.Image], Image.Image]
) -> None:
    """Asserts that `split` has exactly these pictures and ids, in order, with equal pixels and no labels."""
    assert len(split) == len(pictures) == len(ids)
    images = split.read(torch.arange(len(split)))
    assert (images.pixels.dtype, split.value_range) == (torch.uint8, (0, 255))
    assert images.pixels.shape[1:] == split.shape
    assert images.ids.tolist() == list(ids)
    assert images.labels.tolist() == [NO_LABEL] * len(ids)
    for pixels, content in zip(images.pixels, pictures, strict=True):
        assert torch.equal(pixels, expected(content, transform))


@pytest.mark.parametrize("packed", [True, False], ids=["zip", "folder"])
@pytest.mark.parametrize(("crop", "size"), [(140, 64), (101, 120)])
def test_celeba_is_cropped_and_resized_as_torchvision_does(tmp_path: Path, packed: bool, crop: int, size: int) -> None:
    pictures = list(write_celeba(tmp_path / "celeba", packed=packed).values())
    splits = read_celeba(CelebA(crop=crop, image_size=size), tmp_path)
    transform = transforms.Compose([transforms.CenterCrop(crop), transforms.Resize(size)])
    for split, part in ((splits.train, 0), (splits.held_out, 2)):
        ids = [place for place, its_part in enumerate(CELEBA_PARTS) if its_part == part]
        check(split, [pictures[place] for place in ids], ids, transform)
        assert split.shape == (3, size, size)


def test_zip_and_folder_of_celeba_have_the_same_fingerprint_which_covers_pictures_and_split(tmp_path: Path) -> None:
    def fingerprint(place: str) -> str:
        return read_celeba(CelebA(root=str(tmp_path / place)), tmp_path).fingerprint

    write_celeba(tmp_path / "packed", packed=True)
    write_celeba(tmp_path / "folder", packed=False)
    (tmp_path / "folder" / "img_align_celeba.zip").write_bytes(b"no zip")  # unpacked pictures are preferred
    before = fingerprint("packed")
    assert fingerprint("folder") == before
    picture = tmp_path / "folder" / "img_align_celeba" / "000003.jpg"
    content = picture.read_bytes()
    picture.write_bytes(content[:-3] + b"\0" + content[-2:])
    assert fingerprint("folder") != before
    partition = tmp_path / "packed" / "list_eval_partition.txt"
    partition.write_text(partition.read_text().replace("000003.jpg 1", "000003.jpg 2"))
    assert fingerprint("packed") != before


def test_listed_pictures_that_are_missing_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    write_celeba(tmp_path / "celeba", packed=True)
    with (tmp_path / "celeba" / "list_eval_partition.txt").open("a") as partition:
        partition.writelines(f"{number:06d}.jpg 0\n" for number in range(9, 21))
    with pytest.raises(NcsnxError, match=r"lacks 12 of the 20 pictures .*, such as img_align_celeba/000009\.jpg"):
        read_celeba(CelebA(), tmp_path)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda text: text.replace("000002.jpg 0", "000002.jpg 3"), "the line '000002.jpg 3'"),
        (lambda text: text.replace("000002.jpg", "../000002.jpg"), "the line '../000002.jpg 0'"),
        (lambda text: text.replace(" ", ","), "the line '000001.jpg,."),
        (lambda text: text + text, "names twice"),
        (lambda text: text.replace(" 2\n", " 1\n"), "none for 0 or 2"),
    ],
)
def test_a_malformed_list_of_celeba_is_refused(tmp_path: Path, change: Callable[[str], str], found: str) -> None:
    write_celeba(tmp_path / "celeba", packed=True)
    partition = tmp_path / "celeba" / "list_eval_partition.txt"
    partition.write_text(change(partition.read_text()))
    with pytest.raises(NcsnxError, match=rf"list_eval_partition\.txt: .*{found}.*get it again"):
        read_celeba(CelebA(), tmp_path)


@pytest.mark.parametrize("missing", ["img_align_celeba.zip", "list_eval_partition.txt"])
def test_each_part_of_celeba_that_is_missing_is_named_with_its_place(tmp_path: Path, missing: str) -> None:
    write_celeba(tmp_path / "celeba", packed=True)
    (tmp_path / "celeba" / missing).unlink()
    with pytest.raises(DataMissingError, match=rf"{tmp_path / 'celeba' / missing} is missing; get {missing} "):
        read_celeba(CelebA(), tmp_path)


def test_a_picture_smaller_than_the_crop_is_named(tmp_path: Path) -> None:
    write_celeba(tmp_path / "celeba", packed=True)
    splits = read_celeba(CelebA(crop=150), tmp_path)
    with pytest.raises(NcsnxError, match=r"000004\.jpg: has 140×141 pixels, fewer than the crop of 150×150"):
        splits.train.read(torch.tensor([2]))


EVERYTHING = torch.arange(len(LSUN_PICTURES))
BEDROOM = LSUN(category="bedroom", image_size=16)


def opened(folder: Path, data: LSUN = BEDROOM, work: Work | None = None) -> Splits:
    return read_lsun(data, folder, work or Work())


@pytest.mark.parametrize("size", [16, 11, 40])
def test_lsun_comes_in_the_order_of_its_keys_as_torchvision_transforms_it(tmp_path: Path, size: int) -> None:
    train, held_out = write_lsun(tmp_path / "lsun")
    splits = opened(tmp_path, LSUN(category="bedroom", image_size=size))
    transform = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size)])
    check(splits.train, train, range(len(train)), transform)
    check(splits.held_out, held_out, [len(train), len(train) + 1], transform)


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


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda content: b"", "an empty file"),
        (lambda content: content[::-1], "MDB_INVALID"),
        (lambda content: content[:-4096], r"[0-9,]+ of [0-9,]+ bytes"),
    ],
    ids=["empty", "foreign", "cut"],
)
def test_an_invalid_lmdb_is_one_line_and_kills_nothing(tmp_path: Path, change: "type[bytes]", found: str) -> None:
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


COUNT = 23
SMALL = FFHQ(image_size=16)


def check_ffhq(splits: Splits, pictures: list[bytes], transform: Callable[[Image.Image], Image.Image]) -> None:
    """Asserts that 20 pictures are for training and 3 held out, each at its index."""
    for split, count in ((splits.train, 20), (splits.held_out, 3)):
        places = split.read(torch.arange(count)).ids.tolist()
        check(split, [pictures[place] for place in places], places, transform)


def test_ffhqs_lmdb_is_read_as_it_is(tmp_path: Path) -> None:
    pictures = write_ffhq(tmp_path / "ffhq", COUNT, sizes=(16, 8))
    check_ffhq(read_ffhq(SMALL, tmp_path), pictures, lambda image: image)
    assert read_ffhq(FFHQ(image_size=8), tmp_path).train.shape == (3, 8, 8)


def test_ffhqs_split_of_all_seventy_thousand_images_is_frozen(tmp_path: Path) -> None:
    image = encoded("RGB", (8, 8), "PNG", 0)
    entries = {f"8-{index:05d}".encode(): image for index in range(70_000)}
    write_lmdb(tmp_path / "ffhq", entries | {b"length": b"70000"})
    splits = read_ffhq(FFHQ(image_size=8), tmp_path)
    assert (len(splits.train), len(splits.held_out)) == (63_000, 7_000)
    first = torch.arange(5)
    assert splits.train.read(first).ids.tolist() == [3915, 34101, 5154, 34036, 26239]
    assert splits.held_out.read(first).ids.tolist() == [53335, 23801, 46037, 6242, 315]


@pytest.mark.parametrize("place", ["images1024x1024", "."])
def test_a_folder_of_ffhq_is_read_by_index_and_resized_as_torchvision_does(tmp_path: Path, place: str) -> None:
    pictures = write_ffhq_folder(tmp_path / "ffhq", place, 41, COUNT)
    check_ffhq(read_ffhq(SMALL, tmp_path), pictures, transforms.Resize(16))


@pytest.mark.parametrize(("size", "chosen"), [(128, 128), (64, 150)])
def test_thumbnails_of_ffhq_are_used_only_for_their_own_size(tmp_path: Path, size: int, chosen: int) -> None:
    by_size = {
        128: write_ffhq_folder(tmp_path / "ffhq", "thumbnails128x128", 128, 10),
        150: write_ffhq_folder(tmp_path / "ffhq", "images1024x1024", 150, 10),
    }
    split = read_ffhq(FFHQ(image_size=size), tmp_path).train
    places = split.read(torch.arange(9)).ids.tolist()
    check(split, [by_size[chosen][place] for place in places], places, transforms.Resize(size))


def test_a_size_missing_from_ffhqs_lmdb_is_refused(tmp_path: Path) -> None:
    write_ffhq(tmp_path / "ffhq", 5, sizes=(16, 8, 128))
    with pytest.raises(NcsnxError, match=r"64-00000; .*data\.image_size=N"):
        read_ffhq(FFHQ(image_size=64), tmp_path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({b"length": b"x"}, "expected a valid LMDB file, found 6 entries"),
        ({b"length": b"-3"}, "expected a valid LMDB file, found 6 entries"),
        ({b"length": b"99999999999999999999"}, "expected a valid LMDB file, found 6 entries"),
        ({b"16-00002": None, b"extra": b""}, "expected a valid LMDB file, found no entry 16-00002"),
        ({b"16-00002": encoded("RGB", (16, 15), "PNG", 0)}, "16-00002: expected 16×16 pixels, found 16×15"),
    ],
    ids=["letters", "negative", "huge", "no entry", "another size"],
)
def test_damage_of_ffhqs_lmdb_is_named(tmp_path: Path, changes: dict[bytes, bytes | None], told: str) -> None:
    entries = {f"16-{index:05d}".encode(): encoded("RGB", (16, 16), "PNG", index) for index in range(5)}
    changed = entries | {b"length": b"5"} | changes
    write_lmdb(tmp_path / "ffhq", {key: value for key, value in changed.items() if value is not None})
    with pytest.raises(NcsnxError, match=rf"data\.mdb: {told}"):
        read_ffhq(SMALL, tmp_path).train.read(torch.arange(4))


def test_published_pictures_are_cut_to_rectangles() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8))
    assert crop_and_resize(picture, (218, 178), (72, 56)).size == (56, 72)
    square = np.array(crop_and_resize(picture, (140, 140), (64, 64)))
    assert np.array_equal(np.array(crop_and_resize(picture, (140, 140), (64, 48))), square[:, 8:56])
    large = picture.resize((64, 64))
    assert np.array_equal(np.array(square_center(large, 64, (64, 48))), np.array(large)[:, 8:56])
    assert np.array_equal(np.array(shrunk(large, (64, 48))), np.array(large)[:, 8:56])
    with pytest.raises(ValueError, match=r"has 64×64 pixels, fewer than data\.image_size=48,66"):
        shrunk(large, (48, 66))

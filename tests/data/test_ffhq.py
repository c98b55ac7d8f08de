from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from ncsnx.config.data_sets import FFHQ
from ncsnx.data.places import DataMissingError
from ncsnx.data.readers.ffhq import read_ffhq
from ncsnx.errors import NcsnxError
from tests.data import published
from tests.data.miniature import encoded, write_ffhq, write_ffhq_folder, write_lmdb

COUNT = 23
SMALL = FFHQ(image_size=16)


def unchanged(image: Image.Image) -> Image.Image:
    return image


def published_order(count: int) -> list[int]:
    """The indices shuffled by NumPy's global legacy generator with seed 2019."""
    state = np.random.get_state()
    try:
        np.random.seed(2019)
        order = list(range(count))
        np.random.shuffle(order)
    finally:
        np.random.set_state(state)
    return order


def test_the_lmdb_is_read_as_it_is_and_split_as_published(tmp_path: Path) -> None:
    pictures = write_ffhq(tmp_path / "ffhq", COUNT, sizes=(16, 8))
    splits = read_ffhq(SMALL, tmp_path)
    order = published_order(COUNT)
    for split, places in ((splits.train, order[:20]), (splits.held_out, order[20:])):
        published.check(split, [pictures[place] for place in places], places, unchanged)
    assert read_ffhq(FFHQ(image_size=8), tmp_path).train.shape == (3, 8, 8)


def test_the_split_of_all_seventy_thousand_images_is_frozen(tmp_path: Path) -> None:
    image = encoded("RGB", (8, 8), "PNG", 0)
    entries = {f"8-{index:05d}".encode(): image for index in range(70_000)}
    write_lmdb(tmp_path / "ffhq", entries | {b"length": b"70000"})
    splits = read_ffhq(FFHQ(image_size=8), tmp_path)
    assert (len(splits.train), len(splits.held_out)) == (63_000, 7_000)
    first = torch.arange(5)
    assert splits.train.read(first).ids.tolist() == [3915, 34101, 5154, 34036, 26239]
    assert splits.held_out.read(first).ids.tolist() == [53335, 23801, 46037, 6242, 315]


@pytest.mark.parametrize("place", ["images1024x1024", "."])
def test_a_folder_is_read_by_index_and_resized_as_torchvision_does(tmp_path: Path, place: str) -> None:
    pictures = write_ffhq_folder(tmp_path / "ffhq", place, 41, COUNT)
    splits = read_ffhq(SMALL, tmp_path)
    order, transform = published_order(COUNT), transforms.Resize(16)
    for split, places in ((splits.train, order[:20]), (splits.held_out, order[20:])):
        published.check(split, [pictures[place] for place in places], places, transform)


@pytest.mark.parametrize(("size", "chosen"), [(128, 128), (64, 150)])
def test_thumbnails_are_used_only_for_their_own_size(tmp_path: Path, size: int, chosen: int) -> None:
    by_size = {
        128: write_ffhq_folder(tmp_path / "ffhq", "thumbnails128x128", 128, 10),
        150: write_ffhq_folder(tmp_path / "ffhq", "images1024x1024", 150, 10),
    }
    places = published_order(10)[:9]
    split = read_ffhq(FFHQ(image_size=size), tmp_path).train
    published.check(split, [by_size[chosen][place] for place in places], places, transforms.Resize(size))


def test_a_size_missing_from_the_lmdb_is_refused(tmp_path: Path) -> None:
    write_ffhq(tmp_path / "ffhq", 5, sizes=(16, 8, 128))
    with pytest.raises(NcsnxError, match=r"64-00000; .*data\.image_size=N"):
        read_ffhq(FFHQ(image_size=64), tmp_path)


@pytest.mark.parametrize("length", [b"x", b"-3", b"6", b"99999999999999999999"])
def test_an_impossible_length_is_refused(tmp_path: Path, length: bytes) -> None:
    entries = {f"16-{index:05d}".encode(): encoded("RGB", (16, 16), "PNG", index) for index in range(5)}
    write_lmdb(tmp_path / "ffhq", entries | {b"length": length})
    with pytest.raises(NcsnxError, match=r"data\.mdb: expected a valid LMDB file, found 6 entries"):
        read_ffhq(SMALL, tmp_path)


def test_an_lmdb_without_length_is_refused(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "ffhq", {b"something": b"else"})
    with pytest.raises(NcsnxError, match="found 1 entry with the 'length' none"):
        read_ffhq(SMALL, tmp_path)


def test_pictures_of_another_size_than_their_key_says_are_named(tmp_path: Path) -> None:
    entries = {f"16-{index:05d}".encode(): encoded("RGB", (16, 15), "PNG", index) for index in range(5)}
    write_lmdb(tmp_path / "ffhq", entries | {b"length": b"5"})
    with pytest.raises(NcsnxError, match=r"data\.mdb: 16-0000\d: expected 16×16 pixels, found 16×15"):
        read_ffhq(SMALL, tmp_path).train.read(torch.tensor([0]))


def test_an_entry_that_is_missing_is_named_when_it_is_read(tmp_path: Path) -> None:
    entries = {f"16-{index:05d}".encode(): encoded("RGB", (16, 16), "PNG", index) for index in (0, 1, 3, 4)}
    write_lmdb(tmp_path / "ffhq", entries | {b"length": b"5", b"extra": b""})
    assert published_order(5).index(2) < 4
    with pytest.raises(NcsnxError, match="no entry 16-00002"):
        read_ffhq(SMALL, tmp_path).train.read(torch.arange(4))


def test_images_are_never_enlarged(tmp_path: Path) -> None:
    write_ffhq_folder(tmp_path / "ffhq", "thumbnails128x128", 15, 5)
    with pytest.raises(NcsnxError, match=r"\.png: has 15×15 pixels, fewer than data\.image_size=16"):
        read_ffhq(SMALL, tmp_path).train.read(torch.tensor([0]))


def test_a_folder_without_images_says_what_to_get(tmp_path: Path) -> None:
    (tmp_path / "ffhq").mkdir()
    (tmp_path / "ffhq" / "LICENSE.txt").touch()
    with pytest.raises(DataMissingError, match=r"ffhq/data\.mdb is missing; get the folder images1024x1024 \(89 GB\)"):
        read_ffhq(SMALL, tmp_path)

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchvision import transforms

from ncsnx.config.data_sets import CelebA
from ncsnx.data.places import DataMissingError
from ncsnx.data.readers.celeba import read_celeba
from ncsnx.errors import NcsnxError
from tests.data import published
from tests.data.miniature import CELEBA_PARTS, write_celeba

PACKED = pytest.mark.parametrize("packed", [True, False], ids=["zip", "folder"])


@PACKED
@pytest.mark.parametrize(("crop", "size"), [(140, 64), (139, 31), (128, 128), (101, 120)])
def test_pictures_are_cropped_and_resized_as_torchvision_does(
    tmp_path: Path, packed: bool, crop: int, size: int
) -> None:
    pictures = list(write_celeba(tmp_path / "celeba", packed=packed).values())
    splits = read_celeba(CelebA(crop=crop, image_size=size), tmp_path)
    transform = transforms.Compose([transforms.CenterCrop(crop), transforms.Resize(size)])
    for split, part in ((splits.train, 0), (splits.held_out, 2)):
        ids = [place for place, its_part in enumerate(CELEBA_PARTS) if its_part == part]
        published.check(split, [pictures[place] for place in ids], ids, transform)
        assert split.shape == (3, size, size)


def test_zip_and_folder_have_the_same_fingerprint_which_covers_pictures_and_split(tmp_path: Path) -> None:
    def fingerprint(place: str) -> str:
        return read_celeba(CelebA(root=str(tmp_path / place)), tmp_path).fingerprint

    write_celeba(tmp_path / "packed", packed=True)
    write_celeba(tmp_path / "folder", packed=False)
    before = fingerprint("packed")
    assert fingerprint("folder") == before
    picture = tmp_path / "folder" / "img_align_celeba" / "000003.jpg"
    content = picture.read_bytes()
    picture.write_bytes(content[:-3] + b"\0" + content[-2:])
    assert fingerprint("folder") != before
    partition = tmp_path / "packed" / "list_eval_partition.txt"
    partition.write_text(partition.read_text().replace("000003.jpg 1", "000003.jpg 2"))
    assert fingerprint("packed") != before


def test_unpacked_pictures_are_preferred_to_the_zip(tmp_path: Path) -> None:
    write_celeba(tmp_path / "celeba", packed=False)
    (tmp_path / "celeba" / "img_align_celeba.zip").write_bytes(b"never read")
    assert len(read_celeba(CelebA(), tmp_path).train) == CELEBA_PARTS.count(0)


@PACKED
def test_listed_pictures_that_are_missing_are_counted_and_the_first_is_named(tmp_path: Path, packed: bool) -> None:
    write_celeba(tmp_path / "celeba", packed=packed)
    with (tmp_path / "celeba" / "list_eval_partition.txt").open("a") as partition:
        partition.writelines(f"{number:06d}.jpg 0\n" for number in range(9, 21))
    with pytest.raises(NcsnxError) as caught:
        read_celeba(CelebA(), tmp_path)
    message = str(caught.value)
    assert "lacks 12 of the 20 pictures in list_eval_partition.txt" in message
    folder = "img_align_celeba/" if packed else ""
    assert f"such as {folder}000009.jpg" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda text: text.replace("000002.jpg 0", "000002.jpg 3"), "the line '000002.jpg 3'"),
        (lambda text: text.replace("000002.jpg 0\n", "\n"), "the line ''"),
        (lambda text: text.replace("000002.jpg", "../000002.jpg"), "the line '../000002.jpg 0'"),
        (lambda text: text.replace(" ", ","), "the line '000001.jpg,."),
        (lambda text: text + text, "names twice"),
        (lambda text: text.replace(" 2\n", " 1\n"), "none for 0 or 2"),
        (lambda text: "", "none for 0 or 2"),
    ],
)
def test_a_malformed_list_is_refused_with_its_first_bad_line(
    tmp_path: Path, change: Callable[[str], str], found: str
) -> None:
    write_celeba(tmp_path / "celeba", packed=True)
    partition = tmp_path / "celeba" / "list_eval_partition.txt"
    partition.write_text(change(partition.read_text()))
    with pytest.raises(NcsnxError, match=rf"list_eval_partition\.txt: .*{found}.*get it again"):
        read_celeba(CelebA(), tmp_path)


@pytest.mark.parametrize("missing", ["img_align_celeba.zip", "list_eval_partition.txt"])
def test_each_part_that_is_missing_is_named_with_its_place(tmp_path: Path, missing: str) -> None:
    write_celeba(tmp_path / "celeba", packed=True)
    (tmp_path / "celeba" / missing).unlink()
    with pytest.raises(DataMissingError, match=rf"{tmp_path / 'celeba' / missing} is missing; get {missing} "):
        read_celeba(CelebA(), tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is empty"), (b"no picture", "is not a picture"), (b"\xff\xd8\xff\xe0" + bytes(50), "is not a picture|")],
)
def test_a_broken_picture_is_named_when_it_is_read(tmp_path: Path, content: bytes, reason: str) -> None:
    write_celeba(tmp_path / "celeba", packed=False)
    splits = read_celeba(CelebA(), tmp_path)
    (tmp_path / "celeba" / "img_align_celeba" / "000002.jpg").write_bytes(content)
    assert splits.train.read(torch.tensor([0])).ids.tolist() == [0]
    with pytest.raises(NcsnxError, match=rf"img_align_celeba: 000002\.jpg: ({reason})"):
        splits.train.read(torch.tensor([1]))


def test_a_picture_smaller_than_the_crop_is_named(tmp_path: Path) -> None:
    write_celeba(tmp_path / "celeba", packed=True)
    splits = read_celeba(CelebA(crop=150), tmp_path)
    with pytest.raises(NcsnxError, match=r"000004\.jpg: has 140×141 pixels, fewer than the crop of 150×150"):
        splits.train.read(torch.tensor([2]))

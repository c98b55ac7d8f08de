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


@pytest.mark.parametrize("packed", [True, False], ids=["zip", "folder"])
@pytest.mark.parametrize(("crop", "size"), [(140, 64), (101, 120)])
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


def test_a_picture_smaller_than_the_crop_is_named(tmp_path: Path) -> None:
    write_celeba(tmp_path / "celeba", packed=True)
    splits = read_celeba(CelebA(crop=150), tmp_path)
    with pytest.raises(NcsnxError, match=r"000004\.jpg: has 140×141 pixels, fewer than the crop of 150×150"):
        splits.train.read(torch.tensor([2]))

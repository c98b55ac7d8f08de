"""Folders and zips of images as users have them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.evaluation.image_folder import ImageFolder


def save(path: Path, value: int = 0, size: tuple[int, int] = (4, 3), mode: str = "RGB") -> Path:
    """Writes an image of one color. size: (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).convert(mode).save(path)
    return path


def batches(root: Path, size: int = 64) -> list[Tensor]:
    return list(ImageFolder.open(root).batches(size, lambda: None))


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "LA", "1"])
def test_a_picture_is_read_as_pillow_converts_it_to_rgb(tmp_path: Path, mode: str) -> None:
    values = np.random.default_rng(3).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(values).convert(mode).save(path)
    save(tmp_path / "z.png", size=(6, 5))  # a color image, so that gray ones are converted to RGB too
    with Image.open(path) as picture:
        assert picture.mode == mode
        expected = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    (images,) = batches(tmp_path)
    assert images.shape == (2, 3, 5, 6)
    assert images.dtype == torch.uint8
    assert torch.equal(images[0], expected)


def test_a_folder_of_gray_pictures_keeps_its_one_channel(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 17, mode="L")
    save(tmp_path / "b.png", 255, mode="1")
    (images,) = batches(tmp_path)
    assert images.shape == (2, 1, 3, 4)
    assert images[:, 0, 2, 3].tolist() == [17, 255]
    save(tmp_path / "c.png", 200)
    (images,) = batches(tmp_path)
    assert images[:, :, 2, 3].tolist() == [[17] * 3, [255] * 3, [200] * 3]


def test_batches_hold_neighbors_of_one_size_and_keep_the_order(tmp_path: Path) -> None:
    sizes = [(4, 3), (4, 3), (4, 3), (3, 4), (4, 3)]
    for number, size in enumerate(sizes):
        save(tmp_path / f"{number}.png", number, size)
    given = batches(tmp_path, size=2)
    assert [images[:, 0, 0, 0].tolist() for images in given] == [[0, 1], [2], [3], [4]]
    assert [tuple(images.shape[2:]) for images in given] == [(3, 4), (3, 4), (4, 3), (3, 4)]


def test_large_pictures_come_in_smaller_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncsnx.evaluation.image_folder._BATCH_BYTES", 2 * 12 * 12)
    for place in range(3):
        save(tmp_path / f"a{place}.png", place, (12, 12), "L")
        save(tmp_path / f"b{place}.png", place, (40, 40), "L")
        save(tmp_path / f"c{place}.png", place, (4, 4), "L")
    assert [len(batch) for batch in batches(tmp_path)] == [2, 1, 1, 1, 1, 3]


def test_all_pictures_that_cannot_be_opened_are_named_in_one_error(tmp_path: Path) -> None:
    for name in ("a.png", "c.jpg", "e.png", "sub/g.png"):
        save(tmp_path / name, size=(64, 64))
    (tmp_path / "f.webp").write_bytes(b"<html>not found</html>")
    (tmp_path / "sub" / "h.bmp").write_bytes(b"")
    with pytest.raises(NcsnxError) as error:
        batches(tmp_path, size=1)
    message = str(error.value)
    assert "2 images cannot be used" in message
    assert [name for name in "abcdefgh" if f" {name}." in message or f"/{name}." in message] == list("fh")
    assert "\n" not in message


def test_more_than_eight_bits_are_refused_rather_than_cut_off(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(NcsnxError, match=r"2 images can.*deep\.png: it has more than 8 bits.*float\.tif"):
        batches(tmp_path)


def test_every_byte_of_a_picture_and_its_name_count_for_the_fingerprint(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.bmp")
    before = ImageFolder.open(tmp_path).fingerprint
    content = bytearray((tmp_path / "a.bmp").read_bytes())
    content[len(content) // 3] ^= 1
    (tmp_path / "a.bmp").write_bytes(content)
    after = ImageFolder.open(tmp_path).fingerprint
    (tmp_path / "a.bmp").rename(tmp_path / "b.bmp")
    assert len({before, after, ImageFolder.open(tmp_path).fingerprint}) == 3


def test_a_zip_of_pictures_gives_what_the_folder_gives(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "pictures" / "sub" / f"{number}.png", 50 * number)
    made = Path(shutil.make_archive(str(tmp_path / "pictures"), "zip", tmp_path / "pictures"))
    folder, archive = ImageFolder.open(tmp_path / "pictures"), ImageFolder.open(made)
    assert (archive.facts, archive.title) == (folder.facts, f"zip {made}")
    assert torch.equal(*(torch.cat(list(each.batches(2, lambda: None))) for each in (folder, archive)))

"""Folders and zips of images as users have them."""

import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.evaluation.image_folder import ImageFolder
from ncsnx.work import Advance, Work


def save(path: Path, value: int = 0, size: tuple[int, int] = (4, 3), mode: str = "RGB") -> Path:
    """Writes an image of one colour. size: (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).convert(mode).save(path)
    return path


def never_stop() -> None:
    """A check that never stops."""


def batches(root: Path, size: int = 64) -> list[Tensor]:
    return list(ImageFolder.open(root).batches(size, never_stop))


def found(root: Path) -> list[str]:
    return list(ImageFolder.open(root).files.names)


def test_pictures_are_found_at_every_depth_in_any_case_and_sorted(tmp_path: Path) -> None:
    names = ["b.PNG", "a/z.jpg", "a.jpeg", "a/b/c.Tiff", "c.webp", "d.bmp", "e.tif", "z.d/x.png"]
    for name in names:
        save(tmp_path / name)
    for name in ("notes.txt", ".hidden.png", ".folder/x.png", "a/.DS_Store", "png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no picture")
    assert found(tmp_path) == ["a/b/c.Tiff", "a/z.jpg", "a.jpeg", "b.PNG", "c.webp", "d.bmp", "e.tif", "z.d/x.png"]


def test_names_that_look_like_patterns_or_archives_are_names(tmp_path: Path) -> None:
    root = tmp_path / "a [1-9] *.zip"
    save(root / "deep.npy" / "[x]?.png", 7)
    save(root / "x.zip.png", 9)
    (images,) = batches(root)
    assert images[:, 0, 0, 0].tolist() == [7, 9]


def test_links_are_followed_and_one_that_leads_in_a_circle_is_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path / "data" / "inner" / "a.png")
    save(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "data" / "far").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "c.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    assert found(tmp_path / "data") == ["c.png", "far/b.png", "inner/a.png"]
    (tmp_path / "data" / "inner" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "here").symlink_to(".")
    with pytest.raises(NcsnxError, match=r"data/here and .*data are the same folder; remove the link"):
        found(tmp_path / "data")


def test_what_only_has_the_name_of_a_picture_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    save(tmp_path / "good.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with pytest.raises(NcsnxError) as error:
        list(ImageFolder.open(tmp_path).batches(8, lambda: None))
    assert "3 images cannot be used" in str(error.value)
    for name in ("pipe.png", "gone.png", "loop.png"):
        assert f"{name}: cannot be read" in str(error.value)
    assert "good" not in str(error.value)


def test_a_name_that_is_not_text_is_refused(tmp_path: Path) -> None:
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.png"))
    try:
        save(strange)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    with pytest.raises(NcsnxError, match="has a name that is not UTF-8"):
        ImageFolder.open(tmp_path)


@pytest.mark.parametrize("name", ["empty", "missing", "a_file"])
def test_a_folder_without_pictures_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    (tmp_path / "a_file").write_bytes(b"")
    with pytest.raises(NcsnxError, match=f"{name}: "):
        ImageFolder.open(tmp_path / name)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "L", "LA", "1"])
def test_a_picture_is_read_as_pillow_converts_it_to_rgb(tmp_path: Path, mode: str) -> None:
    values = np.random.default_rng(3).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(values).convert(mode).save(path)
    save(tmp_path / "z.png", size=(6, 5))  # a colour image, so that grey ones are converted to RGB too
    with Image.open(path) as picture:
        assert picture.mode == mode
        expected = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    (images,) = batches(tmp_path)
    assert images.shape == (2, 3, 5, 6)
    assert images.dtype == torch.uint8
    assert torch.equal(images[0], expected)


def test_a_folder_of_grey_pictures_keeps_its_one_channel(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 17, mode="L")
    save(tmp_path / "b.png", 255, mode="1")
    (images,) = batches(tmp_path)
    assert images.shape == (2, 1, 3, 4)
    assert images[:, 0, 2, 3].tolist() == [17, 255]
    save(tmp_path / "c.png", 200)
    (images,) = batches(tmp_path)
    assert images[:, :, 2, 3].tolist() == [[17] * 3, [255] * 3, [200] * 3]


def test_batches_hold_neighbours_of_one_size_and_keep_the_order(tmp_path: Path) -> None:
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


def test_a_picture_that_is_cut_off_is_named(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "b.png")
    content = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(NcsnxError, match=r"b\.png: "):
        batches(tmp_path, size=1)


def test_more_than_eight_bits_are_refused_rather_than_cut_off(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(NcsnxError, match=r"2 images can.*deep\.png: it has more than 8 bits.*float\.tif"):
        batches(tmp_path)


def test_a_small_file_that_unpacks_to_gigapixels_is_refused(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(NcsnxError, match=r"bomb\.png: .*decompression bomb"):
        batches(tmp_path)


def test_a_picture_is_known_by_its_content_and_not_by_its_name(tmp_path: Path) -> None:
    Image.new("RGB", (3, 3)).save(tmp_path / "really_a.jpg", format="PNG")
    (tmp_path / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(NcsnxError, match=r"1 image can.*script\.png: is not a picture of a known format"):
        batches(tmp_path)


def test_the_fingerprint_is_of_names_and_contents_and_not_of_the_place(tmp_path: Path) -> None:
    for place in ("one", "two"):
        save(tmp_path / place / "sub" / "a.png", 1)
    first, second = (ImageFolder.open(tmp_path / place) for place in ("one", "two"))
    assert first.facts == second.facts
    save(tmp_path / "two" / "sub" / "a.png", 2)
    assert ImageFolder.open(tmp_path / "two").facts != first.facts
    (tmp_path / "one" / "sub" / "a.png").rename(tmp_path / "one" / "sub" / "b.png")
    assert ImageFolder.open(tmp_path / "one").facts != first.facts


def test_every_byte_of_a_picture_counts_for_the_fingerprint(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.bmp")
    before = ImageFolder.open(tmp_path).fingerprint
    content = bytearray((tmp_path / "a.bmp").read_bytes())
    content[len(content) // 3] ^= 1
    (tmp_path / "a.bmp").write_bytes(content)
    assert ImageFolder.open(tmp_path).fingerprint != before


def test_a_zip_of_pictures_gives_what_the_folder_gives(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "pictures" / "sub" / f"{number}.png", 50 * number)
    made = Path(shutil.make_archive(str(tmp_path / "pictures"), "zip", tmp_path / "pictures"))
    folder, archive = ImageFolder.open(tmp_path / "pictures"), ImageFolder.open(made)
    assert (archive.facts, archive.title) == (folder.facts, f"zip {made}")
    assert torch.equal(*(torch.cat(list(each.batches(2, never_stop))) for each in (folder, archive)))


def test_reading_for_the_fingerprint_is_shown_and_can_be_stopped(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / f"{number}.png")
    shown: list[tuple[str, int]] = []
    done = 0

    @contextmanager
    def progress(name: str, *, total: int, unit: str = "") -> Iterator[Advance]:
        def advance(count: int = 1) -> None:
            nonlocal done
            done += count

        shown.append((name, total))
        yield advance

    def stop_at_the_third() -> None:
        if done == 2:
            raise InterruptedError

    folder = ImageFolder.open(tmp_path, Work(progress=progress, check_stop=stop_at_the_third))
    with pytest.raises(InterruptedError):
        folder.facts  # noqa: B018
    assert (shown, done) == ([(f"fingerprint of folder {tmp_path}", 4)], 2)


def test_reading_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / f"{number}.png")
    asked = 0

    def stop_at_the_sixth() -> None:
        nonlocal asked
        asked += 1
        if asked == 6:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        list(ImageFolder.open(tmp_path).batches(1, stop_at_the_sixth))
    assert asked == 6

"""Files in a folder or zip that aren't read."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ncsnx.config.data_sets import Images
from ncsnx.data import open_data
from ncsnx.data.decoding import decode, further_frames
from ncsnx.data.readers.own_images import unread_by
from ncsnx.work import Work
from tests.data.pictures import save, zip_of


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCSNX_CACHE", str(tmp_path / "cache"))


def frames(count: int, kind: str, **options: object) -> bytes:
    """A picture with so many frames or pages."""
    noise = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    first, *others = map(Image.fromarray, noise)
    stream = io.BytesIO()
    first.save(stream, format=kind, save_all=True, append_images=others, **options)
    return stream.getvalue()


def unread(root: Path) -> str:
    return unread_by(Images(root=str(root), image_size=4), root.parent / "data", Work())


@pytest.mark.parametrize("packed", [False, True])
def test_everything_unread_is_counted_by_suffix(tmp_path: Path, packed: bool) -> None:
    root = tmp_path / "x"
    save(root / "a.png")
    (root / "stack.tif").write_bytes(frames(5, "TIFF"))
    (root / "two.tif").write_bytes(frames(2, "TIFF"))
    (root / "sub").mkdir()
    for name in ("a.svg", "sub/b.SVG", "c.heic", "LICENSE"):
        (root / name).write_bytes(b"?")
    assert unread(zip_of(tmp_path / "x.zip", root) if packed else root) == (
        "4 files were not read: 2 .svg, 1 without a suffix, 1 .heic; only the first page or frame of 2 files was read, "
        "not 5 others"
    )


def test_files_of_operating_systems_are_not_listed(tmp_path: Path) -> None:
    save(tmp_path / "x" / "a.png")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._a.png", "__MACOSX/b.svg", ".git/c.svg"):
        (tmp_path / "x" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "x" / name).write_bytes(b"?")
    assert unread(tmp_path / "x") == ""
    assert unread(zip_of(tmp_path / "x.zip", tmp_path / "x")) == ""


def test_of_many_kinds_some_are_named(tmp_path: Path) -> None:
    save(tmp_path / "x" / "a.png")
    for number in range(30):
        (tmp_path / "x" / f"a.{number:02d}\n{'y' * 100}").write_bytes(b"?")
    text = unread(tmp_path / "x")
    assert text.startswith("30 files were not read: ")
    assert text.endswith(", …")
    assert text.isprintable()


@pytest.mark.parametrize(
    ("kind", "name", "count"), [("TIFF", "x.tiff", 3), ("GIF", "x.gif", 3), ("PNG", "x.png", 3), ("WEBP", "x.webp", 3)]
)
def test_pages_and_frames_after_the_first_are_counted(kind: str, name: str, count: int) -> None:
    assert further_frames(frames(count + 1, kind), name) == (kind, count)
    assert further_frames(frames(1, kind), name) == (kind, 0)


def test_a_damaged_page_leaves_the_first_as_it_is() -> None:
    whole = frames(3, "TIFF")
    kind, count = further_frames(whole[: len(whole) // 2], "x.tif")
    assert kind == "TIFF"
    assert count < 2
    assert decode(whole[: len(whole) // 2], "x.tif").size == (8, 8)


def test_unread_files_are_one_line_and_only_when_the_pictures_are_scanned(tmp_path: Path) -> None:
    root = tmp_path / "x"
    save(root / "a.png")
    save(root / "b.png", 1)
    for name in ("a.svg", "b.svg", "c.mp4"):
        (root / name).write_bytes(b"?")
    said: list[str] = []
    data = Images(root=str(root), image_size=4, held_out=0)
    for _ in range(2):
        open_data(data, tmp_path, Work(info=said.append))
    assert [line for line in said if "not read" in line] == [f"{root}: 3 files were not read: 2 .svg, 1 .mp4"]

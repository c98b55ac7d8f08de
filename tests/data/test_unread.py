"""Files in a folder or zip that aren't read."""

from pathlib import Path

import pytest

from ncsnx.config.data_sets import Images
from ncsnx.data import open_data
from ncsnx.data.image_files import ImageFiles
from ncsnx.data.readers.own_images import unread_in_words
from ncsnx.work import Work
from tests.data.pictures import save, zip_of


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCSNX_CACHE", str(tmp_path / "cache"))


def unread(root: Path) -> str:
    return unread_in_words(ImageFiles.open(root))


@pytest.mark.parametrize("packed", [False, True])
def test_everything_unread_is_counted_by_suffix(tmp_path: Path, packed: bool) -> None:
    root = tmp_path / "x"
    save(root / "a.png")
    (root / "sub").mkdir()
    for name in ("a.svg", "sub/b.SVG", "c.heic", "LICENSE"):
        (root / name).write_bytes(b"?")
    text = unread(zip_of(tmp_path / "x.zip", root) if packed else root)
    assert text == "4 files were not read: 2 .svg, 1 without a suffix, 1 .heic"


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

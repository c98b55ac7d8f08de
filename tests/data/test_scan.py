"""Scans of sets of pictures."""

from pathlib import Path

import pytest
from PIL import Image

from ncsnx.data import scan
from ncsnx.data.image_files import ImageFiles
from ncsnx.data.readers.own_images import unread_in_words
from ncsnx.data.scan import Scan, scan_of, scan_path, sound_files
from ncsnx.errors import NcsnxError
from ncsnx.storage.cache import cache_folder
from ncsnx.work import Work
from tests.data.pictures import mixed, save, zip_of
from tests.data.watching import Watcher

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")


def with_broken_ones(root: Path, broken: int, sound: int = 8) -> ImageFiles:
    mixed(root, sound)
    root.mkdir(exist_ok=True)
    for number in range(broken):
        (root / f"broken{number:02d}.png").write_bytes(b"" if number % 2 else b"text")
    return ImageFiles.open(root)


def test_modes_and_sizes_are_counted(tmp_path: Path) -> None:
    mixed(tmp_path / "x", 8)
    save(tmp_path / "x" / "long.png", size=(40, 2), mode="P")
    save(tmp_path / "x" / "large.png", size=(30, 20), mode="L")
    found = scan_of(ImageFiles.open(tmp_path / "x"), Work())
    assert found == Scan(
        broken={},
        modes={"L": 1, "P": 1, "RGB": 6, "RGBA": 2},  # WebP has no gray mode
        gray=3,
        sizes=((6, 5, 8), (40, 2, 1), (30, 20, 1)),
        further_pages=0,
    )
    assert found.sound == 10
    assert [found.smaller_than((side, side)) for side in (2, 3, 6, 20, 21)] == [0, 1, 9, 9, 10]
    assert [found.smaller_than(size) for size in ((2, 41), (5, 7), (3, 6))] == [10, 9, 1]


def test_pages_and_frames_after_the_first_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "x"
    root.mkdir()
    first, *further = (Image.new("L", (6, 5), gray) for gray in (10, 20, 30))
    first.save(root / "stack.tif", save_all=True, append_images=further)
    first.save(root / "film.webp", save_all=True, append_images=further[:1])
    first.save(root / "camera.jpg", format="MPO", save_all=True, append_images=further)
    content = (root / "stack.tif").read_bytes()
    (root / "cut.tif").write_bytes(content[: len(content) * 3 // 4])  # within the directory of the last page
    save(root / "plain.png", size=(6, 5))
    files = ImageFiles.open(root)
    found = scan_of(files, Work())
    assert (found.sound, found.further_pages) == (5, 3)
    assert unread_in_words(files, found.further_pages).startswith("3 pages or frames were not read: ")
    (root / "notes.txt").touch()
    told = "1 file was not read: 1 .txt; 1 page or frame was not read: of each file, only the first is"
    assert unread_in_words(ImageFiles.open(root), 1) == told


def test_the_second_scan_comes_from_the_cache_and_is_equal(tmp_path: Path) -> None:
    files = with_broken_ones(tmp_path / "x", broken=3)
    first, second = Watcher(), Watcher()
    found = scan_of(files, first.work)
    assert first.jobs == [("scanning x", 11)]
    assert list(found.broken) == ["broken00.png", "broken01.png", "broken02.png"]
    assert scan_of(ImageFiles.open(tmp_path / "x"), second.work) == found
    assert second.jobs == []
    assert scan_path(files).is_relative_to(cache_folder())


def test_a_set_that_was_fixed_or_extended_is_scanned_again(tmp_path: Path) -> None:
    files = with_broken_ones(tmp_path / "x", broken=1)
    scan_of(files, Work())
    save(tmp_path / "x" / "new.png")
    assert scan_of(ImageFiles.open(tmp_path / "x"), Work()).sound == 9
    # fixed without a change of the fingerprint, whose sizes and sample may not show it
    known = ImageFiles.open(tmp_path / "x")
    assert known.fingerprint
    save(tmp_path / "x" / "broken00.png")
    assert scan_of(known, Work()).broken == {}


def test_several_processes_give_the_same_scan_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_broken_ones(tmp_path / "x", broken=9, sound=90)
    for path in (tmp_path / "x", zip_of(tmp_path / "x.zip", tmp_path / "x")):
        files = ImageFiles.open(path)
        alone = scan._scan(files, Work())
        assert len(alone.broken) == 9
        with monkeypatch.context() as patch:
            patch.setattr(scan, "_ALONE_BYTES", 0)
            assert scan._scan(files, Work()) == alone


def test_a_stopped_scan_ends_and_nothing_is_cached(tmp_path: Path) -> None:
    def stop() -> None:
        raise InterruptedError

    files = with_broken_ones(tmp_path / "x", broken=0, sound=40)
    with pytest.raises(InterruptedError):
        scan_of(files, Watcher(check_stop=stop).work)
    watcher = Watcher()
    scan_of(files, watcher.work)
    assert watcher.jobs == [("scanning x", 40)]


def test_all_broken_files_are_named_at_once_with_what_to_do(tmp_path: Path) -> None:
    files = with_broken_ones(tmp_path / "x", broken=3)
    with pytest.raises(NcsnxError) as error:
        sound_files(files, scan_of(files, Work()), "refuse", Work())
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'x'}: 3 of 11 pictures cannot be used: broken00.png: is not a picture of ")
    assert "; broken01.png: is empty; broken02.png: " in message
    assert "fix or remove them, or skip them with on_error='skip' (in an experiment: data.on_error=skip)" in message


def test_broken_files_can_be_skipped_with_a_warning_that_counts_them(tmp_path: Path) -> None:
    files, watcher = with_broken_ones(tmp_path / "x", broken=7), Watcher()
    rest = sound_files(files, scan_of(files, Work()), "skip", watcher.work)
    assert (len(rest), len(files)) == (8, 15)
    (warning,) = watcher.warnings
    assert "7 of 15 pictures cannot be used: broken00.png" in warning
    assert "broken04.png" in warning
    assert "broken05.png" not in warning
    assert "; and 2 more" in warning


def test_a_set_without_sound_pictures_is_always_refused(tmp_path: Path) -> None:
    files = with_broken_ones(tmp_path / "x", broken=2, sound=0)
    with pytest.raises(NcsnxError, match="2 of 2 pictures cannot be used") as error:
        sound_files(files, scan_of(files, Work()), "skip", Work())
    assert "skip" not in str(error.value)


def test_a_name_with_a_line_break_is_shown_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a\nb.png").write_bytes(b"")
    files = ImageFiles.open(tmp_path / "x")
    with pytest.raises(NcsnxError, match=r"a\\nb.png: is empty"):
        sound_files(files, scan_of(files, Work()), "refuse", Work())

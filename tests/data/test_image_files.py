"""Untrusted folders and zips of pictures."""

import os
import pickle
import random
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ncsnx.data import image_files
from ncsnx.data.decoding import BrokenImageError
from ncsnx.data.image_files import ImageFiles, is_unsafe
from ncsnx.errors import NcsnxError
from tests.data.pictures import zip_of, zipped

NAMES = ["b.PNG", "a/z.jpg", "a.jpeg", "a/b/c.Tiff", "c.webp", "d.bmp", "e.tif", "z.d/x.png"]
OTHERS = ["notes.txt", ".hidden.png", ".folder/x.png", "a/.DS_Store", "png", "__MACOSX/a/._z.jpg", "__MACOSX/y.png"]
SORTED = ["a/b/c.Tiff", "a/z.jpg", "a.jpeg", "b.PNG", "c.webp", "d.bmp", "e.tif", "z.d/x.png"]


def written(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def test_pictures_of_a_folder_and_of_a_zip_are_found_in_any_case_and_in_one_order(tmp_path: Path) -> None:
    folder = written(tmp_path / "pictures", NAMES + OTHERS)
    packed = zip_of(tmp_path / "a_zip_without_its_suffix", folder)
    for path in (folder, packed):
        files = ImageFiles.open(path)
        assert list(files.names) == SORTED
        assert len(files) == 8
        assert [files.read(name) for name in files.names] == [name.encode() for name in SORTED]
        assert files.sizes == [len(name) for name in SORTED]


def test_links_are_followed(tmp_path: Path) -> None:
    written(tmp_path / "elsewhere", ["b.png", "deep/c.png"])
    folder = written(tmp_path / "data", ["a.png"])
    (folder / "far").symlink_to(tmp_path / "elsewhere")
    (folder / "link.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    files = ImageFiles.open(folder)
    assert files.names == ("a.png", "far/b.png", "far/deep/c.png", "link.png")
    assert files.read("link.png") == b"b.png"


@pytest.mark.parametrize(("link", "target"), [("inner/up", ".."), ("alias", "inner"), ("ring", "../ring")])
def test_a_link_to_a_folder_that_is_in_the_set_already_is_refused(tmp_path: Path, link: str, target: str) -> None:
    folder = written(tmp_path / "data", ["inner/a.png"])
    written(tmp_path / "ring", ["x.png"])
    (tmp_path / "ring" / "back").symlink_to(folder)
    (folder / link).symlink_to(target)
    with pytest.raises(NcsnxError, match=rf"{link}.* are the same folder; remove the link"):
        ImageFiles.open(folder)


def test_entries_named_like_pictures_that_are_not_files_are_broken_and_do_not_block(tmp_path: Path) -> None:
    written(tmp_path, ["good.png"])
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    files = ImageFiles.open(tmp_path)
    for name in ("pipe.png", "gone.png", "loop.png"):
        with pytest.raises(BrokenImageError, match=f"{name}: cannot be read: "):
            files.read(name)
    with pytest.raises(NcsnxError, match=r"cannot read .*gone\.png: "):
        _ = files.sizes


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.png")).write_bytes(b"")
    with pytest.raises(NcsnxError, match="has a name that is not UTF-8"):
        ImageFiles.open(tmp_path)


def test_without_pictures_the_error_names_the_expected_and_the_found_files(tmp_path: Path) -> None:
    written(tmp_path / "other", ["a.gif", "b.gif", "c.heic"])
    with pytest.raises(NcsnxError, match=r"\.png, .*\.webp.*only other files \(2 with \.gif, 1 with \.heic\)"):
        ImageFiles.open(tmp_path / "other")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NcsnxError, match=r"empty: expected pictures .* found none"):
        ImageFiles.open(tmp_path / "empty")
    with pytest.raises(NcsnxError, match="found nothing"):
        ImageFiles.open(tmp_path / "missing")
    (tmp_path / "cut.zip").write_bytes(b"PK\3\4 and no more")
    with pytest.raises(NcsnxError, match=r"cut\.zip: .* found a zip that cannot be read"):
        ImageFiles.open(tmp_path / "cut.zip")
    (tmp_path / "not.zip").write_bytes(b"not a zip")
    with pytest.raises(NcsnxError, match=r"not\.zip: .* found another file"):
        ImageFiles.open(tmp_path / "not.zip")
    (tmp_path / "cat.png").write_bytes(b"\x89PNG")
    with pytest.raises(NcsnxError, match=r"cat\.png: .* found one picture"):
        ImageFiles.open(tmp_path / "cat.png")


@pytest.mark.parametrize("name", ["/etc/a.png", "x/../../a.png", "..\\a.png", "C:/a.png", "../hidden/.notes.txt"])
def test_zip_members_that_leave_the_folder_are_refused_by_name(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "x.zip", {"good.png": b"1", name: b"2"})
    with pytest.raises(NcsnxError) as error:
        ImageFiles.open(path)
    assert f"x.zip: {name} has an absolute path, or one with" in str(error.value)


def test_a_nul_in_a_members_name_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"good.png": b"1", "bad.pngQ.txt": b"2"})
    path.write_bytes(path.read_bytes().replace(b"bad.pngQ.txt", b"bad.png\0.txt"))
    with pytest.raises(NcsnxError, match="a NUL") as error:
        ImageFiles.open(path)
    assert "\0" not in str(error.value)


def test_encrypted_members_are_refused_by_name(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a.png": b"1"}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1  # the flag in the central directory
    path.write_bytes(content)
    with pytest.raises(NcsnxError, match=r"a\.png is encrypted"):
        ImageFiles.open(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_doubled_members_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a.png", "b.png", "./a.png"):
            archive.writestr(name, b"1")
    with pytest.raises(NcsnxError, match=r"a\.png is in the zip twice"):
        ImageFiles.open(path)


def test_decompression_bombs_are_refused_by_name(tmp_path: Path) -> None:
    bomb = zipped(tmp_path / "x.zip", {"a.png": bytes(70 * 2**20), "black.png": bytes(2**20)})
    with pytest.raises(NcsnxError, match=r"a\.png would unpack from 7\d,\d+ to 73,400,320 bytes"):
        ImageFiles.open(bomb)
    slow = zipped(tmp_path / "y.zip", {"a.png": b"1"}, zipfile.ZIP_LZMA)
    with pytest.raises(NcsnxError, match=r"a\.png is compressed with another method than deflate"):
        ImageFiles.open(slow)


def test_a_member_never_unpacks_to_more_than_it_declares(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a.png": bytes(40 * 2**20)})
    content = path.read_bytes()
    lie = content.replace(struct.pack("<I", 40 * 2**20), struct.pack("<I", 100))
    assert lie != content
    path.write_bytes(lie)
    files = ImageFiles.open(path)
    tracemalloc.start()
    with pytest.raises(BrokenImageError, match=r"a\.png: cannot be read: Bad CRC"):
        files.read("a.png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text("ab.:/\\\0 é", min_size=1, max_size=8), min_size=1, max_size=4, unique=True))
def test_whatever_their_names_members_stay_below_the_root(tmp_path: Path, names: list[str]) -> None:
    members = {name + ".png": name.encode() for name in names}
    for name in members:
        if not is_unsafe(name):
            assert (tmp_path / name).resolve().is_relative_to(tmp_path.resolve())
    # zipfile doesn't write a NUL
    path = zipped(tmp_path / "x.zip", {name: content for name, content in members.items() if "\0" not in name})
    try:
        files = ImageFiles.open(path)
    except NcsnxError:
        return
    assert not any(is_unsafe(name) for name in members if "\0" not in name)
    for name in files.names:
        assert ".." not in name.split("/")
        assert files.read(name) in members.values()


def test_the_fingerprint_depends_on_names_and_contents_but_not_on_the_path(tmp_path: Path) -> None:
    def fingerprint(folder: Path) -> tuple[str, str]:
        return ImageFiles.open(folder).fingerprint, ImageFiles.open(zip_of(tmp_path / "z", folder)).fingerprint

    first = written(tmp_path / "one", NAMES)
    second = written(tmp_path / "two", NAMES)
    before = fingerprint(first)
    assert fingerprint(second) == before
    (second / "a.jpeg").write_bytes(b"A.jpeg")
    assert all(a != b for a, b in zip(fingerprint(second), before, strict=True))
    (first / "a.jpeg").rename(first / "aa.jpeg")
    assert all(a != b for a, b in zip(fingerprint(first), before, strict=True))


def test_the_fingerprint_of_many_files_covers_all_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "SAMPLED_FILES", 5)
    folder = written(tmp_path, [f"{number:02d}.png" for number in range(23)])
    marks = {ImageFiles.open(folder).fingerprint}
    for number in range(23):
        (folder / f"{number:02d}.png").write_bytes(b"longer than it was")
        marks.add(ImageFiles.open(folder).fingerprint)
    assert len(marks) == 24


def test_each_process_opens_a_zip_for_itself(tmp_path: Path) -> None:
    generator = random.Random(0)
    members = {f"{number}.png": generator.randbytes(200_000) for number in range(8)}
    files = ImageFiles.open(zipped(tmp_path / "x.zip", members))
    files.read("0.png")
    sent = pickle.loads(pickle.dumps(files))
    assert (sent.names, sent.fingerprint) == (files.names, files.fingerprint)
    child = os.fork()
    if child == 0:  # reads while its parent does; with a shared file, both would move one position
        good = all(files.read(name) == content for _ in range(20) for name, content in members.items())
        os._exit(0 if good else 1)
    good = all(files.read(name) == content for _ in range(20) for name, content in members.items())
    assert os.waitpid(child, 0)[1] == 0
    assert good
    assert sent.read("7.png") == members["7.png"]

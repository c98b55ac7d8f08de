"""Untrusted `.npy` and `.npz` files: errors are found in the header, before a value is read."""

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ncsnx.errors import NcsnxError
from ncsnx.storage.numpy_files import COMPLEX, REAL, ExpectedArray, NumpyFile, read_arrays
from tests.storage.giants import forged_zip, header, sparse_npy, zeros_npz

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)
HUGE = 2**42
"""More than four times the memory of any machine, but allowed as a file size on any file system."""


def saved(path: Path, save: Callable[..., Any] = np.savez, **arrays: Any) -> Path:
    save(path, **arrays)
    return path


def complaint(path: Path, name: str | None = None) -> str:
    with pytest.raises(NcsnxError) as error:
        NumpyFile.open(path).read(name)
    text = str(error.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    assert len(text) < len(str(path)) + 400
    return text


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [".npy", "stored", "compressed"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_an_array_is_read_and_mapped_as_numpy_wrote_it(
    tmp_path: Path, kind: str, order: Any, version: tuple[int, int]
) -> None:
    values = np.asarray(VALUES, order=order, dtype=">f4")
    stream = io.BytesIO()
    np.lib.format.write_array(stream, values, version=version)
    path, name = tmp_path / "x", None if kind == ".npy" else "values"
    if name is None:
        path.write_bytes(stream.getvalue())
    else:
        with zipfile.ZipFile(
            path, "w", zipfile.ZIP_DEFLATED if kind == "compressed" else zipfile.ZIP_STORED
        ) as archive:
            archive.writestr("first.npy", header((0,), "f4"))
            archive.writestr("values.npy", stream.getvalue())
    file = NumpyFile.open(path)
    assert file.names == (None if name is None else ("first", "values"))
    found = file.header(name)
    assert (found.shape, found.dtype, found.nbytes) == ((3, 4), np.dtype(">f4"), 48)
    for read in (file.read(name), file.mapped(name)):
        assert np.array_equal(read, VALUES)
    assert isinstance(file.mapped(name), np.memmap) == (kind != "compressed")


def test_an_empty_array_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npz", none=np.zeros((0, 4)), one=np.float64(3))
    file = NumpyFile.open(path)
    for read in (file.read, file.mapped):
        assert read("none").shape == (0, 4)
        assert read("one") == 3


HEADERS: dict[str, tuple[bytes, str]] = {
    "more than follows": (header((100, 100), "f8") + bytes(800), r"declares float64 of shape \(100, 100\) \(80,000 by"),
    "less than follows": (header((2,), "f8") + bytes(800), r"\(16 bytes\), but holds 800 bytes; get a complete copy"),
    "negative": (header((-1, 8), "f8"), r"declares the impossible shape \(-1, 8\)"),
    "twice negative": (header((-2, -4), "f8") + bytes(64), r"declares the impossible shape \(-2, -4\)"),
    "overflow beside nothing": (header((10**30, 0), "f8"), "declares the impossible shape"),
    "overflow": (header((2**32, 2**32, 2), "f8"), "declares the impossible shape"),
    "overflow to nothing": (header((2**32, 2**32), "u1"), "declares the impossible shape"),
    "too many axes": (header((1,) * 65, "u1") + bytes(1), "declares the impossible shape"),
    "digits": (header((10**4200,), "u1"), "declares the impossible shape|is not a valid"),
    "objects": (header((3,), "O") + bytes(24), "holds Python objects, which are never unpickled"),
    "records": (header((3,), "f8,i4") + bytes(36), "holds records of .*; save each field as a separate array"),
    "long records": (header((3,), ",".join(["f8"] * 200)) + bytes(4800), "holds records of"),
    "arrays of arrays": (
        header((3,), "f8").replace(b"'<f8'", b"('<f8', 9)").replace(b" " * 5, b"", 1) + bytes(216),
        "holds records of",
    ),
    "no magic": (b"\x93NUMPX" + header((3,), "f8")[6:], "expected a .npy or .npz file, found something else"),
    "unknown version": (b"\x93NUMPY\x09\x00" + header((3,), "f8")[8:], "the .npy version 9.0 is unknown"),
    "long header": (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + bytes(2**17), "expected 4294967295 bytes"),
    "wordy header": (b"\x93NUMPY\x01\x00" + struct.pack("<H", 2**16 - 12) + b"(" * 2**16, "is not a valid"),
    "no header": (b"\x93NUMPY\x01\x00", "is not a valid .npy"),
    "nothing": (b"", "is empty"),
}


@pytest.mark.parametrize("member", [False, True], ids=["npy", "npz"])
@pytest.mark.parametrize("case", HEADERS)
def test_an_invalid_header_is_one_line(tmp_path: Path, case: str, member: bool) -> None:
    content, told = HEADERS[case]
    path = tmp_path / "x"
    if not member:
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("values.npy", content)
        told = "is not a valid .npy" if case in ("nothing", "no magic") else told
    with pytest.raises(NcsnxError, match=told):
        NumpyFile.open(path).header("values" if member else None)
    complaint(path, "values" if member else None)


@pytest.mark.filterwarnings("ignore:Stored array in format 3.0")
def test_fields_with_names_of_other_alphabets_are_records(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(2, dtype=[("ф", "f8")]))  # version 3 of the format
    assert "holds records of" in complaint(tmp_path / "x.npy")


def patched(content: bytes, mark: bytes, place: int, new: bytes) -> bytes:
    """The content with `new` at `place` after each `mark`."""
    changed, at = bytearray(content), content.find(mark)
    while at >= 0:
        changed[at + place : at + place + len(new)] = new
        at = content.find(mark, at + 1)
    return bytes(changed)


DIRECTORY, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"
NUMBER = struct.Struct("<I").pack
ARCHIVES: dict[str, Callable[[bytes], bytes]] = {
    "an offset elsewhere": lambda content: patched(content, DIRECTORY, 42, NUMBER(7)),
    "an offset beyond the file": lambda content: patched(content, DIRECTORY, 42, NUMBER(2**31)),
    "a compressed size beyond the file": lambda content: patched(content, DIRECTORY, 20, NUMBER(2**31)),
    "no compressed size": lambda content: patched(content, DIRECTORY, 20, NUMBER(0)),
    "an unpacked size that is larger": lambda content: patched(content, DIRECTORY, 24, NUMBER(2**31)),
    "an unpacked size that is smaller": lambda content: patched(content, DIRECTORY, 24, NUMBER(100)),
    "another checksum": lambda content: patched(content, DIRECTORY, 16, NUMBER(1)),
    "encryption": lambda content: patched(content, DIRECTORY, 8, b"\x01\x00"),
    "another method": lambda content: patched(content, DIRECTORY, 10, b"\x0c\x00"),
    "no local header": lambda content: patched(content, LOCAL, 2, b"\x00\x00"),
    "a directory beyond the file": lambda content: patched(content, END, 16, NUMBER(2**31)),
    "a directory longer than the file": lambda content: patched(content, END, 12, NUMBER(2**31)),
    "no directory": lambda content: content[:-30],
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("case", ARCHIVES)
def test_a_forged_archive_is_one_line(tmp_path: Path, case: str, save: Callable[..., Any]) -> None:
    path = saved(tmp_path / "x.npz", save, values=np.arange(200.0))
    path.write_bytes(ARCHIVES[case](path.read_bytes()))
    complaint(path, "values")


def test_a_huge_sparse_list_of_arrays_is_not_read(tmp_path: Path) -> None:
    path = forged_zip(tmp_path / "x.npz")
    tracemalloc.start()
    try:
        assert "has 4,294,901,756 bytes, and the limit for such files is 4,194,304" in complaint(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for name in ("mu.npy", "mu.npy"):
            archive.writestr(name, header((0,), "f8"))
    assert "holds 2 arrays called mu" in complaint(tmp_path / "x.npz", "mu")


def test_an_array_larger_than_memory_is_mapped_but_not_read(tmp_path: Path) -> None:
    try:
        path = sparse_npy(tmp_path / "x.npy", (HUGE // 8, 8), "u1")
    except OSError:
        pytest.skip("this file system has no files of such a size")
    file = NumpyFile.open(path)
    assert f"declares uint8 of shape ({HUGE // 8}, 8) ({HUGE:,} bytes), but" in complaint(path)
    assert file.mapped()[-1].tolist() == [0] * 8


def test_a_compressed_array_that_unpacks_to_much_more_is_refused(tmp_path: Path) -> None:
    path = zeros_npz(tmp_path / "x.npz", values=((2**27,), "u1"), few=((2**20,), "u1"))
    told = complaint(path, "values")
    assert "would unpack to uint8 of shape (134217728,) (134,217,728 bytes)" in told
    assert "save it without compression" in told
    assert NumpyFile.open(path).read("few").sum() == 0


EXPECTED = {
    "kspace": ExpectedArray("complex numbers", COMPLEX, ((2, 2), ("P", 2, 2))),
    "mask": ExpectedArray("numbers", REAL, ((2, 2),)),
    "range": ExpectedArray("numbers", REAL, ((2,),), optional=True),
}


def test_expected_arrays_are_read(tmp_path: Path) -> None:
    kspace, mask = np.ones((3, 2, 2), dtype=np.complex64), np.eye(2, dtype=bool)
    path = saved(tmp_path / "x.npz", kspace=kspace, mask=mask)
    found = read_arrays(path, EXPECTED, "save it so")
    assert set(found) == {"kspace", "mask"}
    assert np.array_equal(found["kspace"], kspace)
    assert set(read_arrays(saved(path, kspace=kspace, mask=mask, range=[0, 1]), EXPECTED, "")) == set(EXPECTED)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        (
            {"maps": np.ones((4, 2, 2))},
            "mask (optional: range), found kspace, mask, maps: maps is not understood; save it so",
        ),
        (
            {"kspace": np.ones((2, 2))},
            "kspace: expected complex numbers of shape (2, 2) or (P, 2, 2), found float64",
        ),
        ({"kspace": np.ones((0, 2, 2)) * 1j}, "found complex128 of shape (0, 2, 2) (0 bytes)"),
        ({"mask": np.ones((3, 2))}, "array mask: expected numbers of shape (2, 2), found float64 of shape (3, 2)"),
        ({"mask": None}, "found kspace: mask is missing; save it so"),
        ({"mask": None, "kspace": None}, "found none: kspace and mask are missing; save it so"),
        (
            {"mask": None, "kspace": None, "maps": np.ones(3)},
            "found maps: kspace and mask are missing, and maps is not understood; save it so",
        ),
        ({"range": np.ones(3)}, "array range: expected numbers of shape (2,), found"),
        ({"\x1b[31m": np.ones(3)}, r"'\x1b[31m' is not understood"),
        ({"x" * 200: np.ones(3)}, "(202 characters) is not understood"),
        ({f"x{number}": np.ones(3) for number in range(20)}, "x7 and 12 more are not understood"),
    ],
)
def test_other_arrays_and_other_shapes_are_refused_by_name(tmp_path: Path, arrays: dict[str, Any], told: str) -> None:
    sound = {"kspace": np.ones((2, 2)) * 1j, "mask": np.ones((2, 2))}
    path = saved(tmp_path / "x.npz", **{name: array for name, array in (sound | arrays).items() if array is not None})
    with pytest.raises(NcsnxError) as error:
        read_arrays(path, EXPECTED, "save it so")
    assert told in str(error.value)
    assert str(error.value).isprintable()


def test_ignored_names_are_not_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npz", kspace=np.ones((2, 2)) * 1j, mask=np.ones((2, 2)), other=np.array([object()]))
    assert set(read_arrays(path, EXPECTED, "", ignored=["other"])) == {"kspace", "mask"}


def _files() -> list[bytes]:
    contents = []
    for save in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        save(stream, values=VALUES, other=np.arange(3))
        contents.append(stream.getvalue())
    stream = io.BytesIO()
    np.save(stream, VALUES)
    return [*contents, stream.getvalue()]


FILES = _files()
MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, 2**16), st.one_of(st.binary(max_size=4), st.sampled_from([b"9" * 9, b"(-", b"|O", b"U9"]))
    ),
    max_size=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.sampled_from(FILES), mutations=MUTATIONS, kept=st.one_of(st.none(), st.integers(0, 800)))
def test_any_change_to_a_file_gives_at_most_one_line_and_takes_little_memory(
    tmp_path: Path, content: bytes, mutations: list[tuple[int, bytes]], kept: int | None
) -> None:
    changed = bytearray(content)
    for place, new in mutations:
        place %= len(changed)
        changed[place : place + len(new)] = new
    path = tmp_path / "x.npz"
    path.write_bytes(bytes(changed[:kept]))
    tracemalloc.start()
    try:
        said = _reading_everything(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**22
    assert said is None or (said.startswith(str(path)) and "\n" not in said)


def _reading_everything(path: Path) -> str | None:
    """Reads all arrays; returns the error message, or None."""
    try:
        file = NumpyFile.open(path)
        for name in file.names if file.names is not None else [None]:
            assert file.read(name).nbytes == file.header(name).nbytes
            file.mapped(name)
    except NcsnxError as error:
        return str(error)
    return None

"""Arrays from others, as their own libraries write them: read lazily, and refused in one line by their headers."""

import gzip
import os
import re
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ncsnx.errors import NcsnxError
from ncsnx.storage import array_files
from ncsnx.storage.array_files import COMPLEX, REAL, ExpectedArray, open_array_file, read_arrays
from tests.storage.giants import forged_zip, header, sparse_npy, zeros_npz
from tests.storage.matlab import matlab_73

RANDOM = np.random.default_rng(0)
KSPACE = (RANDOM.normal(size=(3, 4, 5)) + 1j * RANDOM.normal(size=(3, 4, 5))).astype("complex64")
MASK = np.eye(4, 5)
EXPECTED = {
    "kspace": ExpectedArray("complex numbers", COMPLEX, ((4, 5), ("P", 4, 5))),
    "mask": ExpectedArray("zeros and ones", REAL, ((4, 5),)),
    "range": ExpectedArray("real numbers", REAL, ((2,),), optional=True),
}
ARRAYS = {"kspace": KSPACE, "mask": MASK, "range": np.array([0.0, 2.0])}


def hdf5(path: Path, arrays: dict[str, Any], **options: Any) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, **options)


def nifti(path: Path, values: Any, kind: type = nibabel.Nifti1Image, dtype: Any = None) -> None:
    image = kind(values, np.eye(4))
    image.set_data_dtype(dtype or values.dtype)
    image.to_filename(path)


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "npz": ("x.npz", lambda path: np.savez(path, **ARRAYS)),
    "hdf5": ("x.h5", lambda path: hdf5(path, ARRAYS)),
    "hdf5 packed": ("x.hdf5", lambda path: hdf5(path, ARRAYS, compression="gzip", chunks=True)),
    "npz packed": ("x.npz", lambda path: np.savez_compressed(path, **ARRAYS)),
    "matlab 7.3": ("x.mat", lambda path: matlab_73(path, ARRAYS)),
}


def complaint(path: Path, name: str | None = None) -> str:
    with pytest.raises(NcsnxError) as error:
        open_array_file(path).array(name).read()
    text = str(error.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    assert len(text) < len(str(path)) + 400
    return text


@pytest.mark.parametrize("kind", WRITERS)
def test_named_arrays_and_their_slices_are_the_same_from_every_format(tmp_path: Path, kind: str) -> None:
    name, write = WRITERS[kind]
    write(tmp_path / name)

    found = read_arrays(tmp_path / name, EXPECTED, "save it so")

    assert {name: (values.shape, values.dtype) for name, values in found.items()} == {
        name: (values.shape, values.dtype) for name, values in ARRAYS.items()
    }
    assert all(np.array_equal(values, ARRAYS[name]) for name, values in found.items())
    mapped = open_array_file(tmp_path / name).array("kspace")

    assert mapped.shape == KSPACE.shape
    assert np.array_equal(mapped[:, :, 2], KSPACE[:, :, 2])
    assert np.array_equal(mapped[1, 1:3, :], KSPACE[1, 1:3])


@pytest.mark.parametrize(
    ("suffix", "kind", "dtype"),
    [
        (".nii", nibabel.Nifti1Image, ">f4"),
        (".nii", nibabel.Nifti2Image, "u1"),
        (".nii.gz", nibabel.Nifti1Image, "c8"),
        (".nii.gz", nibabel.Nifti2Image, "i2 scaled"),
    ],
)
def test_a_nifti_is_read_as_nibabel_reads_it(tmp_path: Path, suffix: str, kind: type, dtype: str) -> None:
    path = tmp_path / f"x{suffix}"
    values = (KSPACE * 20).astype("c8") if dtype == "c8" else np.abs(KSPACE * 20)
    stored = dtype.removesuffix(" scaled")
    nifti(path, values if dtype == "i2 scaled" else values.astype(stored), kind, stored)
    file = open_array_file(path)

    expected = np.asarray(nibabel.load(path).dataobj)

    assert file.names is None
    np.testing.assert_allclose(file.array().read(), expected, rtol=1e-6)
    assert file.array().read().dtype.isnative
    assert np.array_equal(file.array()[:, 1, :], file.array().read()[:, 1])


def test_groups_give_paths_and_other_data_sets_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    hdf5(path, {"scans/first/rss": MASK, "ismrmrd_header": "<xml/>", "names": np.array([b"a"], "S1")})
    with h5py.File(path, "a") as written:
        written["scans/again"] = written["scans"]  # a group that contains itself

    file = open_array_file(path)

    assert file.names == ("scans/first/rss",)
    assert np.array_equal(file.array("scans/first/rss").read(), MASK)
    assert "is not there; the file holds 'scans/first/rss'" in complaint(path, "ismrmrd_header")


def test_a_missing_name_lists_those_that_are_there(tmp_path: Path) -> None:
    hdf5(tmp_path / "x.h5", {"kspace": KSPACE, "maps": MASK})
    matlab_73(tmp_path / "x.mat", {"kspace": KSPACE, "maps": MASK})
    for name in ("x.h5", "x.mat"):
        assert "array rss: is not there; the file holds kspace, maps" in complaint(tmp_path / name, "rss")
        with pytest.raises(NcsnxError, match=r"found kspace, maps \(not understood: maps\); save it so"):
            read_arrays(tmp_path / name, EXPECTED, "save it so")


def test_values_in_other_files_are_never_read(tmp_path: Path) -> None:
    secret, path = tmp_path / "secret.h5", tmp_path / "x.h5"
    hdf5(secret, {"values": MASK})
    (tmp_path / "secret.raw").write_bytes(bytes(64))
    layout = h5py.VirtualLayout((4, 5), "f8")
    layout[:] = h5py.VirtualSource(secret, "values", (4, 5))
    with h5py.File(path, "w") as file:
        file["own"] = MASK
        file["external"] = h5py.ExternalLink(secret, "/values")
        file["soft"] = h5py.SoftLink("/external")
        file.create_dataset("raw", (8,), "f8", external=[(str(tmp_path / "secret.raw"), 0, 64)])
        file.create_virtual_dataset("virtual", layout)
        file["group/inside"] = h5py.ExternalLink(secret, "/values")

    assert "own" in (open_array_file(path).names or ())
    for name in ("external", "soft", "group/inside"):
        assert f"array {name!r}: is not there" in complaint(path, name).replace(f"array {name}:", f"array {name!r}:")
    for name in ("raw", "virtual"):
        assert "its values are in other files, which are not read" in complaint(path, name)


def test_a_small_file_that_declares_terabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("values", (2**24, 2**24), "f8", chunks=(64, 64), compression="gzip")
    assert "declares" in complaint(tmp_path / "x.h5", "values")

    nifti(tmp_path / "x.nii.gz", MASK.astype("f4"))
    begin = bytearray(gzip.decompress((tmp_path / "x.nii.gz").read_bytes()))
    begin[40:48] = struct.pack("<4h", 3, 32767, 32767, 32767)
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(bytes(begin)))
    (tmp_path / "x.nii").write_bytes(bytes(begin))
    assert "declares" in complaint(tmp_path / "x.nii.gz")
    assert "declares" in complaint(tmp_path / "x.nii")


def test_other_files_are_refused_with_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_text("no")
    assert "expected a .npy, .npz, safetensors, HDF5, MATLAB 7.3 or NIfTI file, found something else" in complaint(
        tmp_path / "x.h5"
    )
    (tmp_path / "x.dcm").write_bytes(bytes(128) + b"DICM")
    assert "dcm2niix" in complaint(tmp_path / "x.dcm")
    scipy.io.savemat(tmp_path / "x.mat", {"x": MASK})
    assert "MATLAB: save(…, '-v7.3')" in complaint(tmp_path / "x.mat")
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in complaint(tmp_path / "pipe")
    nifti(tmp_path / "x.nii", KSPACE)
    with pytest.raises(NcsnxError, match="found one array without a name; save it so"):
        read_arrays(tmp_path / "x.nii", EXPECTED, "save it so")


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hdf5(tmp_path / "x.h5", ARRAYS)
    monkeypatch.setattr(array_files.importlib.util, "find_spec", lambda name: None)
    text = complaint(tmp_path / "x.h5")
    assert "HDF5 needs an extra that is not installed" in text
    assert "pip install '.[science]'" in text


VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)
HUGE = 2**42
"""More than four times the memory of any machine, but allowed as a file size on any file system."""


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_an_array_is_read_and_mapped_as_numpy_wrote_it(tmp_path: Path, order: Any, version: tuple[int, int]) -> None:
    with (tmp_path / "x").open("wb") as opened:
        np.lib.format.write_array(opened, np.asarray(VALUES, order=order, dtype=">f4"), version=version)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.write(tmp_path / "x", "values.npy")
    for path, names in ((tmp_path / "x", None), (tmp_path / "x.npz", ("values",))):
        file, name = open_array_file(path), names and names[0]
        found = file.array(name)
        assert file.names == names
        assert (found.shape, found.dtype, found.nbytes) == ((3, 4), np.dtype(">f4"), 48)
        assert found.is_packed == (names is not None)
        assert np.array_equal(found.read(), VALUES)
        assert np.array_equal(found.rows([2, 0]), VALUES[[2, 0]])


def test_an_empty_array_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", none=np.zeros((0, 4)), one=np.float64(3))
    file = open_array_file(tmp_path / "x.npz")
    assert file.array("none").read().shape == (0, 4)
    assert file.array("one").read() == 3


HEADERS = {
    "more than follows": header((100, 100), "f8") + bytes(800),
    "negative": header((-1, 8), "f8"),
    "overflow": header((2**62, 4), "f8"),
    "digits": header((10**4200,), "u1"),
    "records": header((3,), "f8,i4") + bytes(36),
    "a header of gigabytes": b"\x93NUMPY\x02\x00" + bytes([255] * 4),
    "unknown version": b"\x93NUMPY\x09\x00" + header((3,), "f8")[8:],
    "no header": b"\x93NUMPY\x01\x00",
}


@pytest.mark.parametrize("case", HEADERS)
def test_an_invalid_header_is_one_line(tmp_path: Path, case: str) -> None:
    (tmp_path / "x").write_bytes(HEADERS[case])
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("values.npy", HEADERS[case])
    told = "found .*; convert it" if case == "records" else "cannot be read: .*; get a complete copy"
    assert re.search(told, complaint(tmp_path / "x"))
    assert re.search(told, complaint(tmp_path / "x.npz", "values"))


def test_a_huge_sparse_list_of_arrays_is_not_read(tmp_path: Path) -> None:
    path = forged_zip(tmp_path / "x.npz")
    tracemalloc.start()
    try:
        assert "has 4,294,901,756 bytes, and the limit for such files is 4,194,304" in complaint(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    begin = b"\x93NUMPY\x02\x00" + (2**26).to_bytes(4, "little")
    (tmp_path / "x.npy").write_bytes(begin)
    os.truncate(tmp_path / "x.npy", 2**27)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("values.npy", begin + b" " * 2**26)
    tracemalloc.start()
    try:
        assert "cannot be read: " in complaint(tmp_path / "x.npy")
        assert "cannot be read: " in complaint(tmp_path / "x.npz", "values")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_an_array_larger_than_memory_is_mapped_but_not_read(tmp_path: Path) -> None:
    try:
        path = sparse_npy(tmp_path / "x.npy", (HUGE // 8, 8), "u1")
    except OSError:
        pytest.skip("this file system has no files of such a size")
    file = open_array_file(path)
    assert f"declares uint8 of shape ({HUGE // 8}, 8) ({HUGE:,} bytes), but" in complaint(path)
    assert file.array()[-1].tolist() == [0] * 8


def test_a_compressed_array_larger_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zeros_npz(tmp_path / "x.npz", values=((2**27,), "u1"), few=((2**20,), "u1"))
    monkeypatch.setattr(array_files, "available_memory", lambda: 2**28)
    assert "declares uint8 of shape (134217728,) (134,217,728 bytes), but at most 67,108,864" in complaint(
        path, "values"
    )
    assert open_array_file(path).array("few").read().sum() == 0


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"maps": MASK}, "mask (optional: range), found kspace, mask, maps (not understood: maps); save it so"),
        ({"kspace": MASK}, "kspace: expected complex numbers of shape (4, 5) or (P, 4, 5), found float64"),
        ({"kspace": KSPACE[:0]}, "found complex64 of shape (0, 4, 5) (0 bytes)"),
        ({"mask": np.ones((3, 5))}, "array mask: expected zeros and ones of shape (4, 5), found float64 of shape (3,"),
        ({"mask": None, "kspace": None}, "found none; save it so"),
        ({"\x1b[31m": MASK}, r"(not understood: '\x1b[31m')"),
        ({"x" * 200: MASK}, "(202 characters))"),
        ({f"x{number}": MASK for number in range(20)}, "x7, and 12 more)"),
    ],
)
def test_other_arrays_and_other_shapes_are_refused_by_name(tmp_path: Path, arrays: dict[str, Any], told: str) -> None:
    given = {"kspace": KSPACE, "mask": MASK} | arrays
    np.savez(tmp_path / "x.npz", **{name: array for name, array in given.items() if array is not None})
    with pytest.raises(NcsnxError) as error:
        read_arrays(tmp_path / "x.npz", EXPECTED, "save it so")
    assert told in str(error.value)
    assert str(error.value).isprintable()


DAMAGED = WRITERS | {
    "npy": ("x.npy", lambda path: np.save(path, VALUES)),
    "nifti": ("x.nii", lambda path: nifti(path, KSPACE)),
    "nifti packed": ("x.nii.gz", lambda path: nifti(path, KSPACE)),
    "safetensors": ("x.safetensors", lambda path: save_file({"a": VALUES}, path)),
}
CHANGES = st.one_of(st.binary(max_size=4), st.sampled_from([b"9" * 9, b"(-", b"|O", b"U9"]))


@pytest.mark.parametrize("kind", DAMAGED)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 2**16), CHANGES), max_size=6), kept=st.none() | st.integers(0, 800))
@example(changes=[(52_707, b"\x04\x04")], kept=None)  # a packed NIfTI that declares 131 MB
def test_any_change_to_a_file_gives_at_most_one_line_and_takes_little_memory(
    tmp_path: Path, kind: str, changes: list[tuple[int, bytes]], kept: int | None
) -> None:
    name, write = DAMAGED[kind]
    sound, path = tmp_path / f"sound-{name}", tmp_path / name
    if not sound.exists():
        write(sound)
    changed = bytearray(sound.read_bytes())
    for place, new in changes:
        place %= len(changed)
        changed[place : place + len(new)] = new
    path.write_bytes(changed[:kept])
    tracemalloc.start()
    try:
        said = read_everything(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**25, "beside what a library loads at its first use"
    assert said is None or (said.startswith(str(path)) and "\n" not in said and len(said) < len(str(path)) + 400)


def read_everything(path: Path) -> str | None:
    """Reads all arrays; returns the error message, or None."""
    try:
        file = open_array_file(path)
        for name in file.names if file.names is not None else [None]:
            assert file.array(name).read().nbytes == file.array(name).nbytes
    except NcsnxError as error:
        return str(error)
    return None


def test_a_safetensors_file_is_mapped_and_one_that_lies_is_refused(tmp_path: Path) -> None:
    values, path = np.arange(6, dtype=np.float32).reshape(2, 3), tmp_path / "x.safetensors"
    save_file({"a": values, "none": np.zeros((0, 4), np.int16)}, path)
    array = open_array_file(path).array("a")
    assert np.array_equal(array.rows([1, 0]), values[[1, 0]])
    assert open_array_file(path).array("none").read().shape == (0, 4)
    content = path.read_bytes()
    for old, new in ((b"[2,3]", b"[2,4]"), (b"[0,24]", b"[0,99]"), (b"[0,24]", b"[-24,0]"), (b'"F32"', b'"F64"')):
        path.write_bytes(content.replace(old, new))
        with pytest.raises(NcsnxError, match=r"x\.safetensors"):
            open_array_file(path).array("a").read()
    for damaged in (b"\xff" * 8 + b"{}", b"\x02" + bytes(7) + b"[]", b"\x08" + bytes(7) + b'{"a":{}}'):
        path.write_bytes(damaged)
        with pytest.raises(NcsnxError, match=r"cannot be read: .*[Hh]eader"):
            open_array_file(path)


def test_a_chunk_of_hdf5_is_compared_with_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (1000, 1000), "f4", chunks=(1000, 1000), compression="gzip")
    monkeypatch.setattr("ncsnx.storage.array_files.available_memory", lambda: 4_000_000)
    with pytest.raises(NcsnxError, match="x has chunks of 4,000,000 bytes, but at most"):
        open_array_file(tmp_path / "a.h5").array("x")

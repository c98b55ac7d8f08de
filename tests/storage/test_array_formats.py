"""Untrusted HDF5, MATLAB and NIfTI files, as their own libraries write them: read lazily, and refused in one line."""

import gzip
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io

from ncsnx.errors import NcsnxError
from ncsnx.storage.array_formats import array_file
from ncsnx.storage.array_formats.named_arrays import open_array_file, read_named_arrays
from ncsnx.storage.numpy_files import COMPLEX, REAL, ExpectedArray

RANDOM = np.random.default_rng(0)
KSPACE = (RANDOM.normal(size=(3, 4, 5)) + 1j * RANDOM.normal(size=(3, 4, 5))).astype("complex64")
MASK = np.eye(4, 5)
EXPECTED = {
    "kspace": ExpectedArray("complex numbers", COMPLEX, (("P", 4, 5),)),
    "mask": ExpectedArray("zeros and ones", REAL, ((4, 5),)),
    "range": ExpectedArray("real numbers", REAL, ((2,),), optional=True),
}
ARRAYS = {"kspace": KSPACE, "mask": MASK, "range": np.array([0.0, 2.0])}


def hdf5(path: Path, arrays: dict[str, Any], **options: Any) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, **options)


def matlab_73(path: Path, arrays: dict[str, Any]) -> None:
    """Saves as MATLAB does with -v7.3: axes reversed, complex numbers as pairs, behind 512 bytes of text."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            stored = np.atleast_2d(values).T
            if np.iscomplexobj(stored):
                pairs = np.empty(stored.shape, [("real", "f4"), ("imag", "f4")])
                pairs["real"], pairs["imag"] = stored.real, stored.imag
                stored = pairs
            file[name] = stored
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
        file["text"] = np.array([[104], [105]], "u2")
        file["text"].attrs["MATLAB_class"] = np.bytes_("char")
    with path.open("r+b") as written:
        written.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + struct.pack("<H2s", 0x0200, b"IM"))


def nifti(path: Path, values: Any, kind: type = nibabel.Nifti1Image, dtype: Any = None) -> None:
    image = kind(values, np.eye(4))
    image.set_data_dtype(dtype or values.dtype)
    image.to_filename(path)


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "npz": ("x.npz", lambda path: np.savez(path, **ARRAYS)),
    "hdf5": ("x.h5", lambda path: hdf5(path, ARRAYS)),
    "hdf5 packed": ("x.hdf5", lambda path: hdf5(path, ARRAYS, compression="gzip", chunks=True)),
    "matlab": ("x.mat", lambda path: scipy.io.savemat(path, ARRAYS | {"text": "hi", "cell": np.array([1, "a"], "O")})),
    "matlab packed": ("x.mat", lambda path: scipy.io.savemat(path, ARRAYS, do_compression=True)),
    "matlab 7.3": ("x.mat", lambda path: matlab_73(path, ARRAYS)),
}


def complaint(path: Path, name: str | None = None) -> str:
    with pytest.raises(NcsnxError) as error:
        open_array_file(path).read(name)
    text = str(error.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    assert len(text) < len(str(path)) + 400
    return text


@pytest.mark.parametrize("kind", WRITERS)
def test_named_arrays_are_the_same_from_every_format(tmp_path: Path, kind: str) -> None:
    name, write = WRITERS[kind]
    write(tmp_path / name)

    found = read_named_arrays(tmp_path / name, EXPECTED, "save it so")

    assert {name: (values.shape, values.dtype) for name, values in found.items()} == {
        name: (values.shape, values.dtype) for name, values in ARRAYS.items()
    }
    assert all(np.array_equal(values, ARRAYS[name]) for name, values in found.items())


@pytest.mark.parametrize("kind", WRITERS)
def test_slices_are_those_of_the_whole_array(tmp_path: Path, kind: str) -> None:
    name, write = WRITERS[kind]
    write(tmp_path / name)

    mapped = open_array_file(tmp_path / name).mapped("kspace")

    assert mapped.shape == KSPACE.shape
    assert np.array_equal(mapped[:, :, 2], KSPACE[:, :, 2])
    assert np.array_equal(mapped[1, 1:3, :], KSPACE[1, 1:3])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", ["f4", ">f4", "u1", "c8", "i2 scaled"])
def test_a_nifti_is_read_as_nibabel_reads_it(tmp_path: Path, suffix: str, kind: type, dtype: str) -> None:
    path = tmp_path / f"x{suffix}"
    values = (KSPACE * 20).astype("c8") if dtype == "c8" else np.abs(KSPACE * 20)
    stored = dtype.removesuffix(" scaled")
    nifti(path, values if dtype == "i2 scaled" else values.astype(stored), kind, stored)
    file = open_array_file(path)

    expected = np.asarray(nibabel.load(path).dataobj)

    assert file.names is None
    np.testing.assert_allclose(file.read(), expected, rtol=1e-6)
    assert file.read().dtype.isnative
    assert np.array_equal(file.mapped()[:, 1, :], file.read()[:, 1])


def test_groups_give_paths_and_other_data_sets_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    hdf5(path, {"scans/first/rss": MASK, "ismrmrd_header": "<xml/>", "names": np.array([b"a"], "S1")})

    file = open_array_file(path)

    assert file.names == ("scans/first/rss",)
    assert np.array_equal(file.read("scans/first/rss"), MASK)
    assert "expected an array of numbers, found objects or text" in complaint(path, "ismrmrd_header")


def test_what_fastmri_adds_to_a_measurement_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    hdf5(path, ARRAYS | {"reconstruction_rss": MASK, "ismrmrd_header": "<xml/>"})
    assert set(read_named_arrays(path, EXPECTED, "")) == set(EXPECTED)


def test_a_missing_name_lists_those_that_are_there(tmp_path: Path) -> None:
    hdf5(tmp_path / "x.h5", {"kspace": KSPACE, "maps": MASK})
    scipy.io.savemat(tmp_path / "x.mat", {"kspace": KSPACE, "maps": MASK})
    for name in ("x.h5", "x.mat"):
        assert "array rss: is not there; the file holds kspace, maps" in complaint(tmp_path / name, "rss")
        with pytest.raises(NcsnxError, match="mask is missing, and maps is not understood; save it so"):
            read_named_arrays(tmp_path / name, EXPECTED, "save it so")


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
        assert "is a link to" in complaint(path, name)
    for name in ("raw", "virtual"):
        assert "keeps its values in other files, which are not read" in complaint(path, name)


def test_a_group_that_contains_itself_ends(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["group/values"] = MASK
        file["group/again"] = file["group"]
    assert "group/values" in (open_array_file(tmp_path / "x.h5").names or ())


def test_a_small_file_that_declares_terabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("values", (2**20, 2**20), "f8", chunks=(64, 64), compression="gzip")
    assert "would unpack to" in complaint(tmp_path / "x.h5", "values")

    element = struct.pack("<4I2I3i4xHHc3x2I", 6, 8, 6, 0, 5, 12, 2**20, 2**12, 2**8, 1, 1, b"x", 9, 8)
    content = zlib.compress(struct.pack("<2I", 14, len(element)) + element)
    head = b"MATLAB 5.0".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")
    (tmp_path / "x.mat").write_bytes(head + struct.pack("<2I", 15, len(content)) + content)
    assert open_array_file(tmp_path / "x.mat").names == ("x",)
    assert "would unpack to" in complaint(tmp_path / "x.mat", "x")

    nifti(tmp_path / "x.nii.gz", MASK.astype("f4"))
    begin = bytearray(gzip.decompress((tmp_path / "x.nii.gz").read_bytes()))
    begin[40:48] = struct.pack("<4h", 3, 32767, 32767, 32767)
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(bytes(begin)))
    (tmp_path / "x.nii").write_bytes(bytes(begin))
    assert "would unpack to" in complaint(tmp_path / "x.nii.gz")
    assert "declares" in complaint(tmp_path / "x.nii")


@pytest.mark.parametrize("kind", [*list(WRITERS)[1:], "nifti", "nifti packed"])
def test_damage_gives_one_line(tmp_path: Path, kind: str) -> None:
    name, write = WRITERS.get(kind) or ("x.nii" if kind == "nifti" else "x.nii.gz", lambda path: nifti(path, KSPACE))
    path = tmp_path / name
    write(path)
    content, choice = path.read_bytes(), random.Random(0)
    for _ in range(25):
        damaged = bytearray(content[: choice.randrange(len(content))] if choice.random() < 0.4 else content)
        for _ in range(choice.choice([1, 4]) if damaged else 0):
            damaged[choice.randrange(len(damaged))] = choice.randrange(256)
        path.write_bytes(damaged)
        try:
            file = open_array_file(path)
            for array in file.names or [None]:
                file.read(array)
        except NcsnxError as error:
            text = str(error)
            assert text.startswith(str(path))
            assert "\n" not in text
            assert len(text) < len(str(path)) + 400


def test_a_truncated_file_is_called_truncated(tmp_path: Path) -> None:
    hdf5(tmp_path / "x.h5", ARRAYS)
    (tmp_path / "x.h5").write_bytes((tmp_path / "x.h5").read_bytes()[:-300])
    assert "is truncated" in complaint(tmp_path / "x.h5", "mask")


def test_other_files_are_refused_with_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_text("no")
    assert "expected a .npy, .npz, HDF5, MATLAB or NIfTI file, found something else" in complaint(tmp_path / "x.h5")
    (tmp_path / "x.dcm").write_bytes(bytes(128) + b"DICM")
    assert "dcm2niix" in complaint(tmp_path / "x.dcm")
    scipy.io.savemat(tmp_path / "x.mat", {"x": MASK}, format="4")
    assert "save(…, '-v7')" in complaint(tmp_path / "x.mat")
    (tmp_path / "none.mat").touch()
    assert complaint(tmp_path / "none.mat").endswith("none.mat: is empty; get a complete copy")
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in complaint(tmp_path / "pipe")
    nifti(tmp_path / "x.nii", KSPACE)
    with pytest.raises(NcsnxError, match="found a NIfTI, which holds one array; save it so"):
        read_named_arrays(tmp_path / "x.nii", EXPECTED, "save it so")


def test_cells_text_and_objects_of_matlab_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"c": np.array([1, "a"], "O"), "s": {"a": 1}, "t": "hi", "sparse": scipy.sparse.eye(3)})
    assert open_array_file(path).names == ()
    for name, found in {"c": "a cell array", "s": "a structure", "t": "text", "sparse": "a sparse array"}.items():
        assert f"expected an array of numbers, found {found}" in complaint(path, name)


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hdf5(tmp_path / "x.h5", ARRAYS)
    monkeypatch.setattr(array_file.importlib.util, "find_spec", lambda name: None)
    text = complaint(tmp_path / "x.h5")
    assert "HDF5 needs an extra that is not installed" in text
    assert "pip install 'ncsnx[science]'" in text

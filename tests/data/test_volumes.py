"""Volumes in the true formats: slices, splits by file, crops, and files that don't suit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import h5py
import nibabel
import numpy as np
import pytest
import torch

from ncsnx.config import Volumes
from ncsnx.config.checks import FieldError
from ncsnx.data import Splits, open_data
from ncsnx.data.readers.from_path import Reading, data_in
from ncsnx.errors import NcsnxError
from ncsnx.work import SILENT, Work
from tests.storage.matlab import matlab_73

DATA = Volumes(path="scans", image_size=(6, 8), held_out=0.3)


def volume(slices: int = 4, shape: tuple[int, ...] = (6, 8), seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(slices, *shape)).astype("f4")


def fastmri(path: Path, rss: Any) -> None:
    with h5py.File(path, "w") as file:
        file["kspace"] = (rss[:, None].repeat(2, 1) * (1 + 1j)).astype("c8")
        file["reconstruction_rss"] = rss
        file["ismrmrd_header"] = "<xml/>"
        file.attrs["max"] = float(rss.max())


def nifti(path: Path, values: Any) -> None:
    nibabel.Nifti1Image(values.transpose(1, 2, 0), np.eye(4)).to_filename(path)


WRITERS: dict[str, Callable[[Path, Any], None]] = {
    "h5": fastmri,
    "nii": nifti,
    "nii.gz": nifti,
    "mat": lambda path, values: matlab_73(path, {"x": values.transpose(1, 2, 0)}),
    "npy": np.save,
}


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    return tmp_path / "scans"


def slices_of(splits: Splits) -> dict[int, Any]:
    """Every slice by its id."""
    read = [split.read(torch.arange(len(split))) for split in (splits.train, splits.held_out)]
    return {int(one): pixels.numpy() for images in read for one, pixels in zip(images.ids, images.pixels, strict=True)}


@pytest.mark.parametrize("suffix", WRITERS)
def test_slices_are_those_of_the_files_in_order(scans: Path, suffix: str) -> None:
    volumes = [volume(3 + number, seed=number) for number in range(5)]
    for number, values in enumerate(volumes):
        WRITERS[suffix](scans / f"{number}.{suffix}", values)

    splits = open_data(DATA, scans.parent)

    found = slices_of(splits)
    assert splits.train.shape == (1, 6, 8)
    assert np.array_equal(np.stack([found[number] for number in range(len(found))])[:, 0], np.concatenate(volumes))


def test_a_volume_is_on_one_side_only(scans: Path) -> None:
    for number in range(12):
        fastmri(scans / f"{number:02d}.h5", volume(seed=number))
    splits = open_data(DATA, scans.parent)
    sides = [
        {int(one) // 4 for one in split.read(torch.arange(len(split))).ids} for split in (splits.train, splits.held_out)
    ]
    assert sides[1]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == set(range(12))


def test_of_one_volume_a_block_is_held_out_and_said(scans: Path) -> None:
    fastmri(scans / "one.h5", volume(20))
    said: list[str] = []
    splits = open_data(attrs.evolve(DATA, path="scans/one.h5", held_out=0.2), scans.parent, Work(info=said.append))
    assert splits.held_out.read(torch.arange(4)).ids.tolist() == [8, 9, 10, 11]
    assert said == [
        f"{scans}/one.h5 is one volume of 20 slices; a block of 4 slices from number 8 on is held out, since "
        "neighboring slices are nearly copies"
    ]


def test_slices_are_cropped_and_padded_around_their_center(scans: Path) -> None:
    fastmri(scans / "a.h5", volume(2, (9, 5)))
    warned: list[str] = []
    splits = open_data(attrs.evolve(DATA, held_out=0.0), scans.parent, Work(warning=warned.append))
    found = splits.train.read(torch.tensor([1])).pixels[0, 0].numpy()
    assert np.array_equal(found[:, 1:6], volume(2, (9, 5))[1, 1:7])
    assert not found[:, [0, 6, 7]].any()
    assert warned == [f"{scans}: the slices of 1 volume are smaller than 6×8 pixels, and are padded with 0"]


def test_another_axis_and_data_set_can_be_chosen(scans: Path) -> None:
    with h5py.File(scans / "a.h5", "w") as file:
        file["scan/first"] = volume(6, (8, 5))
        file["scan/second"] = volume(6, (8, 5), seed=1)
    data = attrs.evolve(DATA, dataset="scan/second", axis=2, held_out=0.0)
    assert np.array_equal(slices_of(open_data(data, scans.parent))[3][0], volume(6, (8, 5), seed=1)[:, :, 3])


def test_complex_volumes_with_coils_become_pairs_of_channels(scans: Path) -> None:
    fastmri(scans / "a.h5", volume())
    data = attrs.evolve(DATA, dataset="kspace", complex=True, channels=4, held_out=0.0)
    found = slices_of(open_data(data, scans.parent))[2]
    assert np.array_equal(found, volume()[2][None].repeat(4, 0))


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"dataset": "rss"}, r"a\.h5: expected an array rss \(data.dataset\), found kspace, reconstruction_rss", ""),
        ({"dataset": "kspace"}, "declared real", "data.complex=true data.range=unbounded data.channels=4"),
        ({"complex": True, "channels": 2}, "declared complex", "data.complex=false data.channels=1"),
        ({"axis": 3}, r"has no axis 3 \(data.axis\); its axes are 4×6×8, counted from 0", ""),
        ({"channels": 3}, "expected slices of 3 channels along axis 0, found 4×6×8", "data.channels=1"),
        ({"path": "nowhere"}, "your data is not at", "data.path=FILE"),
    ],
)
def test_what_does_not_suit_is_said_with_what_does(scans: Path, changes: Any, message: str, hint: str) -> None:
    fastmri(scans / "a.h5", volume())
    with pytest.raises(NcsnxError, match=message) as error:
        open_data(attrs.evolve(DATA, **changes), scans.parent)
    assert [one.adds for one in error.value.hints if one.adds] == ([hint] if hint else [])


def test_nan_and_files_of_other_kinds_are_refused(scans: Path) -> None:
    values = volume()
    values[1, 2, 3] = np.nan
    fastmri(scans / "a.h5", values)
    with pytest.raises(NcsnxError, match=r"slice 1 of .*a\.h5.*: found NaN or infinite values"):
        open_data(attrs.evolve(DATA, held_out=0.0), scans.parent)
    with pytest.raises(NcsnxError, match="found NaN or infinite values"):
        open_data(attrs.evolve(DATA, held_out=0.3, scale=1.0, window_low=0.0, window_high=1.0), scans.parent)
    (scans / "a.h5").unlink()
    (scans / "notes.txt").write_text("x")
    with pytest.raises(NcsnxError, match=r"expected volumes \(.h5, .*found only other files \(1 with .txt\)"):
        open_data(DATA, scans.parent)
    (scans / "b.nii").write_text("x")
    with pytest.raises(NcsnxError, match=r"b\.nii: cannot be read"):
        open_data(DATA, scans.parent)


def test_slices_that_do_not_fit_in_memory_are_refused_before_one_is_read(scans: Path) -> None:
    with h5py.File(scans / "a.h5", "w") as file:
        file.create_dataset("x", (2, 2**20, 2**20), "f4", chunks=(1, 64, 64))
    with pytest.raises(NcsnxError, match="declares 2 images of 1,099,511,627,776 values, but memory here allows only"):
        open_data(DATA, scans.parent)


def test_bounded_volumes_are_checked_against_their_bounds(scans: Path) -> None:
    np.save(scans / "a.npy", np.clip(volume(), -1, 1))
    data = attrs.evolve(DATA, range="bounded", low=-1.0, high=1.0, held_out=0.0)
    assert open_data(data, scans.parent).train.value_range == (-1, 1)
    with pytest.raises(NcsnxError, match=r"outside the declared range, low=0 to high=1"):
        open_data(attrs.evolve(data, low=0.0), scans.parent)
    with pytest.raises(FieldError, match="needs range=bounded"):
        attrs.evolve(data, range="unbounded")


def test_a_folder_of_volumes_is_declared_by_what_it_holds(scans: Path) -> None:
    fastmri(scans / "a.h5", volume())
    fastmri(scans / "b.h5", volume(seed=1))
    declared = data_in(Path("scans"), Reading(), SILENT)
    assert declared == Volumes(path="scans", image_size=(6, 8), dataset="reconstruction_rss")
    declared = data_in(Path("scans/a.h5"), Reading(array="kspace", held_out=0.5), SILENT)
    assert declared == Volumes(
        path="scans/a.h5", image_size=(6, 8), dataset="kspace", channels=4, complex=True, held_out=0.5
    )

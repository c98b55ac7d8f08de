"""Images in array files."""

import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from ncsnx.config.data_sets import Arrays
from ncsnx.data import DataMissingError, Splits, value_statistics
from ncsnx.data.readers.arrays import open_arrays
from ncsnx.errors import NcsnxError
from ncsnx.work import Work
from tests.data.watching import Watcher
from tests.exchange.test_published_files import Payload
from tests.storage.giants import sparse_npy, zeros_npz

VALUES = np.random.default_rng(1).integers(0, 256, (12, 3, 5, 5), dtype=np.uint8)


def written(path: Path, values: "NDArray[Any]", **others: "NDArray[Any]") -> Path:
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez_compressed(path, images=values, **others)
    else:
        arrays = {"images": values, **others}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return path


def opened(path: Path, work: Work | None = None, **fields: Any) -> Splits:
    data = Arrays(path=str(path), **{"image_size": 5, "channels": 3, **fields})
    return open_arrays(data, path.parent / "data", work or Work())


def together(splits: Splits) -> torch.Tensor:
    """All images in the order of the file."""
    found = [split.read(torch.arange(len(split))) for split in (splits.train, splits.held_out)]
    ids = torch.cat([images.ids for images in found])
    assert sorted(ids.tolist()) == list(range(len(ids)))
    return torch.cat([images.pixels for images in found])[ids.argsort()]


@pytest.mark.parametrize("kind", [".npy", ".safetensors"])
def test_a_mapped_file_cut_while_in_use_is_refused_and_a_removed_one_is_read(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / f"x{kind}", VALUES)
    splits = opened(path)
    whole = together(splits)
    os.truncate(path, path.stat().st_size - 1)  # the missing byte, in an existing page, would read as zero
    with pytest.raises(NcsnxError, match=r"bytes instead of .*: it was truncated or replaced"):
        together(splits)
    path.unlink()
    written(path, VALUES)
    splits = opened(path)
    together(splits)
    path.unlink()
    assert torch.equal(together(splits), whole)


TYPES = {
    "bool": "uint8",
    "uint8": "uint8",
    "int8": "int8",
    "uint16": "int32",
    "int16": "int16",
    "uint32": "int64",
    "int32": "int32",
    "int64": "int64",
    "float16": "float32",
    "float32": "float32",
    "float64": "float32",
}


@pytest.mark.parametrize("stored", TYPES)
def test_values_keep_their_type_if_torch_computes_with_it(tmp_path: Path, stored: str) -> None:
    largest = {"b": 1, "f": 2048}.get(np.dtype(stored).kind) or np.iinfo(stored).max
    values = np.zeros((4, 1, 2, 2), dtype=stored)
    values[1] = 1
    values[2:] = largest
    splits = opened(written(tmp_path / "x.npz", values), image_size=2, channels=1, high=float(largest))
    pixels = together(splits)
    assert pixels.dtype == getattr(torch, TYPES[stored])
    assert pixels[:, 0, 1, 1].tolist() == [0, 1, largest, largest]


def test_bfloat16_is_refused(tmp_path: Path) -> None:
    save_torch({"x": torch.full((4, 1, 2, 2), 0.5, dtype=torch.bfloat16)}, tmp_path / "x.safetensors")
    with pytest.raises(NcsnxError, match="x holds bfloat16; convert it to float32"):
        opened(tmp_path / "x.safetensors", image_size=2, channels=1)


@pytest.mark.parametrize(
    "values", [np.zeros((4, 3, 5, 5), dtype=kind) for kind in ("complex256", "uint64", "U3", "M8[s]")]
)
def test_unsupported_types_are_refused(tmp_path: Path, values: "NDArray[Any]") -> None:
    with pytest.raises(NcsnxError, match=f"x.npy: .*{values.dtype}".replace("[s]", ".*")):
        opened(written(tmp_path / "x.npy", values))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    objects = np.array([Payload(os.mkdir, str(harm))], dtype=object)
    np.save(tmp_path / "x.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "x.npz", images=objects)
    np.savez(tmp_path / "labels.npz", images=VALUES, labels=objects)
    (tmp_path / "raw.npy").write_bytes(pickle.dumps(Payload(os.mkdir, str(harm))))
    with zipfile.ZipFile(tmp_path / "raw.npz", "w") as archive:
        archive.writestr("images.npy", pickle.dumps(Payload(os.mkdir, str(harm))))
    for name in ("x.npy", "x.npz", "labels.npz", "raw.npy", "raw.npz"):
        with pytest.raises(NcsnxError, match=f"{name}"):
            opened(tmp_path / name)
    assert not harm.exists()
    pickle.loads((tmp_path / "raw.npy").read_bytes())  # checks that the payload works
    assert harm.exists()


@pytest.mark.parametrize("kind", [".npz", ".safetensors"])
def test_labels_are_read_and_an_array_can_be_chosen(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / f"x{kind}", VALUES, labels=np.arange(12, dtype=np.int16), more=VALUES[:, :1])
    with pytest.raises(NcsnxError, match=r"found 2 arrays: (images, more|more, images); choose one with data\.array"):
        opened(path)
    splits = opened(path, array="images")
    for split in (splits.train, splits.held_out):
        images = split.read(torch.arange(len(split)))
        assert images.labels.dtype == torch.int64
        assert torch.equal(images.labels, images.ids)
    assert np.array_equal(together(opened(path, array="more", channels=1)).numpy(), VALUES[:, :1])
    with pytest.raises(NcsnxError, match="expected an array mine"):
        opened(path, array="mine")


def test_labels_of_another_shape_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = zeros_npz(tmp_path / "x.npz", images=((12, *VALUES.shape[1:]), "u1"), labels=((60_000_000,), "u1"))
    tracemalloc.start()
    try:
        with pytest.raises(NcsnxError, match=r"each of the 12 images, found 60000000$"):
            opened(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("labels", [np.arange(11), np.arange(12.0), np.zeros((12, 2), dtype=int)])
def test_labels_must_be_one_integer_per_image(tmp_path: Path, labels: "NDArray[Any]") -> None:
    with pytest.raises(NcsnxError, match="array labels: expected one whole number for each of the 12 images"):
        opened(written(tmp_path / "x.npz", VALUES, labels=labels))


def test_too_many_or_too_large_images_for_memory_are_refused(tmp_path: Path) -> None:
    many = sparse_npy(tmp_path / "many.npy", (2**40, 1, 1), "u1")
    with pytest.raises(NcsnxError, match="declares 1,099,511,627,776 images of 1 value, but memory here allows"):
        opened(many, image_size=1, channels=1)
    large = sparse_npy(tmp_path / "large.npy", (2, 2**20, 2**20), "u1")
    with pytest.raises(NcsnxError, match="declares 2 images of 1,099,511,627,776 values, but memory here allows"):
        opened(large, image_size=1, channels=1)


SHAPES = [
    ((12, 3, 6, 6), {}, "expected N×3×5×5 or N×5×5×3, found 12×3×6×6; it fits data.channels=3 data.image_size=6"),
    ((12, 5, 5), {}, "found 12×5×5; it fits data.channels=1 data.image_size=5"),
    ((12, 7, 7, 4), {}, "found 12×7×7×4; it fits data.channels=4 data.image_size=7"),
    ((12, 3, 7, 7), {"random_crop": 6}, "N×3×6×6 .* it fits data.channels=3 data.random_crop=7"),
    ((12, 3, 5, 6), {}, "found 12×3×5×6; it fits data.channels=3 data.image_size=5,6"),
    ((12, 75), {}, "found 12×75; reshape it"),
    ((12, 5, 6), {"channels": 1}, "expected N×1×5×5 or N×5×5×1 or N×5×5, found 12×5×6; it fits data"),
    ((0, 3, 5, 5), {}, "expected images, found 0×3×5×5"),
    ((), {}, "expected images, found a single number"),
]


@pytest.mark.parametrize(("shape", "fields", "message"), SHAPES)
def test_another_shape_is_refused(tmp_path: Path, shape: tuple[int, ...], fields: dict[str, Any], message: str) -> None:
    save_file({"images": np.zeros(shape, dtype=np.uint8)}, tmp_path / "x.safetensors")
    with pytest.raises(NcsnxError, match=message):
        opened(tmp_path / "x.safetensors", **fields)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_every_matching_layout_is_read_correctly(tmp_path: Path, channels: int, size: int, last: bool) -> None:
    values = np.random.default_rng(size).integers(0, 256, (3, channels, size, size), dtype=np.uint8)
    path = written(tmp_path / "x.npy", values.transpose(0, 2, 3, 1) if last else values)
    watcher = Watcher()
    pixels = together(opened(path, watcher.work, channels=channels, image_size=size)).numpy()
    doubtful = channels == size > 1
    assert np.array_equal(pixels, np.load(path) if doubtful else values)
    assert any("is read as N×C×H×W" in warning for warning in watcher.warnings) == doubtful


def test_values_out_of_the_declared_range_are_refused_with_a_range_that_is_accepted(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(12, 1, 5, 5)) * 1e-3
    path = written(tmp_path / "x.npy", values)
    with pytest.raises(NcsnxError, match=r"image 0: found values outside .*, low=0 to high=1e-09; ") as error:
        opened(path, channels=1, high=1e-9)
    fields = dict(part.split("=") for part in str(error.value).replace(",", "").split() if part.startswith("data."))
    low, high = float(fields["data.low"]), float(fields["data.high"])
    assert opened(path, channels=1, low=low, high=high).train.value_range == (low, high)


def test_a_hardly_used_range_gives_a_warning(tmp_path: Path) -> None:
    watcher = Watcher()
    path = written(tmp_path / "x.npy", np.linspace(0, 1, 300).reshape(12, 1, 5, 5))
    opened(path, watcher.work, channels=1)
    assert len(watcher.warnings) == 1
    assert "should it be data.low=0 data.high=1?" in watcher.warnings[0]
    opened(path, watcher.work, channels=1, high=1.0)
    assert len(watcher.warnings) == 1


def test_each_image_is_checked_when_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_statistics, "CHECKED_VALUES", 1)
    monkeypatch.setattr(value_statistics, "_FEWEST_IMAGES", 3)
    values = np.zeros((200, 1, 5, 5), dtype=np.float32)
    path = written(tmp_path / "x.npy", values)
    checked = value_statistics.sample_of(200, 25, 1).tolist()
    assert len(checked) == 3
    wrong = next(index for index in range(200) if index not in checked)
    values[wrong, 0, 2, 2] = np.nan
    written(path, values)
    with pytest.raises(NcsnxError, match=f"image {wrong}: found NaN"):
        together(opened(path, channels=1))


def test_a_missing_file_or_another_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match=r"x\.npy; put it there, or say where it is: data\.path=FILE"):
        opened(tmp_path / "x.npy")
    (tmp_path / "x.npy").write_bytes(b"text that is no array")
    with pytest.raises(NcsnxError, match=r"x\.npy: expected a \.npy, \.npz, safetensors, .* found something else"):
        opened(tmp_path / "x.npy")
    with pytest.raises(NcsnxError, match="cannot be read: Is a directory"):
        opened(tmp_path)

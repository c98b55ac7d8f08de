"""Complex arrays as pairs of channels: read, packed, declared, and shown as magnitude and phase."""

import math
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ncsnx.config import Arrays, Packed
from ncsnx.config.checks import FieldError
from ncsnx.data import open_data
from ncsnx.data.readers.from_path import Reading, own_data
from ncsnx.data.readers.packed import pack, settings_of
from ncsnx.errors import NcsnxError
from ncsnx.images import Window, magnitude_and_phase
from ncsnx.work import SILENT

RANDOM = np.random.default_rng(0)
VALUES = (RANDOM.normal(size=(20, 6, 8)) + 1j * RANDOM.normal(size=(20, 6, 8))).astype("complex64")
DATA = Arrays(path="scans.npy", image_size=(6, 8), channels=2, range="unbounded", complex=True)


@pytest.mark.parametrize("layout", ["N×H×W", "N×C×H×W", "N×H×W×C"])
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_a_complex_value_becomes_its_real_and_its_imaginary_part(tmp_path: Path, layout: str, dtype: str) -> None:
    coils = 1 if layout == "N×H×W" else 3
    images = np.stack([VALUES * (1 + coil) for coil in range(coils)], axis=1).astype(dtype)
    stored = {"N×H×W": images[:, 0], "N×C×H×W": images, "N×H×W×C": images.transpose(0, 2, 3, 1)}[layout]
    np.save(tmp_path / "scans.npy", stored)

    train = open_data(attrs.evolve(DATA, channels=2 * coils), tmp_path).train
    read = train.read(torch.arange(len(train)))

    assert train.shape == (2 * coils, 6, 8)
    assert read.pixels.dtype == torch.float32
    assert np.array_equal(read.pixels[:, 0::2].numpy(), images[read.ids].real)
    assert np.array_equal(read.pixels[:, 1::2].numpy(), images[read.ids].imag)


def test_safetensors_hold_complex_values_too(tmp_path: Path) -> None:
    save_file({"x": torch.from_numpy(VALUES)}, tmp_path / "x.safetensors")
    train = open_data(attrs.evolve(DATA, path="x.safetensors"), tmp_path).train
    assert np.array_equal(
        train.read(torch.tensor([0])).pixels[0, 1].numpy(), VALUES[train.read(torch.tensor([0])).ids[0]].imag
    )


def test_a_declaration_that_does_not_suit_the_values_says_what_does(tmp_path: Path) -> None:
    np.save(tmp_path / "scans.npy", VALUES)
    np.save(tmp_path / "real.npy", VALUES.real)
    with pytest.raises(
        NcsnxError, match=r"the type of the values is complex \(complex64\), but the data set is declared real"
    ) as one:
        open_data(Arrays(path="scans.npy", image_size=(6, 8)), tmp_path)
    assert one.value.hints[0].adds == "data.complex=true data.range=unbounded data.channels=2"
    with pytest.raises(
        NcsnxError, match=r"the type of the values is real \(float32\), but the data set is declared complex"
    ) as one:
        open_data(attrs.evolve(DATA, path="real.npy"), tmp_path)
    assert one.value.hints[0].adds == "data.complex=false data.channels=1"


def test_complex_data_has_pairs_of_channels_and_no_bounds() -> None:
    with pytest.raises(FieldError, match="must be even with complex=true, two for each complex value, not 3"):
        attrs.evolve(DATA, channels=3)
    with pytest.raises(FieldError, match="must be unbounded with complex=true, not bounded"):
        attrs.evolve(DATA, range="bounded")


def test_a_file_of_complex_values_is_declared_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("scans.npy", VALUES)
    assert own_data(Path("scans.npy"), Reading(), SILENT) == DATA


def test_packed_complex_values_are_those_of_the_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("scans.npy", VALUES)
    splits = open_data(DATA, tmp_path)
    pack(splits, Path("scans.pack"), settings=settings_of(DATA), work=SILENT)

    declared = own_data(Path("scans.pack"), Reading(), SILENT)
    opened = open_data(declared, tmp_path)

    assert declared == Packed(path="scans.pack", image_size=(6, 8), channels=2, range="unbounded", complex=True)
    for ours, theirs in ((opened.train, splits.train), (opened.held_out, splits.held_out)):
        every = torch.arange(len(ours))
        assert torch.equal(ours.read(every).pixels, theirs.read(every).pixels)
        assert ours.value_range == theirs.value_range
    with pytest.raises(NcsnxError, match="declared real") as error:
        open_data(attrs.evolve(declared, complex=False), tmp_path)
    assert error.value.hints[0].adds == "data.complex=true data.range=unbounded data.channels=2"


def test_a_packed_file_without_bounds_is_declared_so(tmp_path: Path) -> None:
    real = Arrays(path="real.npy", image_size=(6, 8), channels=3, range="unbounded")
    np.save(tmp_path / "real.npy", np.stack([VALUES.real] * 3, axis=1))
    pack(open_data(real, tmp_path), tmp_path / "unbounded.pack", settings=settings_of(real), work=SILENT)
    with pytest.raises(NcsnxError, match="its values are unbounded, expected values between black and white"):
        open_data(Packed(path="unbounded.pack", image_size=(6, 8)), tmp_path)


def test_pictures_show_the_magnitude_and_beside_it_the_phase() -> None:
    value = 2 * torch.exp(torch.tensor(1j * math.pi / 3))
    image = torch.zeros(1, 2, 2, 3)
    image[0, 0, 0, 1], image[0, 1, 0, 1] = value.real, value.imag
    image[0, 0, 1, 2] = -4.0

    shown = magnitude_and_phase(image, Window(0, 4, True))

    assert shown.shape == (1, 3, 2, 6)
    torch.testing.assert_close(shown[0, :, :, :3], torch.tensor([[0, 0.5, 0], [0, 0, 1]]).expand(3, 2, 3))
    torch.testing.assert_close(shown[0, :, 0, 4], torch.tensor([0.75, 0.75, 0.0]))
    torch.testing.assert_close(shown[0, :, 1, 5], torch.tensor([0.0, 0.75, 0.75]))

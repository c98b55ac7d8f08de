"""Unbounded and complex data: values that reach the network and come back unclamped, and how they are shown."""

import math
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor

from ncsnx.config import Arrays, Data, Images, Packed, Phantoms
from ncsnx.config.checks import FieldError
from ncsnx.data import Dataset, InMemory, Preprocessing, Splits, StoredImages, open_data
from ncsnx.data.readers.from_path import Reading, data_in
from ncsnx.data.readers.packed import pack, settings_of
from ncsnx.data.value_statistics import measured_space, values_space
from ncsnx.errors import NcsnxError
from ncsnx.images import Window, magnitude_and_phase
from ncsnx.sampling.generation import seeded_draws
from ncsnx.space import Space
from ncsnx.work import SILENT
from tests.config.examples import minimal
from tests.spaces import space_of


def unbounded(**fields: Any) -> Arrays:
    return Arrays(**{"path": "x.npy", "image_size": 4, "range": "unbounded", **fields})


def in_memory(values: Tensor) -> InMemory:
    return InMemory(StoredImages(values, torch.zeros(len(values)), torch.arange(len(values))), (0, 1))


def test_the_network_sees_values_over_their_scale_and_transform_composes() -> None:
    pixels = torch.tensor([-4.0, 0.0, 2.0, 10.0]).view(1, 1, 2, 2)
    for transform, expected in (("none", [-2, 0, 1, 5]), ("rescaled", [-5, -1, 1, 9])):
        data = unbounded(scale=2.0, transform=transform)
        space = space_of(data)
        seen = Preprocessing(data, space, (0.0, 2.0), seed=0).training(pixels.expand(1, 1, 2, 2), torch.arange(1))
        assert seen.flatten().tolist() == space.encode(pixels).flatten().tolist() == expected
        assert space.decode(seen).flatten().tolist() == pixels.flatten().tolist()


def test_the_scale_of_complex_data_is_a_percentile_of_the_magnitude_of_pairs() -> None:
    values = torch.randn(50, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    pairs = torch.complex(values[:, ::2].contiguous(), values[:, 1::2].contiguous()).abs()
    expected = np.quantile(pairs.numpy(), 0.99, method="inverted_cdf")
    data = Packed(path="x", image_size=3, channels=4, range="unbounded", complex=True)
    found = values_space(data, Splits(in_memory(values), in_memory(values[:0]), ""), "x", SILENT)
    assert found.scale == float(f"{expected:.6g}")
    assert found.window == (0, found.scale)


def opened(tmp_path: Path, values: Any, **fields: Any) -> tuple[Arrays, Any]:
    np.save(tmp_path / "x.npy", values)
    data = unbounded(path=str(tmp_path / "x.npy"), **fields)
    return data, open_data(data, tmp_path)


def test_reading_keeps_the_values_and_measures_the_training_images_alone(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(60, 4, 4)).astype("f4")
    data, splits = opened(tmp_path, values, held_out=0.3)
    assert 0 < len(splits.held_out) < 60
    expected = np.quantile(np.abs(values[splits.train.ids.numpy()]), 0.99, method="inverted_cdf")
    space = values_space(data, splits, "x", SILENT)
    assert (space.offset, space.scale) == (0, float(f"{expected:.6g}"))
    assert torch.equal(splits.train.read(torch.arange(1)).pixels[0, 0], torch.from_numpy(values[splits.train.ids[0]]))


@pytest.mark.parametrize(("shift", "window"), [(0.0, (-2.0, 2.0)), (100.0, (0.0, 2.0))])
def test_the_window_begins_at_zero_for_positive_data(tmp_path: Path, shift: float, window: tuple[float, float]) -> None:
    values = np.random.default_rng(0).normal(size=(9, 4, 4)).astype("f4") + np.float32(shift)
    data, splits = opened(tmp_path, values, scale=2.0)
    assert values_space(data, splits, "x", SILENT).window == window
    declared = values_space(attrs.evolve(data, window_low=5.0, window_high=6.0), splits, "x", SILENT)
    assert declared.window == (5, 6)
    assert declared.shown_as(data).window == window, "where the declaration is left out later"


@pytest.mark.parametrize(("white", "black"), [(30.0, 0.0), (-1.0, -10.0)])
def test_a_declared_white_leaves_black_at_zero_for_data_without_negative_values(white: float, black: float) -> None:
    assert Space.of(unbounded(window_high=white), scale=10.0, signed=False).window == (black, white)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"scale": 0.0}, "scale must be a finite number > 0, not 0.0"),
        ({"low": -1.0}, "low needs range=bounded, found unbounded"),
        ({"dequantization": "uniform"}, "dequantization must be none for unbounded data"),
        ({"transform": "logit"}, "transform must be none or rescaled for unbounded data"),
        ({"range": "bounded", "scale": 1.0}, "scale needs range=unbounded"),
        ({"window_low": 1.0, "window_high": 1.0}, "window_high must be above window_low=1.0"),
        ({"complex": True, "channels": 3}, "must be even with complex=true, two for each complex value, not 3"),
        ({"complex": True, "channels": 2, "range": "bounded"}, "must be unbounded with complex=true, not bounded"),
    ],
)
def test_fields_that_contradict_the_range_are_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(FieldError, match=complaint):
        unbounded(**fields)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda x: x * np.float32(0), "all values of the training images are 0"),
        (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 3, np.float32(7), np.float32(0)), "99 % of the"),
        (lambda x: np.where(x == x.max(), np.float32("nan"), x), "found NaN or infinite values"),
    ],
)
def test_values_without_a_scale_are_refused(tmp_path: Path, change: Any, complaint: str) -> None:
    values = change(np.random.default_rng(0).normal(size=(20, 4, 4)).astype("f4"))

    def measure() -> Space:
        return values_space(*opened(tmp_path, values, held_out=0.0), "x", SILENT)

    with pytest.raises(NcsnxError, match=complaint):
        measure()


def test_bounded_images_are_clamped_and_need_no_scale() -> None:
    data: Data = Images(root="x", image_size=4)
    assert Space.of(data).decode(torch.tensor([-1.0, 0.5, 2.0])).tolist() == [0, 0.5, 1]
    assert data.is_bounded
    with pytest.raises(NcsnxError, match="the scale of the unbounded data is not known"):
        Space.of(unbounded())


def test_unbounded_complex_images_start_around_zero_with_phases_all_round() -> None:
    space = space_of(attrs.evolve(DATA, scale=5.0))
    real, imaginary = space.decode(seeded_draws(0, space).initial(torch.arange(100))).unbind(dim=1)
    # 4,800 uniform values of deviation 5/√12: five standard errors of their mean are 0.104
    assert max(abs(float(part.mean())) for part in (real, imaginary)) < 0.104
    quadrants = (2 * (real > 0) + (imaginary > 0)).flatten().bincount(minlength=4) / real.numel()
    # five standard errors of a share of a quarter: 5·√(3/16/4800) = 0.031
    assert float((quadrants - 0.25).abs().max()) < 0.031


def test_a_mean_image_is_measured_of_small_images_and_is_symmetric_where_they_are_mirrored(tmp_path: Path) -> None:
    values = 3 + np.random.default_rng(0).normal(size=(50, 4, 4)).astype("f4")
    for fields in ({}, {"random_flip": True}):
        data, splits = opened(tmp_path, values, scale=2.0, held_out=0.0, **fields)
        space = measured_space(attrs.evolve(minimal(), data=data), splits, "x", SILENT)
        expected = values.mean(axis=0) / 2
        expected = (expected + expected[:, ::-1]) / 2 if fields else expected
        np.testing.assert_allclose(space.start_mean()[0], expected, rtol=1e-3)
        assert space.at((1, 8, 8)).start_mean().item() == pytest.approx(expected.mean(), rel=1e-3)
        assert space.sigma_data == pytest.approx(np.sqrt(np.square(values / 2).mean()), rel=1e-3)


class Many(Dataset):
    """More images than float32 can count; those that are read are kept."""

    shape, value_range = (1, 4, 4), (0.0, 1.0)

    def __init__(self) -> None:
        self.seen = torch.zeros(0, dtype=torch.int64)

    def __len__(self) -> int:
        return 2**24 + 4

    def read(self, indices: Tensor) -> StoredImages:
        self.seen = torch.cat([self.seen, indices])
        return StoredImages(torch.ones(len(indices), 1, 4, 4), torch.zeros(len(indices)), indices)


def test_images_are_measured_from_the_first_to_the_last_also_where_there_are_over_16_million() -> None:
    many = Many()
    data = Arrays(path="x.npy", image_size=4, low=0.0, high=1.0)
    measured_space(attrs.evolve(minimal(), data=data), Splits(many, many, "0"), "x", SILENT)
    assert (many.seen[0], many.seen[-1], len(many.seen)) == (0, len(many) - 1, 1_024)
    steps = many.seen.diff()
    assert int(steps.max() - steps.min()) <= 1, "evenly spread"


def test_complex_values_are_shown_as_magnitude_and_phase() -> None:
    data = attrs.evolve(DATA, image_size=1, scale=5.0)
    magnitude, phase = space_of(data).pictures(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)).flatten().tolist()
    assert magnitude == 1
    assert phase == pytest.approx((np.arctan2(4, 3) / np.pi + 1) / 2)


def test_densities_of_unbounded_data_are_refused() -> None:
    preprocessing = Preprocessing(unbounded(scale=1.0), space_of(unbounded(scale=1.0)), (0.0, 1.0), seed=0)
    with pytest.raises(NcsnxError, match="the data is unbounded"):
        preprocessing.gray_levels(torch.zeros(1))


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


def test_a_declaration_that_does_not_suit_the_values_says_what_does(tmp_path: Path) -> None:
    np.save(tmp_path / "scans.npy", VALUES)
    np.save(tmp_path / "real.npy", VALUES.real)
    with pytest.raises(NcsnxError, match=r"values is complex \(complex64\), but the data set is declared real") as one:
        open_data(Arrays(path="scans.npy", image_size=(6, 8)), tmp_path)
    assert one.value.hints[0].adds == "data.complex=true data.range=unbounded data.channels=2"
    with pytest.raises(NcsnxError, match=r"values is real \(float32\), but the data set is declared complex") as one:
        open_data(attrs.evolve(DATA, path="real.npy"), tmp_path)
    assert one.value.hints[0].adds == "data.complex=false data.channels=1"


def test_packed_complex_values_are_those_of_the_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("scans.npy", VALUES)
    assert data_in(Path("scans.npy"), Reading(), SILENT) == DATA
    splits = open_data(DATA, tmp_path)
    pack(splits, Path("scans.pack"), settings=settings_of(DATA), work=SILENT)

    declared = data_in(Path("scans.pack"), Reading(), SILENT)
    opened = open_data(declared, tmp_path)

    assert declared == Packed(path="scans.pack", image_size=(6, 8), channels=2, range="unbounded", complex=True)
    for ours, theirs in ((opened.train, splits.train), (opened.held_out, splits.held_out)):
        every = torch.arange(len(ours))
        assert torch.equal(ours.read(every).pixels, theirs.read(every).pixels)
    with pytest.raises(NcsnxError, match="declared real") as error:
        open_data(attrs.evolve(declared, complex=False), tmp_path)
    assert error.value.hints[0].adds == "data.complex=true data.range=unbounded data.channels=2"
    assert settings_of(Phantoms(image_size=8, count=16))["complex"] is True, "though they have no such field"


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

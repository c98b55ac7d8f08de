"""Unbounded data: its scale and window, and values that reach the network and come back unclamped."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ncsnx.config import Arrays, Data, Images, Packed
from ncsnx.config.checks import FieldError
from ncsnx.data import InMemory, Preprocessing, StoredImages, from_values, open_data, to_values
from ncsnx.data.dataset import Magnitudes
from ncsnx.data.transforms import window_of
from ncsnx.data.value_statistics import magnitudes_of, measured_data
from ncsnx.errors import NcsnxError
from ncsnx.work import SILENT


class Complex(Packed):
    """Pairs of channels that are complex values."""

    @property
    def is_complex(self) -> bool:
        return True


def unbounded(**fields: Any) -> Arrays:
    return Arrays(**{"path": "x.npy", "image_size": 4, "range": "unbounded", **fields})


def in_memory(values: Tensor) -> InMemory:
    return InMemory(StoredImages(values, torch.zeros(len(values)), torch.arange(len(values))), (0, 1))


def percentile_of(values: Tensor, data: Any) -> float:
    found = magnitudes_of(data, in_memory(values), "values", SILENT)
    assert found is not None
    return found.percentile


@settings(deadline=None)
@given(
    st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=20),
    st.floats(1e-3, 1e3),
    st.sampled_from(["none", "rescaled"]),
)
def test_own_values_reach_the_network_and_come_back(values: list[float], scale: float, transform: Any) -> None:
    data = unbounded(scale=scale, transform=transform)
    own = torch.tensor(values, dtype=torch.float64)
    back = to_values(from_values(own, data), data)
    # rescaled adds 1 to values in units of the scale
    torch.testing.assert_close(back, own, rtol=1e-12, atol=1e-12 * scale)


def test_the_network_sees_values_over_their_scale_and_transform_composes() -> None:
    pixels = torch.tensor([-4.0, 0.0, 2.0, 10.0]).view(1, 1, 2, 2)
    for transform, expected in (("none", [-2, 0, 1, 5]), ("rescaled", [-5, -1, 1, 9])):
        data = unbounded(scale=2.0, transform=transform)
        seen = Preprocessing(data, (0.0, 2.0), seed=0).training(pixels.expand(1, 1, 2, 2), torch.arange(1))
        assert seen.flatten().tolist() == expected
        assert to_values(seen, data).flatten().tolist() == pixels.flatten().tolist()


@pytest.mark.parametrize("seed", range(5))
def test_a_measured_scale_is_the_99th_percentile_of_the_magnitudes(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = (generator.standard_t(2, (int(generator.integers(1, 200)), 1, 4, 4)) * 10.0 ** (seed - 2)).astype("f4")
    expected = np.quantile(np.abs(values), 0.99, method="inverted_cdf")
    assert percentile_of(torch.from_numpy(values), unbounded()) == float(f"{expected:.6g}")


def test_the_scale_of_complex_data_is_a_percentile_of_the_magnitude_of_pairs() -> None:
    values = torch.randn(50, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    pairs = torch.complex(values[:, ::2].contiguous(), values[:, 1::2].contiguous()).abs()
    expected = np.quantile(pairs.numpy(), 0.99, method="inverted_cdf")
    data = Complex(path="x", image_size=3, channels=4, range="unbounded")
    assert percentile_of(values, data) == float(f"{expected:.6g}")
    measured = measured_data(data, magnitudes_of(data, in_memory(values), "x", SILENT))
    assert (measured.window_low, measured.window_high) == (0, measured.scale)


def opened(tmp_path: Path, values: Any, **fields: Any) -> tuple[Arrays, Any]:
    np.save(tmp_path / "x.npy", values)
    data = unbounded(path=str(tmp_path / "x.npy"), **fields)
    return data, open_data(data, tmp_path)


def test_reading_keeps_the_values_and_measures_the_training_images_alone(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(60, 4, 4)).astype("f4")
    data, splits = opened(tmp_path, values, held_out=0.3)
    assert 0 < len(splits.held_out) < 60
    expected = np.quantile(np.abs(values[splits.train.ids.numpy()]), 0.99, method="inverted_cdf")
    low, high = splits.train.value_range
    assert (low, high) == splits.held_out.value_range
    assert low == 0
    assert high == pytest.approx(expected, rel=1e-5)
    assert torch.equal(splits.train.read(torch.arange(1)).pixels[0, 0], torch.from_numpy(values[splits.train.ids[0]]))
    assert measured_data(data, splits.magnitudes).scale == high


@pytest.mark.parametrize(("shift", "window"), [(0.0, (-2.0, 2.0)), (100.0, (0.0, 2.0))])
def test_the_window_begins_at_zero_for_data_without_negative_values(
    tmp_path: Path, shift: float, window: tuple[float, float]
) -> None:
    values = np.random.default_rng(0).normal(size=(9, 4, 4)).astype("f4") + np.float32(shift)
    data, splits = opened(tmp_path, values, scale=2.0)
    found = window_of(measured_data(data, splits.magnitudes))
    assert (found.low, found.high) == window


def test_a_declared_window_holds_and_the_other_end_is_beyond_it() -> None:
    assert window_of(unbounded(scale=2.0, window_low=5.0)).high == 7.0
    assert window_of(unbounded(scale=2.0, window_high=-5.0)).low == -7.0
    assert window_of(unbounded(scale=2.0, window_high=1.0)).low == -2.0


@pytest.mark.parametrize(("white", "black"), [(30.0, 0.0), (-1.0, -10.0)])
def test_a_declared_white_leaves_black_at_zero_for_data_without_negative_values(white: float, black: float) -> None:
    data = measured_data(unbounded(window_high=white), Magnitudes(percentile=10.0, largest=50.0, least=0.0))
    assert (data.window_low, data.window_high) == (black, white)


def test_complex_values_are_shown_as_magnitude_and_phase() -> None:
    data = Complex(path="x", image_size=1, channels=2, range="unbounded", scale=5.0)
    magnitude, phase = window_of(data)(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)).flatten().tolist()
    assert magnitude == 1
    assert phase == pytest.approx((np.arctan2(4, 3) / np.pi + 1) / 2)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"scale": 0.0}, "scale must be a finite number > 0, not 0.0"),
        ({"scale": -1.0}, "scale must be a finite number > 0"),
        ({"low": -1.0}, "low needs range=bounded, found unbounded"),
        ({"high": 1.0}, "high needs range=bounded, found unbounded"),
        ({"dequantization": "uniform"}, "dequantization must be none for unbounded data"),
        ({"transform": "logit"}, "transform must be none or rescaled for unbounded data"),
        ({"range": "bounded", "scale": 1.0}, "scale needs range=unbounded"),
        ({"range": "bounded", "window_low": 1.0}, "window_low needs range=unbounded"),
        ({"window_low": 1.0, "window_high": 1.0}, "window_high must be above window_low=1.0"),
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
        (lambda x: np.where(x == x.max(), np.float32("inf"), x), "found NaN or infinite values"),
    ],
)
def test_values_without_a_scale_are_refused(tmp_path: Path, change: Any, complaint: str) -> None:
    with pytest.raises(NcsnxError, match=complaint):
        opened(tmp_path, change(np.random.default_rng(0).normal(size=(20, 4, 4)).astype("f4")), held_out=0.0)


def test_bounded_data_with_other_values_says_how_to_keep_them(tmp_path: Path) -> None:
    with pytest.raises(NcsnxError, match=r"or keep values that have no bounds as they are, with data\.range=unbounded"):
        opened(tmp_path, np.random.default_rng(0).normal(size=(20, 4, 4)).astype("f4"), range="bounded")


def test_bounded_images_are_clamped_and_need_no_scale() -> None:
    data: Data = Images(root="x", image_size=4)
    assert to_values(torch.tensor([-1.0, 0.5, 2.0]), data).tolist() == [0, 0.5, 1]
    assert data.is_bounded
    with pytest.raises(NcsnxError, match="the scale of the unbounded data is not known"):
        to_values(torch.zeros(1), unbounded())


def test_densities_of_unbounded_data_are_refused() -> None:
    preprocessing = Preprocessing(unbounded(scale=1.0), (0.0, 1.0), seed=0)
    with pytest.raises(NcsnxError, match="the data is unbounded"):
        preprocessing.grey_levels(torch.zeros(1))

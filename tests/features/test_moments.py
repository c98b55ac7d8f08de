"""Moments: independent of batches, and accurate in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ncsnx.errors import NcsnxError
from ncsnx.features.moments import Moments


def gathered(features: torch.Tensor, sizes: list[int]) -> Moments:
    moments = Moments.empty(features.shape[1])
    for batch in features.split(sizes):
        moments.add(batch)
    return moments


def check(moments: Moments, features: torch.Tensor) -> None:
    """Compares with NumPy's two-pass moments, within the rounding of both."""
    expected = features.double().numpy()
    count, dimensions = expected.shape
    unit = 4 * np.finfo(np.float64).eps  # a few roundings per term, in both sums
    spread = np.ptp(expected, axis=0).max()
    mean_error = unit * count * np.abs(expected).max()
    assert moments.count == count
    np.testing.assert_allclose(moments.mean, expected.mean(axis=0), rtol=0, atol=mean_error)
    # products of values below `spread`, each off by the error of the mean, plus the rounding of their sum
    covariance = np.cov(expected, rowvar=False).reshape(dimensions, dimensions)
    error = 4 * spread * mean_error + unit * count * spread**2
    np.testing.assert_allclose(moments.covariance, covariance, rtol=0, atol=error)


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) >= 2),
    dimensions=st.integers(1, 6),
    offset=st.sampled_from([0.0, 1.0, 1e4]),
    seed=st.integers(0, 2**31),
)
def test_any_batches_give_the_moments_of_all(sizes: list[int], dimensions: int, offset: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(sum(sizes), dimensions, generator=generator) + offset
    check(gathered(features, sizes), features)


@settings(deadline=None, max_examples=100)
@given(
    part=st.integers(0, 19),
    batch=st.integers(1, 20),
    offset=st.sampled_from([0.0, 10.0, 1e4]),
    seed=st.integers(0, 2**31),
)
def test_a_set_without_a_part_has_the_moments_of_the_rest(part: int, batch: int, offset: float, seed: int) -> None:
    features = torch.randn(20, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + offset
    whole = gathered(features, [20])
    removed = Moments.empty(3)
    for piece in features[:part].split(batch):
        removed.add(piece)
    left = whole.without(removed)
    assert (left.count, whole.count, removed.count) == (20 - part, 20, part)
    expected = features[part:]
    centered = expected - expected.mean(dim=0)
    np.testing.assert_allclose(left.mean, expected.mean(dim=0), rtol=0, atol=1e-10 * (1 + offset))
    np.testing.assert_allclose(left.scatter, centered.T @ centered, rtol=0, atol=1e-8 * (1 + offset))


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_images_have_no_covariance(count: int) -> None:
    moments = gathered(torch.ones(count, 3), [1] * count)
    with pytest.raises(NcsnxError, match=f"a covariance needs at least 2 images, not {count}"):
        _ = moments.covariance


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_features_that_are_not_finite_are_refused_and_counted(bad: float) -> None:
    features = torch.ones(5, 3)
    features[1, 2] = features[4, 0] = features[4, 1] = bad
    moments = Moments.empty(3)
    with pytest.raises(NcsnxError, match="NaN or infinity in the features of 2 of 5 images"):
        moments.add(features)
    assert moments.count == 0

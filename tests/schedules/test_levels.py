"""Noise levels: exact ends, and geometric or linear levels in between, in float64."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncsnx.config import Geometric, Schedule, Uniform
from ncsnx.schedules.levels import sigmas


@pytest.mark.parametrize(("sigma_max", "levels"), [(1.0, 10), (50.0, 232), (348.0, 2311), (5.0, 2)])
def test_geometric_levels_have_a_constant_ratio(sigma_max: float, levels: int) -> None:
    found = sigmas(Geometric(sigma_max=sigma_max, sigma_min=0.01, levels=levels))
    # exp and log each have an error of half a unit in the last place, for exponents below 6
    np.testing.assert_allclose(found, np.exp(np.linspace(np.log(sigma_max), np.log(0.01), levels)), rtol=1e-14)
    assert (found[0], found[-1]) == (sigma_max, 0.01)
    assert len(found) == levels


def test_uniform_levels_have_a_constant_difference() -> None:
    found = sigmas(Uniform(sigma_max=50.0, sigma_min=0.01, levels=232))
    np.testing.assert_allclose(found, np.linspace(50.0, 0.01, 232), rtol=1e-12)
    assert (found[0], found[-1]) == (50.0, 0.01)


@settings(deadline=None)  # machines are busy
@given(st.sampled_from([Geometric, Uniform]), st.floats(1e-4, 1.0), st.floats(1.01, 1e5), st.integers(2, 3_000))
def test_levels_descend_from_the_first_to_the_last(cls: type[Schedule], low: float, ratio: float, levels: int) -> None:
    found = sigmas(cls(sigma_max=low * ratio, sigma_min=low, levels=levels))
    assert (found[0], found[-1], len(found)) == (low * ratio, low, levels)
    assert all(left > right for left, right in pairwise(found))
    assert all(type(sigma) is float for sigma in found)


def test_integer_bounds_give_floats() -> None:
    assert sigmas(Geometric(sigma_max=4, sigma_min=1, levels=3)) == (4.0, pytest.approx(2.0, rel=1e-15), 1.0)
    assert {type(sigma) for sigma in sigmas(Uniform(sigma_max=4, sigma_min=1, levels=4))} == {float}

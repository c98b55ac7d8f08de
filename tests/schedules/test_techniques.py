"""Techniques 2 and 4: published numbers and their equations."""

import math
import subprocess
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncsnx.errors import NcsnxError
from ncsnx.schedules import techniques
from ncsnx.schedules.techniques import plan_noise

# pixels, σ_1, L, T, ε as published (Song & Ermon 2020, appendix B)
PUBLISHED = {
    "CIFAR-10": (32, 50.0, 232, 5, 6.2e-6),
    "CelebA": (64, 90.0, 500, 5, 3.3e-6),
    "church": (96, 140.0, 788, 4, 4.9e-6),
    "bedroom": (128, 190.0, 1086, 3, 1.8e-6),
    "FFHQ": (256, 348.0, 2311, 3, 9e-7),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_levels_and_steps_come_out_as_published(name: str) -> None:
    size, sigma_max, levels, steps, _ = PUBLISHED[name]
    plan = plan_noise(3 * size**2, sigma_max)
    assert (plan.levels, plan.steps_per_level) == (levels, steps)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "church"])
def test_the_step_size_comes_out_as_published(name: str) -> None:
    size, sigma_max, _, _, published = PUBLISHED[name]
    assert plan_noise(3 * size**2, sigma_max).step_size == pytest.approx(published, rel=0.03)


def test_the_published_step_size_for_church_is_not_the_optimum() -> None:
    size, sigma_max, levels, steps, published = PUBLISHED["church"]
    plan = plan_noise(3 * size**2, sigma_max)
    assert plan.step_size == pytest.approx(2.31e-6, rel=2e-3)  # to the three digits of the known value
    ratio = techniques.spaced_ratio(sigma_max, 0.01, levels)
    assert techniques.remaining_variance(published, 0.01, ratio, steps) > plan.remaining_variance


@settings(deadline=None)
@given(st.integers(5, 10**7), st.floats(0.01, 0.99))
def test_the_ratio_solves_its_equation(dimensions: int, overlap: float) -> None:
    ratio = techniques.level_ratio(dimensions, overlap)
    assert ratio > 1
    # rounding γ by 2e-16 changes the overlap by at most that times its slope, below √(2D)/√(2π) + 3; erf adds a little
    margin = 1e-15 + 3e-16 * ratio * (math.sqrt(2 * dimensions) + 3)
    assert techniques.level_overlap(dimensions, ratio) == pytest.approx(overlap, abs=margin)


@pytest.mark.parametrize(("dimensions", "ratio"), [(64, 1.34), (3072, 1.0376), (196_608, 1.0045), (3072, 1.2)])
def test_the_overlap_is_a_difference_of_normal_distribution_functions(dimensions: int, ratio: float) -> None:
    normal, middle = NormalDist(), math.sqrt(2 * dimensions) * (ratio - 1)
    expected = normal.cdf(middle + 3 * ratio) - normal.cdf(middle - 3 * ratio)
    assert techniques.level_overlap(dimensions, ratio) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("dimensions", "overlap"), [(4, 0.567), (3072, 0.9974), (3072, 0.0), (3072, -1.0), (3072, 2.0)]
)
def test_an_impossible_overlap_is_refused(dimensions: int, overlap: float) -> None:
    with pytest.raises(NcsnxError, match=r"no noise levels overlap by .* between 0 and 0\.9973"):
        techniques.level_ratio(dimensions, overlap)


@settings(deadline=None)
@given(st.floats(1.001, 20.0), st.integers(1, 200), st.floats(1e-3, 1.0))
def test_no_other_step_size_leaves_less_variance(ratio: float, steps: int, sigma_min: float) -> None:
    best = techniques.best_step_size(sigma_min, ratio, steps)
    shares = np.linspace(1e-4, 1.9, 400)
    values = [techniques.remaining_variance(share * sigma_min**2, sigma_min, ratio, steps) for share in shares]
    least = techniques.remaining_variance(best, sigma_min, ratio, steps)
    assert 1 < least <= min(values) * (1 + 1e-12)
    # unimodal: it only decreases before the optimum and only increases after it
    falls = np.diff(values) < 1e-12 * np.array(values[1:])
    rises = np.diff(values) > -1e-12 * np.array(values[1:])
    place = int(np.searchsorted(shares, best / sigma_min**2))
    within = shares[1:] < 1  # beyond 1 the noise overshoots, and the value is above 2 or above γ²
    assert falls[: max(place - 1, 0)].all()
    assert rises[place:][within[place:]].all()


def test_the_variance_equals_that_of_simulated_langevin_steps() -> None:
    """Each step scales the noise by 1 − u and adds the variance 2ε, if the data is a single point."""
    sigma, ratio, steps, share = 0.01, 1.0377, 5, 0.07
    variance = (ratio * sigma) ** 2
    for _ in range(steps):
        variance = (1 - share) ** 2 * variance + 2 * share * sigma**2
    expected = variance / sigma**2
    assert techniques.remaining_variance(share * sigma**2, sigma, ratio, steps) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("levels", "steps"), [(2, 5), (700, 5), (701, 4), (875, 4), (876, 3), (100_000, 3)])
def test_steps_per_level_are_as_many_as_3500_updates_allow(levels: int, steps: int) -> None:
    assert techniques.affordable_steps(levels) == steps


def test_sigma_max_must_be_above_sigma_min() -> None:
    with pytest.raises(NcsnxError, match=r"σ_1 must be above σ_L = 0\.01"):
        plan_noise(3072, 0.01)


def test_nothing_but_the_standard_library_is_needed() -> None:
    code = "import sys, ncsnx.schedules.techniques; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=60)

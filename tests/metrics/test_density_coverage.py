"""Density and coverage: a set counted by hand, the definition by brute force, and expected values."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.metrics.density_coverage import density_coverage


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def line(*places: float) -> Tensor:
    return torch.tensor(places)[:, None]


def by_definition(real: Tensor, generated: Tensor, neighbors: int) -> tuple[float, float]:
    """Density and coverage by equations 3 and 4, image by image."""
    x, y = real.double().numpy(), generated.double().numpy()
    radii = [sorted(float(np.square(a - b).sum()) for b in x)[neighbors] for a in x]  # the first is the image itself
    inside = [[float(np.square(a - b).sum()) <= radius for b in y] for a, radius in zip(x, radii, strict=True)]
    density = sum(map(sum, inside)) / (neighbors * len(y))
    return density, sum(map(any, inside)) / len(x)


def test_balls_around_real_images_are_counted() -> None:
    # the balls reach 1, 1 and 8.5 around 0, 1 and 9.5; 0.5 lies in two of them, 10 in one, 30 in none
    found = density_coverage(line(0, 1, 9.5), line(0.5, 10, 30), neighbors=1)
    assert (found.density, found.coverage) == (1.0, 1.0)
    found = density_coverage(line(0, 1, 9.5), line(0.5, 0.6, 30), neighbors=1)
    assert (found.density, found.coverage) == (pytest.approx(4 / 3), pytest.approx(2 / 3))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(7, 40), st.integers(2, 40), st.integers(1, 5), st.integers(1, 64))
def test_they_are_what_the_definition_says(seed: int, m: int, n: int, neighbors: int, block: int) -> None:
    real, generated = normal(seed, m, 3), 0.7 * normal(seed + 1, n, 3)
    found = density_coverage(real, generated, neighbors, block)
    assert (found.density, found.coverage) == pytest.approx(by_definition(real, generated, neighbors), rel=1e-12)


def test_images_of_the_same_distribution_have_what_theory_says() -> None:
    m, n, k, times = 300, 200, 5, 60
    found = [density_coverage(normal(seed, m, 4), normal(1_000 + seed, n, 4), k) for seed in range(times)]
    densities, coverages = torch.tensor([(one.density, one.coverage) for one in found]).T.double()
    expected = 1 - math.prod((m - 1 - i) / (m + n - 1 - i) for i in range(k))
    # four standard errors of the means over the repetitions
    assert float(densities.mean()) == pytest.approx(1, abs=4 * float(densities.std()) / math.sqrt(times))
    assert float(coverages.mean()) == pytest.approx(expected, abs=4 * float(coverages.std()) / math.sqrt(times))


def test_too_few_images_are_refused() -> None:
    with pytest.raises(NcsnxError, match="5 neighbors"):
        density_coverage(normal(0, 5, 3), normal(1, 20, 3))
    with pytest.raises(NcsnxError, match="4 numbers per image"):
        density_coverage(normal(0, 20, 3), normal(1, 20, 4))

"""Precision, recall, density and coverage: small sets counted by hand, and brute force."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.metrics import density_coverage as density
from ncsnx.metrics import manifold
from ncsnx.metrics.density_coverage import density_coverage
from ncsnx.metrics.manifold import precision_recall, squared_distances


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def line(*places: float) -> Tensor:
    return torch.tensor(places)[:, None]


def by_brute_force(real: Tensor, generated: Tensor, neighbors: int) -> tuple[float, float]:
    def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.square(x[:, None] - y[None]).sum(-1)

    def covered(points: np.ndarray, centers: np.ndarray) -> float:
        radii = np.sort(distances(centers, centers), axis=1)[:, neighbors]  # 0 is the image itself
        return float((distances(points, centers) <= radii).any(1).mean())

    x, y = real.double().numpy(), generated.double().numpy()
    return covered(y, x), covered(x, y)


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_a_set_covers_itself(offset: float) -> None:
    features = normal(0, 50, 20) + offset
    assert precision_recall(features, features.flip(0)) == {"precision": 1.0, "recall": 1.0}


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("block", [7, 1024])
def test_balls_of_duplicates_are_points(offset: float, block: int) -> None:
    # four of each: with 3 neighbors every radius is 0, so only copies count; many and in random order, since rounding
    # in a matrix product depends on the position
    images = normal(5, 100, 2047).double() + offset
    real = images.repeat(4, 1)[torch.randperm(400, generator=torch.Generator().manual_seed(6))]
    generated = torch.cat((images, images + 1e-3))
    assert precision_recall(real, generated, block=block) == {"precision": 0.5, "recall": 1.0}


@settings(deadline=None, max_examples=60)
@given(
    counts=st.tuples(st.integers(4, 25), st.integers(4, 25)),
    dimensions=st.integers(1, 8),
    neighbors=st.integers(1, 3),
    block=st.integers(1, 30),
    seed=st.integers(0, 2**31),
)
def test_any_block_gives_the_count_of_brute_force(
    counts: tuple[int, int], dimensions: int, neighbors: int, block: int, seed: int
) -> None:
    # integers: copies and points on the edge are common, and squared distances exact
    generator = torch.Generator().manual_seed(seed)
    real, generated = (torch.randint(0, 4, (count, dimensions), generator=generator).double() for count in counts)
    # the center is subtracted first, so both get an exact mean
    mirrored = torch.cat((real, 4 - real))
    found = precision_recall(mirrored, generated, neighbors, block)
    assert (found["precision"], found["recall"]) == pytest.approx(by_brute_force(mirrored, generated, neighbors))


@pytest.mark.parametrize("measure", [precision_recall, density_coverage])
def test_distances_of_one_block_are_held(measure: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Size] = []

    def watched(x: Tensor, y: Tensor) -> Tensor:
        found = squared_distances(x, y)
        seen.append(found.shape)
        return found

    for module in (manifold, density):
        monkeypatch.setattr(module, "squared_distances", watched)
    measure(normal(8, 30, 2), normal(9, 100, 2), block=16)
    assert max(rows for rows, _ in seen) == max(columns for _, columns in seen) == 16


def by_definition(real: Tensor, generated: Tensor, neighbors: int) -> tuple[float, float]:
    """Density and coverage by equations 3 and 4, image by image."""
    x, y = real.double().numpy(), generated.double().numpy()
    radii = [sorted(float(np.square(a - b).sum()) for b in x)[neighbors] for a in x]  # the first is the image itself
    inside = [[float(np.square(a - b).sum()) <= radius for b in y] for a, radius in zip(x, radii, strict=True)]
    density = sum(map(sum, inside)) / (neighbors * len(y))
    return density, sum(map(any, inside)) / len(x)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(7, 40), st.integers(2, 40), st.integers(1, 5), st.integers(1, 64))
def test_density_and_coverage_are_their_definitions(seed: int, m: int, n: int, neighbors: int, block: int) -> None:
    real, generated = normal(seed, m, 3), 0.7 * normal(seed + 1, n, 3)
    found = density_coverage(real, generated, neighbors, block)
    assert (found["density"], found["coverage"]) == pytest.approx(by_definition(real, generated, neighbors), rel=1e-12)


@pytest.mark.parametrize(
    ("measure", "real", "generated", "told"),
    [
        (precision_recall, (10, 2), (3, 2), "precision with 3 neighbors needs at least 4 images, not 3"),
        (precision_recall, (3, 2), (10, 2), "precision with 3 neighbors needs at least 4 images, not 3"),
        (density_coverage, (5, 3), (20, 3), "5 neighbors"),
        (density_coverage, (20, 3), (20, 4), "4 numbers per image"),
    ],
)
def test_too_few_images_and_other_features_are_refused(
    measure: Callable[..., object], real: tuple[int, int], generated: tuple[int, int], told: str
) -> None:
    with pytest.raises(NcsnxError, match=told):
        measure(normal(6, *real), normal(7, *generated))

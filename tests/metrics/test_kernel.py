"""The kernel distance: clean-fid, no bias, and a standard error for other images."""

import importlib
import itertools
import statistics
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

from ncsnx.metrics.kernel import kernel_distance


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@contextmanager
def numpys_generator_kept() -> Iterator[None]:
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)


def by_pairs(features: Tensor, reference: Tensor) -> float:
    """The unbiased distance of two whole sets, pair by pair."""
    x, y = features.double().tolist(), reference.double().tolist()

    def kernel(a: list[float], b: list[float]) -> float:
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    within_x = statistics.fmean(kernel(a, b) for a, b in itertools.permutations(x, 2))
    within_y = statistics.fmean(kernel(a, b) for a, b in itertools.permutations(y, 2))
    return within_x + within_y - 2 * statistics.fmean(kernel(a, b) for a, b in itertools.product(x, y))


def test_it_is_clean_fids() -> None:
    clean_fid = importlib.import_module("cleanfid.fid").kernel_distance
    features, reference = normal(0, 120, 64), normal(1, 120, 64) * 1.2 + 0.3
    with numpys_generator_kept():  # clean-fid permutes the sets by this generator
        expected = clean_fid(reference.double().numpy(), features.double().numpy(), num_subsets=1)
    assert kernel_distance(features, reference, seed=0)["kernel_distance"] == pytest.approx(expected, rel=1e-10)


def test_with_every_subset_drawn_it_is_the_mean_over_subsets() -> None:
    # 3 of 4 images against 3 of 4: the mean over the 16 pairs of subsets is the distance of the whole sets
    features, reference = normal(4, 4, 3), normal(5, 4, 3) + 1
    parts = [
        by_pairs(features[list(mine)], reference[list(theirs)])
        for mine in itertools.combinations(range(4), 3)
        for theirs in itertools.combinations(range(4), 3)
    ]
    assert statistics.fmean(parts) == pytest.approx(by_pairs(features, reference), rel=1e-12)
    found = kernel_distance(features, reference, seed=0, subsets=500, most=3)["kernel_distance"]
    assert found == pytest.approx(statistics.fmean(parts), abs=4 * statistics.pstdev(parts) / 500**0.5)
    assert kernel_distance(features, reference, seed=0, subsets=1, most=3)["kernel_distance"] in [
        pytest.approx(part, rel=1e-12) for part in parts
    ]
    assert (
        len({kernel_distance(features, reference, seed=k, subsets=1, most=3)["kernel_distance"] for k in range(8)}) > 1
    )


def test_the_two_sets_are_not_drawn_alike() -> None:
    # equal subsets of equal sets would make every distance negative, by 2/(n − 1) of the kernel's spread
    features = normal(10, 300, 6)
    values = [kernel_distance(features, features, seed=k, subsets=1, most=30)["kernel_distance"] for k in range(60)]
    assert max(values) > 0

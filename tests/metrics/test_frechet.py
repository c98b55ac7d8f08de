"""The Fréchet distance: closed forms, clean-fid, singular covariances, and the standard error."""

import importlib.metadata
import math
import statistics
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.features import moments as moments_of_features
from ncsnx.features.moments import Moments
from ncsnx.metrics.frechet import frechet_distance, frechet_distance_of_images, standard_error
from ncsnx.randomness import Purpose, Stream

SCIPY = tuple(int(part) for part in importlib.metadata.version("scipy").split(".")[:2])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def rotation(seed: int, dimensions: int) -> Tensor:
    return torch.linalg.qr(normal(seed, dimensions, dimensions)).Q


def covariance(seed: int, dimensions: int, rank: int) -> Tensor:
    factor = normal(seed, dimensions, rank)
    return factor @ factor.T / rank


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    gathered = Moments.empty(features.shape[1])
    gathered.add(features)
    return gathered.mean, gathered.covariance


def by_features(features_1: Tensor, features_2: Tensor) -> float:
    """The distance of two sets by another formula: for Σ = XᵀX/(n − 1), tr (Σ₁Σ₂)^½ = ‖X₁X₂ᵀ‖_* up to scale."""
    x, y = features_1.double().numpy(), features_2.double().numpy()
    centered_x, centered_y = x - x.mean(0), y - y.mean(0)
    degrees_x, degrees_y = len(x) - 1, len(y) - 1
    overlap = np.linalg.norm(centered_x @ centered_y.T, ord="nuc") / math.sqrt(degrees_x * degrees_y)
    traces = np.square(centered_x).sum() / degrees_x + np.square(centered_y).sum() / degrees_y
    return float(np.square(x.mean(0) - y.mean(0)).sum() + traces - 2 * overlap)


def test_covariances_in_spaces_apart_have_no_overlap() -> None:
    # each has 150 eigenvalues at the level of rounding, whose roots, 1e-8, must not add up
    basis = rotation(4, 300)
    first, second = basis[:, :150], basis[:, 150:]
    zero = torch.zeros(300)
    assert frechet_distance(zero, first @ first.T, zero, second @ second.T) == pytest.approx(300, abs=1e-9)


@pytest.mark.parametrize(("count", "dimensions"), [(2, 50), (51, 50), (400, 50), (150, 300)])
@pytest.mark.parametrize(("scale", "offset"), [(30.0, 5.0), (0.01, 100.0)])
def test_images_are_at_distance_zero_from_themselves(count: int, dimensions: int, scale: float, offset: float) -> None:
    features = (torch.randn(count, dimensions, generator=generator(7)).relu() * scale + offset).float()
    mean, sigma = moments(features)
    found = frechet_distance_of_images(features, mean, sigma)
    trace = sigma.trace().item()
    # up to n eigenvalues are cut as rounding, each at most n·2e-16 of the largest
    assert found <= count**2 * 2.3e-16 * trace + 1e-13
    assert found <= 1e-6


@pytest.mark.skipif(SCIPY >= (1, 18), reason="SciPy 1.18 removed the argument that clean-fid's distance gives sqrtm")
@pytest.mark.parametrize("count", [40, 64, 400])
def test_it_is_clean_fids(count: int) -> None:
    clean_fid = importlib.import_module("cleanfid.fid").frechet_distance
    scales = torch.logspace(0, -2, 64, dtype=torch.float64)
    features = normal(8, count, 64) * scales @ rotation(9, 64)
    reference = (normal(10, 2000, 64) * 1.2 + 0.1) * scales @ rotation(9, 64)
    statistics_1, statistics_2 = moments(features), moments(reference)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # SciPy 1.17 deprecates the argument
        expected = clean_fid(*(array.numpy() for array in (*statistics_1, *statistics_2)))
    assert frechet_distance(*statistics_1, *statistics_2) == pytest.approx(expected, rel=1e-3)
    assert frechet_distance_of_images(features, *statistics_2) == pytest.approx(expected, rel=1e-3)


@settings(deadline=None, max_examples=80)
@given(
    dimensions=st.integers(1, 12),
    count_1=st.integers(2, 20),
    count_2=st.integers(2, 20),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 2**31),
)
def test_every_form_gives_the_same_number(dimensions: int, count_1: int, count_2: int, scale: float, seed: int) -> None:
    features = normal(seed, count_1, dimensions) * scale
    reference = normal(seed + 1, count_2, dimensions) + 1
    mean, sigma = moments(reference)
    own_mean, own_sigma = moments(features)
    expected = by_features(features, reference)
    # an eigenvalue below D·2e-16 of the largest counts as 0: a root is off by 1e-7·√λ, of D of them
    margin = 1e-7 * dimensions * (sigma.trace() * own_sigma.trace()).sqrt().item() + 1e-12 * (1 + scale) ** 2
    turn = rotation(seed + 2, dimensions)
    found = {
        "of images": frechet_distance_of_images(features, mean, sigma),
        "of moments": frechet_distance(own_mean, own_sigma, mean, sigma),
        "exchanged": frechet_distance(mean, sigma, own_mean, own_sigma),
        "turned": frechet_distance_of_images(features @ turn, mean @ turn, turn.T @ sigma @ turn),
    }
    assert found == {name: pytest.approx(expected, abs=margin) for name in found}


def test_a_covariance_with_eigenvalues_below_zero_counts_them_as_zero() -> None:
    # as after rounding to float32
    sigma = torch.diag(torch.tensor([4.0, -1e-7]))
    zero = torch.zeros(2)
    assert frechet_distance(zero, sigma, zero, torch.eye(2)) == pytest.approx(4 + 2 - 2 * 2, abs=2e-7)


@pytest.mark.parametrize(("count", "dimensions"), [(12, 30), (13, 8)])
def test_the_halves_are_compared_as_sets_of_images_are(count: int, dimensions: int) -> None:
    features = normal(16, count, dimensions) + 3
    mean, sigma = moments(normal(17, 100, dimensions))
    order = Stream(5, Purpose.SUBSETS)
    halves = [features[order.permutation(count, epoch=k)[: count // 2]] for k in range(3)]
    spread = statistics.stdev(frechet_distance_of_images(half, mean, sigma) for half in halves)
    expected = math.sqrt((count // 2) / (count - count // 2)) * spread
    assert standard_error(features, mean, sigma, seed=5, halves=3) == pytest.approx(expected, rel=1e-9)


def test_features_are_taken_in_blocks_to_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    features, real = (normal(seed, 400, 16).float() for seed in (0, 1))
    reference = real.double().mean(dim=0), real.double().T.cov()

    def measured() -> list[float]:
        return [frechet_distance_of_images(features, *reference), standard_error(features, *reference, seed=0)]

    expected = measured()
    monkeypatch.setattr(moments_of_features, "_BLOCK_BYTES", 8 * 16 * 30)
    assert measured() == pytest.approx(expected, rel=1e-11)


ZERO, UNIT = torch.zeros(3), torch.eye(3)


@pytest.mark.parametrize(
    ("measure", "told"),
    [
        (lambda: frechet_distance_of_images(torch.ones(1, 3), ZERO, UNIT), "needs at least 2 images, not 1; .* n="),
        (lambda: standard_error(torch.ones(3, 3), ZERO, UNIT, seed=0), "from halves needs at least 4 images, not 3"),
        (lambda: frechet_distance_of_images(torch.ones(5, 64), ZERO, UNIT), "64 numbers per image, .* have 3"),
        (lambda: frechet_distance(torch.zeros(64), torch.eye(64), ZERO, UNIT), "64 numbers per image, .* have 3"),
        (lambda: frechet_distance_of_images(torch.ones(5, 3), ZERO, torch.eye(4)), r"not \(3,\) and \(4, 4\)"),
        (lambda: frechet_distance_of_images(torch.ones(5, 3) * math.nan, ZERO, UNIT), "in the features of 5 of 5"),
        (lambda: frechet_distance(ZERO, UNIT, ZERO, UNIT * math.inf), "the covariance holds NaN or infinity"),
    ],
)
def test_what_cannot_be_compared_is_refused(measure: Callable[[], float], told: str) -> None:
    with pytest.raises(NcsnxError, match=told):
        measure()

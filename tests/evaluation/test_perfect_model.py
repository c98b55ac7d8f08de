"""The score of a perfect model: real images against the rest of a reference score like new images."""

import math
import statistics
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ncsnx.evaluation.reference import (
    ACCURACY,
    LEAST_DRAWS,
    MOST_DRAWS,
    PerfectModel,
    images_to_draw,
    measure_perfect_model,
)
from ncsnx.metrics.frechet import frechet_distance, frechet_distance_of_images
from ncsnx.work import SILENT

D = 32
SETS = 30


def images(generator: torch.Generator, count: int) -> Tensor:
    """Features of new real images: normal, with variances from 1 down to 1/32."""
    scale = torch.arange(1, D + 1, dtype=torch.float64).rsqrt()
    return torch.randn(count, D, generator=generator, dtype=torch.float64) * scale


def measured(real: Tensor, n: int, kept: int | None = None) -> PerfectModel:
    """The perfect model for a reference of these images, with the features of the first `kept`."""
    return measure_perfect_model(n, len(real), real.mean(dim=0), real.T.cov(), real[:kept], SILENT)


def distance(features: Tensor, real: Tensor) -> float:
    return frechet_distance_of_images(features, real.mean(dim=0), real.T.cov())


def over_sets(measure: Callable[[torch.Generator], float]) -> tuple[float, float]:
    """Mean and standard error of the score over sets of real images."""
    generator = torch.Generator().manual_seed(8)
    found = [measure(generator) for _ in range(SETS)]
    return statistics.fmean(found), statistics.stdev(found) / math.sqrt(SETS)


@pytest.mark.parametrize(
    ("n", "reference", "kept"),
    # n of N/20, N/4, more than N/4, more than N; and N with few kept features
    [(125, 2_500, None), (125, 500, None), (125, 187, None), (500, 187, None), (125, 625, 125), (1_000, 1_000, 200)],
)
def test_a_perfect_model_scores_what_new_images_of_the_distribution_score(
    n: int, reference: int, kept: int | None
) -> None:
    fresh, fresh_error = over_sets(lambda one: distance(images(one, n), images(one, reference)))
    found, found_error = over_sets(lambda one: measured(images(one, reference), n, kept).score)
    # four standard errors of the difference, and 4 % for terms in D/d beyond the formula
    assert found == pytest.approx(fresh, abs=4 * math.hypot(fresh_error, found_error) + 0.04 * fresh)


@pytest.mark.parametrize(("n", "reference"), [(125, 2_500), (125, 187)])
def test_the_spread_is_that_of_the_scores_of_perfect_models(n: int, reference: int) -> None:
    generator = torch.Generator().manual_seed(10)
    real = images(generator, reference)
    scores = [distance(images(generator, n), real) for _ in range(200)]
    spreads = [measured(images(generator, reference), n).spread for _ in range(SETS)]
    expected = statistics.stdev(scores)
    # a standard deviation from 5 draws is known to 1/√8, its mean over the sets to 6 %, that of 200 to 5 %: four of
    # both together are 33 %; from 5 draws it is 6 % too small on average, and another 8 % since draws share images
    assert statistics.fmean(spreads) == pytest.approx(expected, rel=0.33 + 0.14)


def test_images_are_compared_with_those_that_are_left() -> None:
    """Two of four images against the other two: each draw is one of six."""
    real = torch.tensor([[0.0], [1.0], [3.0], [7.0]], dtype=torch.float64)
    ways = []
    for pair in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)):
        chosen, rest = real[list(pair)], real[[i for i in range(4) if i not in pair]]
        means = chosen.mean(dim=0), rest.mean(dim=0)
        covariances = chosen.var(dim=0)[None], rest.var(dim=0)[None]
        ways.append(frechet_distance(means[0], covariances[0], means[1], covariances[1]))
    found = measured(real, 10)
    assert found.drawn == 2
    scale = (1 / 10 + 1 / 4) / (1 / 2 + 1 / 2)
    assert min(ways) * scale <= found.score <= max(ways) * scale


@pytest.mark.parametrize(
    ("n", "reference", "kept", "drawn", "words"),
    [
        (1_000, 20_000, 10_000, 1_000, "1,000 real images against the rest"),
        (250, 1_000, 1_000, 250, "250 real images against the rest"),
        (1_000, 1_498, 1_498, 600, "600 real images against the rest, scaled to 1,000 against 1,498 images"),
        (50_000, 50_000, 10_000, 5_000, "5,000 real images against the rest, scaled to 50,000 against 50,000 images"),
        (10_000, 50_000, 10_000, 5_000, "5,000 real images against the rest, scaled to 10,000 against 50,000 images"),
        (1_000, 5, 5, 2, "2 real images against the rest, scaled to 1,000 against 5 images"),
    ],
)
def test_as_many_are_drawn_as_leave_a_reference_and_it_is_said_where_these_are_fewer(
    n: int, reference: int, kept: int, drawn: int, words: str
) -> None:
    assert images_to_draw(n, reference, kept) == drawn
    found = PerfectModel(score=9.7412, spread=0.1234, n=n, reference_images=reference, drawn=drawn, draws=5)
    assert str(found) == f"9.74 ± 0.12 ({words})"


def test_features_that_vary_in_one_direction_take_more_draws() -> None:
    """A distance in one direction is nearly the square of a normal number, whose deviation is √2 of its mean.

    5 % would take 800 draws. In 32 directions with equal variances, the standard deviation is at most 10 % here: 5
    draws give the mean to 5 %.
    """
    generator = torch.Generator().manual_seed(13)
    spread_out = torch.randn(400, D, generator=generator, dtype=torch.float64)
    one_way = spread_out * torch.tensor([1.0] + [1e-3] * (D - 1))
    few, many = measured(spread_out, 50), measured(one_way, 50)
    assert few.draws == LEAST_DRAWS
    assert many.draws == MOST_DRAWS
    assert few.spread <= ACCURACY * math.sqrt(few.draws) * few.score

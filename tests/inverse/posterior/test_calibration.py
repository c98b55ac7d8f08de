"""Calibration: shares of truths that are known, with ties, correlated pixels, and few alternatives."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from ncsnx.inverse.posterior.calibration import (
    Coverage,
    calibration_in_words,
    calibration_rows,
    least_alternatives,
    order_of,
)

MARGIN = 4.5
"""Standard errors that are exceeded once in 150,000 draws."""


def measured(truths: NDArray[np.float64], alternatives: NDArray[np.float64], parts: int = 1) -> Coverage:
    """truths: (P, V); alternatives: (P, V, n), in any order; parts: number of parts in which a picture is added."""
    coverage = Coverage.of(len(truths), alternatives.shape[2])
    for picture, (truth, values) in enumerate(zip(truths, alternatives, strict=True)):
        ordered = np.sort(values.astype(np.float32), axis=1)
        for some in np.array_split(np.arange(len(truth)), parts):
            coverage.add(picture, ordered[some], truth[some].astype(np.float32), 1.0)
    return coverage


def share_of_gaussian(ratio: float, count: int, k: int) -> float:
    """Probability that t ~ N(0, 1) is between the k-th smallest and k-th largest of `count` draws of N(0, ratio²)."""
    t = np.linspace(-8, 8, 4001)
    below = np.array([0.5 * math.erfc(-one / ratio / math.sqrt(2)) for one in t])
    inside = sum(math.comb(count, m) * below**m * (1 - below) ** (count - m) for m in range(k, count - k + 1))
    return float((np.exp(-(t**2) / 2) * inside).sum() / np.exp(-(t**2) / 2).sum())


@pytest.mark.parametrize("count", [3, 9, 20, 39])
@pytest.mark.parametrize("ratio", [1.0, 0.5, 2.0], ids=["calibrated", "too narrow", "too wide"])
def test_gaussian_truths_lie_within_as_often_as_the_closed_form_says(count: int, ratio: float) -> None:
    generator, pictures, pixels = np.random.default_rng(count), 40, 250
    means = generator.normal(size=(pictures, pixels))
    truths = means + generator.normal(size=(pictures, pixels))
    alternatives = means[..., None] + ratio * generator.normal(size=(pictures, pixels, count))
    found = measured(truths, alternatives).result()
    for interval in found.intervals:
        k = order_of(interval.central, count)
        if k is None:
            continue
        expected = share_of_gaussian(ratio, count, k)
        assert interval.share is not None
        assert abs(interval.share - expected) < MARGIN * math.sqrt(expected * (1 - expected) / (pictures * pixels))
        if ratio == 1:
            assert interval.expected == pytest.approx(expected, abs=1e-6)


def test_the_expected_share_is_that_of_order_statistics_and_too_few_alternatives_are_said() -> None:
    assert [least_alternatives(level) for level in (0.5, 0.8, 0.95)] == [3, 9, 39]
    for count in range(1, 300):
        for level in (0.5, 0.8, 0.95):
            k = order_of(level, count)
            assert (k is None) == (count < least_alternatives(level))
            if k is not None:
                nearest = min(range(1, count // 2 + 1), key=lambda one: abs(1 - 2 * one / (count + 1) - level))
                assert abs(1 - 2 * k / (count + 1) - level) == pytest.approx(
                    abs(1 - 2 * nearest / (count + 1) - level), abs=1e-9
                )
    few = measured(np.zeros((1, 2)), np.ones((1, 2, 4))).result()
    assert [(one.expected, one.least_alternatives) for one in few.intervals] == [(0.6, 3), (None, 9), (None, 39)]
    assert [row[2] for row in calibration_rows(few)[1:]] == ["needs 9 alternatives", "needs 39 alternatives"]
    none = measured(np.zeros((1, 2)), np.ones((1, 2, 2)))
    assert [one.share for one in none.result().intervals] == [None] * 3
    assert (few.is_known, none.result().is_known) == (True, False)
    assert Coverage.of(2, 1).curve().shape == (0, 3)


def test_ties_neither_add_to_the_share_nor_take_from_it() -> None:
    """Pictures and alternatives are black in many pixels."""
    generator, count, pixels = np.random.default_rng(1), 19, 5_000
    values = generator.choice([0.0, 0.0, 0.5, 1.0], size=(2, pixels, count + 1))
    found = measured(values[..., 0], values[..., 1:]).result()
    total = found.values
    for interval in found.intervals[:2]:
        assert interval.share is not None
        assert interval.expected is not None
        assert abs(interval.share - interval.expected) < MARGIN * math.sqrt(0.25 / total)
    assert total + found.left_out == 2 * pixels


def test_values_that_are_the_same_in_truth_and_alternatives_are_left_out_and_wrong_ones_are_not() -> None:
    truths, alternatives = np.full((1, 4), 0.5), np.full((1, 4, 3), 0.5)
    alternatives[0, 1] += 1e-5  # rounding
    alternatives[0, 2] += 0.01  # all the same, but wrong
    alternatives[0, 3] = [0.4, 0.6, 0.7]
    found = measured(truths, alternatives).result()
    assert (found.values, found.left_out) == (2, 2)
    assert found.intervals[0].share == 0.5
    nothing = measured(truths, np.full((1, 4, 3), 0.5))
    assert not nothing.is_empty
    assert nothing.result().pictures == 0
    assert "nothing varies" in calibration_rows(nothing.result())[0][2]
    assert Coverage.of(3, 9).is_empty


def test_the_error_is_that_of_pictures_whose_pixels_are_copies_of_one() -> None:
    generator, pictures, count = np.random.default_rng(2), 400, 9
    truths, alternatives = generator.normal(size=(pictures, 1)), generator.normal(size=(pictures, 1, count))
    copies = measured(truths.repeat(50, 1), alternatives.repeat(50, 1)).result().intervals[0]
    assert copies.expected is not None
    assert copies.error == pytest.approx(math.sqrt(copies.expected * (1 - copies.expected) / pictures), rel=0.1)
    one = measured(truths[:1], alternatives[:1]).result()
    assert [interval.error for interval in one.intervals] == [None] * 3
    assert "one picture does not tell the error" in calibration_in_words(one)


def test_parts_give_what_the_whole_gives() -> None:
    generator = np.random.default_rng(3)
    truths, alternatives = generator.normal(size=(3, 50)), generator.normal(size=(3, 50, 41))
    whole, parts = (measured(truths, alternatives, parts) for parts in (1, 7))
    np.testing.assert_allclose(whole.inside, parts.inside, rtol=1e-12)
    assert whole.curve()[:, 0].tolist() == sorted(whole.curve()[:, 0], reverse=True)
    assert len(measured(truths, generator.normal(size=(3, 50, 1000))).curve()) <= 103

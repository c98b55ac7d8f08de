"""Sparklines of the loss."""

import math

import pytest

from ncsnx.console.sparkline import Course, sparkline


def test_bars_rise_from_the_least_to_the_greatest_value() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"


def test_more_values_than_there_is_room_for_are_averaged_from_the_first_to_the_last() -> None:
    assert sparkline([0, 0, 1, 1, 6, 8], 3) == "▁▂█"
    assert sparkline([0, 0, 0, 7, 0, 0, 0], 7) == "▁▁▁█▁▁▁"
    assert len(sparkline(list(range(1000)), 37)) == 37


def test_positive_values_are_scaled_by_their_logarithms() -> None:
    assert sparkline([1e7, 1e6, 1e5, 1e4, 1e3, 100, 10, 1], 8) == "█▇▆▅▄▃▂▁"


def test_a_constant_is_a_level_line() -> None:
    assert sparkline([2.0, 2.0, 2.0], 10) == "▅▅▅"


def test_values_that_are_not_finite_are_marked_and_leave_the_scale_alone() -> None:
    assert sparkline([0.0, math.nan, 1.0, math.inf], 10) == "▁×█×"


def test_no_values_and_no_room_give_no_bars() -> None:
    assert sparkline([], 10) == ""
    assert sparkline([1.0, 2.0], 0) == ""


@pytest.mark.parametrize("count", [1, 511, 512, 513, 100_000])
def test_a_course_keeps_means_of_all_values_in_little_room(count: int) -> None:
    means = Course(float(value) for value in range(count)).means()
    assert len(means) <= 512
    assert means == sorted(means)
    each = 2 ** max(0, math.ceil(math.log2((count + 1) / 512)))  # values per mean, except the last
    assert means[0] == pytest.approx((each - 1) / 2)
    assert count - 1 - each < means[-1] <= count - 1


def test_a_course_of_few_values_is_they_themselves() -> None:
    course = Course([3.0, 2.0])
    course.add(1.0)
    assert course.means() == [3.0, 2.0, 1.0]

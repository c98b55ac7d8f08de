"""The row of bars that shows the course of the loss."""

import math

from ncsnx.console.sparkline import sparkline


def test_bars_rise_from_the_least_to_the_greatest_value() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"


def test_only_the_last_values_are_shown_and_set_the_scale() -> None:
    assert sparkline([1000, 0, 1], 2) == "▁█"


def test_a_constant_is_a_level_line() -> None:
    assert sparkline([2.0, 2.0, 2.0], 10) == "▅▅▅"


def test_values_that_are_not_finite_are_marked_and_leave_the_scale_alone() -> None:
    assert sparkline([0.0, math.nan, 1.0, math.inf], 10) == "▁×█×"


def test_no_values_and_no_room_give_no_bars() -> None:
    assert sparkline([], 10) == ""
    assert sparkline([1.0, 2.0], 0) == ""

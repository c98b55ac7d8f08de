"""Text of counts, shares and measured values."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncsnx.quantities import byte_size, counted, duration, number, percent, with_error


@pytest.mark.parametrize(
    ("count", "noun", "words"),
    [
        (0, "image", "0 images"),
        (1_498, "training image", "1,498 training images"),
        (2, "entry", "2 entries"),
        (2, "day", "2 days"),
        (1, "pass", "1 pass"),
        (2, "batch", "2 batches"),
        (2, "MiB", "2 MiB"),
        (8, "GPU", "8 GPUs"),
        (1.0, "evaluation", "1 evaluation"),
        (3_258.6, "evaluation", "3,259 evaluations"),
    ],
)
def test_a_count_has_its_noun_in_the_number_that_it_takes(count: float, noun: str, words: str) -> None:
    assert counted(count, noun) == words


def test_measured_values_keep_their_significant_digits_and_large_ones_have_separators() -> None:
    values = (0.12345, 1.0, 999.94, 999.96, 123_456.7, -4_321, 3e8, float("nan"))
    shown = ["0.1235", "1.000", "999.9", "1,000", "123,457", "-4,321", "3.000e+08", "nan"]
    assert [number(value) for value in values] == shown
    assert [duration(value) for value in (69.6, 3 * 3600 + 5, 100 * 3600)] == ["0:01:10", "3:00:05", "100:00:00"]
    sizes = ["482 KiB", "1.2 MiB", "80.0 GiB"]
    assert [byte_size(value) for value in (482 << 10, 1_300_000, 80 << 30)] == sizes


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (12_345.6, 78.9, "12,346 ± 79"),
        (2034.0, 251.0, "2,030 ± 250"),
        (8.213, 0.3, "8.21 ± 0.30"),
        (-0.01, 0.02, "-0.010 ± 0.020"),
        (4e18, 2.4e18, "4e+18 ± 2.4e+18"),
        (12_345.6, None, "12,346"),
        (0.0, 0.0, "0.000"),
    ],
)
def test_a_value_is_shown_to_the_second_digit_of_its_error(value: float, error: float | None, shown: str) -> None:
    assert with_error(value, error) == shown


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.034, "3.4 %"),
        (1 / 3000, "0.033 %"),
        (0.9951, "99.51 %"),
        (0.0996, "10 %"),
        (2999 / 3000, "99.967 %"),
        (1e-9, "< 0.001 %"),
        (1 - 1e-9, "> 99.999 %"),
    ],
)
def test_a_share_reads_as_a_percentage(share: float, words: str) -> None:
    assert percent(share) == words


@given(st.floats(0, 1))
def test_only_nothing_reads_as_nothing_and_only_all_as_all(share: float) -> None:
    words = percent(share)
    found = re.fullmatch(r"[<>]? ?(\d+(?:\.\d+)?) %", words)
    assert found is not None, "no exponent"
    assert (words == "0 %") == (share == 0)
    assert (words == "100 %") == (share == 1)
    assert float(found[1]) == pytest.approx(100 * share, rel=0.051, abs=0.0011)

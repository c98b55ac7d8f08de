"""Text of counts, shares and measured values."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncsnx.quantities import counted, number, percent, with_error


@pytest.mark.parametrize(
    ("count", "noun", "words"),
    [
        (1, "image", "1 image"),
        (0, "image", "0 images"),
        (1_498, "training image", "1,498 training images"),
        (2, "entry", "2 entries"),
        (2, "day", "2 days"),
        (1, "pass", "1 pass"),
        (12, "pass", "12 passes"),
        (2, "batch", "2 batches"),
        (2, "MiB", "2 MiB"),
        (1, "GPU", "1 GPU"),
        (8, "GPU", "8 GPUs"),
        (1.0, "evaluation", "1 evaluation"),
        (3_258.6, "evaluation", "3,259 evaluations"),
    ],
)
def test_a_count_has_its_noun_in_the_number_that_it_takes(count: float, noun: str, words: str) -> None:
    assert counted(count, noun) == words


def test_large_measured_values_have_the_separators_of_counts() -> None:
    assert [number(value) for value in (999.94, 999.96, 1_000, 123_456.7, -4_321)] == [
        "999.9",
        "1,000",
        "1,000",
        "123,457",
        "-4,321",
    ]
    assert with_error(12_345.6, 78.9) == "12,346 ± 79"
    assert with_error(12_345.6, None) == "12,346"


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.034, "3.4 %"),
        (0.001, "0.1 %"),
        (1 / 3000, "0.033 %"),
        (0.2237, "22 %"),
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

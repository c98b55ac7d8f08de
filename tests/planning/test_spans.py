"""Durations as users type and read them."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncsnx.errors import UsageError
from ncsnx.planning.budget import in_short, parse_budget


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1_800), ("2h", 7_200), ("1d", 86_400), ("1.5h", 5_400), ("none", None)]
)
def test_a_budget_is_a_number_and_a_unit_or_none(text: str, seconds: float | None) -> None:
    assert parse_budget(text) == seconds


@given(st.text(max_size=12))
def test_any_other_text_is_refused_in_one_line(text: str) -> None:
    if text == "none" or re.fullmatch(r"[0-9.]+[smhd]", text, re.ASCII):
        return
    with pytest.raises(UsageError, match="expected a time such as 90s, 30m, 2h or 1d"):
        parse_budget(text)


@given(st.floats(1, 3e7))
def test_a_duration_is_written_as_a_budget_that_is_no_shorter_and_hardly_longer(seconds: float) -> None:
    again = parse_budget(in_short(seconds))
    assert again is not None
    assert again == math.ceil(seconds)


@pytest.mark.parametrize("text", ["90s", "3m", "30m", "90m", "1h", "150m", "10h", "1d", "3d"])
def test_a_typed_budget_is_written_as_it_was_typed(text: str) -> None:
    seconds = parse_budget(text)
    assert seconds is not None
    assert in_short(seconds) == text

"""Words of a sweep are read as they are written, and each wrong one is refused with what is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncsnx.config.overrides import Override, OverrideError
from ncsnx.errors import UsageError
from ncsnx.jobs.parameter_sweep.axes import Axis, combinations, parse_axes, split_values

TEXTS = st.lists(st.text(max_size=8), min_size=2, max_size=5, unique=True)


def axes_of(*words: str) -> tuple[Axis, ...]:
    return parse_axes(words)[0]


@given(TEXTS)
def test_any_values_are_read_back_from_how_they_are_written(texts: list[str]) -> None:
    axis = Axis("note", tuple(texts))
    assert parse_axes([str(axis)]) == ((axis,), ())


@given(st.text(max_size=12))
def test_any_text_is_split_or_refused(text: str) -> None:
    try:
        values = split_values(text, "note")
    except OverrideError:
        return
    assert values == split_values(str(Axis("", values))[1:], "note")


def test_commas_separate_values_and_quotation_marks_keep_them_together() -> None:
    assert split_values("32,64", "model.width") == ("32", "64")
    assert split_values('"a,b",c', "note") == ("a,b", "c")
    assert split_values(r'"say \"a\\b\"","",it\'s', "note") == (r'say "a\b"', "", r"it\'s")
    assert split_values("", "note") == ("",)


def test_words_with_one_value_hold_for_all_points() -> None:
    assert parse_axes(["steps=4", "model.width=4,8"]) == ((Axis("model.width", ("4", "8")),), (Override("steps", "4"),))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["steps"], "expected FIELD=VALUE,VALUE or FIELD=VALUE"),
        (["=4,8"], "expected FIELD=VALUE,VALUE or FIELD=VALUE"),
        (["model.width=4,"], "model.width: a value is missing"),
        (["model.width=,4"], "model.width: a value is missing"),
        (["model.width=4,,8"], "model.width: a value is missing"),
        (['note="a,b'], "note: a quotation mark is not closed"),
        (['note="a"b,c'], "note: expected a comma after the closing quotation mark"),
        (["model.width=4,8,4"], "model.width: the value '4' is given twice"),
        (["model.width=4", "model.width=8"], "for several values, write model.width=4,8"),
    ],
)
def test_a_wrong_word_is_refused_by_what_is_wrong(words: list[str], said: str) -> None:
    with pytest.raises(OverrideError) as caught:
        parse_axes(words)
    assert said in str(caught.value)


def test_points_are_every_combination_and_every_seed_of_each() -> None:
    axes = axes_of("a=1,2", "b=x,y")
    found = [tuple(one.text for one in row) for row in combinations(axes, zipped=False, seeds=(7, 8))]
    assert found == [(a, b, seed) for a in "12" for b in "xy" for seed in "78"]
    zipped = [tuple(one.text for one in row) for row in combinations(axes, zipped=True, seeds=())]
    assert zipped == [("1", "x"), ("2", "y")]
    assert [len(row) for row in combinations((), zipped=True, seeds=(1, 2, 3))] == [1, 1, 1]


def test_unequal_lengths_and_too_many_points_are_refused() -> None:
    with pytest.raises(UsageError, match=r"same number: a has 2, b has 3"):
        combinations(axes_of("a=1,2", "b=1,2,3"), zipped=True, seeds=())
    many = [Axis(name, tuple(map(str, range(100)))) for name in "abc"]
    with pytest.raises(UsageError, match=r"1,000,000 runs, and a sweep has 10,000 at most"):
        combinations(many, zipped=False, seeds=())

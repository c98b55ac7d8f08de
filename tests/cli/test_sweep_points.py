"""Points have the experiments that their values make, names of their own, and are all checked before anything runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncsnx.config.discovery import resolve
from ncsnx.config.overrides import parse_overrides
from ncsnx.errors import UsageError
from ncsnx.runs.names import names_a_file_everywhere
from ncsnx.sweeps.points import LONGEST_RUN_NAME, SweepPoint, run_names, short_paths, sweep_points

DIGITS = resolve("digits")


def points(*words: str, zipped: bool = False, seeds: int = 1) -> list[SweepPoint]:
    overrides = parse_overrides(list(words))
    return sweep_points("digits", DIGITS.experiment, DIGITS.origins, overrides, zipped=zipped, seeds=seeds)


def test_every_combination_is_a_point_named_by_what_differs() -> None:
    found = points("model.width=4,8", "optimizer.lr=1e-3,3e-4", "steps=1k")
    assert [point.run for point in found] == [
        "digits-width_4-lr_0.001",
        "digits-width_4-lr_0.0003",
        "digits-width_8-lr_0.001",
        "digits-width_8-lr_0.0003",
    ]
    assert found[1].experiment == resolve("digits", ["model.width=4", "optimizer.lr=3e-4", "steps=1k"]).experiment
    assert found[0].origins["model.width"] == found[0].origins["steps"] == "command line"


def test_zipped_fields_take_their_values_together_and_every_seed() -> None:
    found = points("model.width=4,8", "optimizer.lr=1e-3,3e-4", zipped=True, seeds=2)
    assert [list(point.values.values()) for point in found] == [
        [width, lr, seed] for width, lr in (("4", "0.001"), ("8", "0.0003")) for seed in ("1234", "1235")
    ]
    assert len(points(zipped=True, seeds=3)) == 3


def test_seeds_follow_that_of_the_experiment_and_are_no_part_of_the_setting() -> None:
    assert [point.experiment.seed for point in points("seed=7", seeds=3)] == [7, 8, 9]
    found = points("seed=5,6", "model.width=4,8")
    assert [(point.run, point.setting) for point in found][1] == ("digits-width_4-seed_6", {"model.width": "4"})


def test_quotation_marks_keep_a_value_with_a_comma_together() -> None:
    words = ("data=arrays", "data.image_size=8", "data.channels=1", 'data.path="a,b.npy",c.npy')
    assert [point.values["data.path"] for point in points(*words)] == ["a,b.npy", "c.npy"]


def test_brackets_keep_a_list_together() -> None:
    base, changes = resolve("digits_edm"), parse_overrides(["model.multipliers=[2,3],[2,3,3]"])
    found = sweep_points("edm", base.experiment, base.origins, changes)
    assert [list(point.experiment.model.multipliers) for point in found] == [[2, 3], [2, 3, 3]]


@given(
    st.lists(
        st.fixed_dictionaries({"model.width": st.text(max_size=90), "note": st.text(max_size=5)}),
        min_size=1,
        max_size=6,
        unique_by=lambda point: tuple(point.items()),
    )
)
def test_names_are_valid_and_differ_in_more_than_case(values: list[dict[str, str]]) -> None:
    names = run_names("digits", values)
    assert all(names_a_file_everywhere(name) and len(name) <= LONGEST_RUN_NAME for name in names)
    assert len({name.lower() for name in names}) == len(names)


def test_a_path_is_shortened_to_what_tells_it_from_the_others() -> None:
    assert short_paths(["model.width", "optimizer.lr"]) == {"model.width": "width", "optimizer.lr": "lr"}
    assert short_paths(["a.b.x", "c.b.x", "x"]) == {"a.b.x": "a.b.x", "c.b.x": "c.b.x", "x": "x"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("model.width=4",), "a sweep needs a field with several values"),
        (("model.widht=4,8",), "model.widht: no such field in ncsnv2; did you mean model.width?"),
        (("model.width=4,0",), "model.width: must be between 1 and 16,384"),
        (("model.width=4,,8",), "model.width: a value is missing"),
        (("model.width=4,8,4",), "model.width: the value '4' is given twice"),
        (("optimizer.lr=1e-3,0.001",), "train the same weights"),
        (("model.width=4,8", "optimizer.lr=1,2,3"), "all need the same number: model.width has 2, optimizer.lr has 3"),
    ],
)
def test_what_makes_no_sweep_is_refused(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=r".") as caught:
        points(*words, zipped="optimizer.lr=1,2,3" in words)
    assert said in str(caught.value)
    with pytest.raises(UsageError, match="several values of seed exclude each other"):
        points("seed=1,2", seeds=2)

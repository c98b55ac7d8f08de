"""Points have the experiments that their values make, names of their own, and are all checked before anything runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncsnx.config.codec import identity
from ncsnx.config.discovery import resolve
from ncsnx.errors import UsageError
from ncsnx.jobs.parameter_sweep.axes import parse_axes
from ncsnx.jobs.parameter_sweep.point_names import MOST_CHARACTERS, run_names, short_paths
from ncsnx.jobs.parameter_sweep.points import SweepPoint, points_of
from ncsnx.runs.names import names_a_file_everywhere

DIGITS = resolve("digits")


def points(*words: str, zipped: bool = False, seeds: int = 1) -> list[SweepPoint]:
    axes, fixed = parse_axes(words)
    return points_of("digits", DIGITS.experiment, DIGITS.origins, axes, fixed, zipped=zipped, seeds=seeds)


def test_a_run_is_named_by_what_differs() -> None:
    found = points("model.width=4,8", "optimizer.lr=1e-3,3e-4", "steps=1k")
    assert [one.run for one in found] == [
        "digits-width_4-lr_0.001",
        "digits-width_4-lr_0.0003",
        "digits-width_8-lr_0.001",
        "digits-width_8-lr_0.0003",
    ]
    assert [(one.experiment.model.width, one.experiment.optimizer.lr) for one in found][1] == (4, 3e-4)
    assert {one.experiment.steps for one in found} == {1_000}
    assert found[0].origins["model.width"] == found[0].origins["steps"] == "command line"
    assert all(one.identity == identity(one.experiment) for one in found)


def test_a_point_trains_what_the_same_words_train() -> None:
    (point, _) = points("optimizer=sgd,adam", "optimizer.lr=0.01", "ema=none")
    assert point.experiment == resolve("digits", ["optimizer=sgd", "optimizer.lr=0.01", "ema=none"]).experiment


def test_seeds_follow_that_of_the_experiment() -> None:
    assert [one.experiment.seed for one in points("seed=7", seeds=3)] == [7, 8, 9]
    found = points("model.width=4,8", "seed=5,6")
    assert [(one.run, one.setting) for one in found][1] == ("digits-width_4-seed_6", {"model.width": "4"})


@given(
    st.lists(
        st.fixed_dictionaries({"model.width": st.text(max_size=90), "note": st.text(max_size=5)}),
        min_size=1,
        max_size=6,
        unique_by=lambda one: tuple(one.items()),
    )
)
def test_names_are_valid_and_differ_in_more_than_case(values: list[dict[str, str]]) -> None:
    names = run_names("digits", values)
    assert all(names_a_file_everywhere(name) and len(name) <= MOST_CHARACTERS for name in names)
    assert len({name.lower() for name in names}) == len(names)


def test_a_path_is_shortened_to_what_tells_it_from_the_others() -> None:
    assert short_paths(["model.width", "optimizer.lr"]) == {"model.width": "width", "optimizer.lr": "lr"}
    found = short_paths(["a.b.x", "c.b.x", "x", "seed"])
    assert found == {"a.b.x": "a.b.x", "c.b.x": "c.b.x", "x": "x", "seed": "seed"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "a sweep needs a field with several values"),
        (("model.width=4",), "a sweep needs a field with several values"),
        (("model.widht=4,8",), "model.widht: no such field in model (ncsnv2); did you mean model.width?"),
        (("steps=x", "model.width=4,8"), "steps: expected a whole number such as 500, 50k or 1.5M, found 'x'"),
        (("model.width=4,0",), "the point model.width=0 is invalid: model.width: must be between 1 and 16,384"),
        (
            ("optimizer=sgd,adam", "optimizer.momentum=0.8"),
            "the point optimizer=adam is invalid: optimizer.momentum: no",
        ),
        (("optimizer.lr=1e-3,0.001",), "optimizer.lr=0.001 is given twice, written in two ways"),
        (("steps=10,20",), "steps=10 and steps=20 train the same weights: steps is not part of what is trained"),
        (("sampler.denoise=true,false",), "train one run, and compare samplers by `ncsnx compare`"),
    ],
)
def test_what_makes_no_sweep_is_refused(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        points(*words)
    assert str(caught.value).startswith(said) or said in str(caught.value)


def test_seeds_that_are_given_twice_are_refused() -> None:
    with pytest.raises(UsageError, match="several values of seed exclude each other"):
        points("seed=1,2", seeds=2)
    with pytest.raises(UsageError, match=r"the point model.width=4 seed=4294967296 is invalid: seed: must be between"):
        points("seed=4294967295", "model.width=4,8", seeds=2)


def test_data_in_two_places_may_be_two_data_sets() -> None:
    words = ("data=arrays", "data.image_size=8", "data.channels=1", "data.path=a.npy,b.npy")
    assert len({one.run for one in points(*words)}) == 2

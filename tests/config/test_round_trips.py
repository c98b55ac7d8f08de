"""Any configuration survives saving; any override applies, or its error names the path."""

import json
from typing import Any

import attrs
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ncsnx.config import Ema, Experiment
from ncsnx.config.codec import differences, flatten, identity, shown, to_json
from ncsnx.config.converter import unstructure
from ncsnx.config.overrides import OverrideError, apply_overrides, parse_overrides
from tests.config.examples import every_variant, from_json, minimal

positive = st.one_of(st.floats(min_value=0, exclude_min=True, allow_infinity=False), st.integers(1, 10**9))
not_negative = st.one_of(positive, st.sampled_from([0, 0.0, -0.0]))
fraction = st.floats(min_value=0, max_value=1, exclude_max=True)
steps = st.integers(1, 10**9)
line = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20)
name = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", fullmatch=True)


@st.composite
def experiments(draw: st.DrawFn) -> Experiment:
    """Parts of frozen experiments in any combination, with any numbers and texts."""
    frozen = [every_variant()[case] for case in ("digits", "cifar10", "celeba", "lsun", "ffhq", "ncsnv2", "retention")]

    def part(name: str) -> Any:
        return getattr(draw(st.sampled_from(frozen)), name)

    low, high = sorted(draw(st.lists(positive, min_size=2, max_size=2, unique=True)))
    accumulation = draw(st.integers(1, 64))
    return Experiment(
        name=draw(name),
        data=part("data"),
        schedule=attrs.evolve(part("schedule"), sigma_max=high, sigma_min=low),
        model=part("model"),
        optimizer=attrs.evolve(part("optimizer"), lr=draw(positive), weight_decay=draw(not_negative)),
        sampler=attrs.evolve(part("sampler"), step_size=draw(positive)),
        loss=part("loss"),
        ema=draw(st.none() | st.builds(Ema, rate=fraction)),
        batch_size=accumulation * draw(st.integers(1, 1024)),
        accumulation=accumulation,
        clip_norm=draw(st.none() | positive),
        precision=part("precision"),
        seed=draw(st.integers(0, 2**32 - 1)),
        steps=draw(steps),
        snapshots=part("snapshots"),
        retention=part("retention"),
        note=draw(line),
    )


@settings(deadline=None)  # machines are busy
@given(experiments())
def test_any_experiment_survives_being_saved_with_an_equal_identity(experiment: Experiment) -> None:
    text = json.dumps(to_json(experiment), allow_nan=False)
    read = from_json(json.loads(text))
    assert read == experiment
    assert identity(read) == identity(experiment)
    assert type(read.data) is type(experiment.data)
    assert type(read.model) is type(experiment.model)
    assert type(read.optimizer) is type(experiment.optimizer)
    assert json.dumps(to_json(read)) == json.dumps(to_json(from_json(to_json(read)))), "saving is idempotent"


@settings(deadline=None)  # machines are busy
@given(experiments(), experiments())
def test_typing_what_show_prints_turns_one_experiment_into_another(first: Experiment, second: Experiment) -> None:
    rows = [(path, value) for path, value in flatten(unstructure(second)) if path != "data.root"]
    switched_off = [path for path in ("ema", "snapshots") if getattr(second, path) is None]
    words = [f"{path}={shown(value)}" for path, value in rows if path not in switched_off]
    words += [f"{path}=none" for path in switched_off]
    changed = apply_overrides(first, parse_overrides(words))
    assert [row for row in differences(changed, second) if row.path != "data.root"] == []


GROUPS_AND_TYPOS = (
    "ema",
    "snapshots",
    "loss",
    "optimizer",
    "lr",
    "optimizer.",
    ".lr",
    "data..root",
    "steps.x",
    "Steps",
)
PATHS = sorted(
    {*GROUPS_AND_TYPOS, *(path for one in every_variant().values() for path, _ in flatten(unstructure(one)))}
)
TEXTS = [
    *["", "none", "None", "true", "false", "True", "\x00", "a\nb", "\ud800", "../x", "a..b", " 1", "a=b"],
    *["0", "1", "-1", "+2", "1_000", "50k", "1.5M", "0.5k", "1.0", "1e-4", ".5", "1e999", "nan", "inf", "-inf"],
    *["0x10", "٣", "1__0", "9" * 5000, "9" * 5000 + "k", "(1, 2)", "[1]", "{}", "elu", "bf16", "instance++"],
    *["adam", "sgd", "rmsprop", "uniform", "geometric", "ncsn", "ncsnv2-deepest", "lsun", "celeba", "digits", "ald"],
]

paths = st.sampled_from(PATHS) | st.text(max_size=12)
texts = st.sampled_from(TEXTS) | st.text(max_size=12)


def applied(experiment: Experiment, *words: str) -> Experiment | OverrideError:
    try:
        return apply_overrides(experiment, parse_overrides(list(words)))
    except OverrideError as error:
        return error


@settings(deadline=None)  # machines are busy
@given(st.sampled_from(sorted(every_variant())), paths, texts)
@example("digits", "steps", "9" * 5000)
@example("digits", "optimizer.eps", "9" * 5000)
@example("digits", "note", "\x00" * 5000)
@example("cifar10", "ema.rate", "0.5")
@example("cifar10", "snapshots.sampler.eta", "0.5")
@example("cifar10", "snapshots.sampler", "cas")
def test_any_override_applies_to_its_path_alone_or_names_it_in_its_error(case: str, path: str, text: str) -> None:
    experiment, argument = every_variant()[case], f"{path}={text}"
    typed = argument.partition("=")[0]
    outcome = applied(experiment, argument)
    if isinstance(outcome, OverrideError):
        assert typed in str(outcome)
        assert len(str(outcome)) < 1_000, "long values are cut"
    else:
        parent = typed.rpartition(".")[0]
        for row in differences(experiment, outcome):
            switched_on = parent in ("ema", "snapshots") and row.path.startswith(parent)
            assert row.path == typed or row.path.startswith(f"{typed}.") or switched_on


@settings(deadline=None)  # machines are busy
@given(st.lists(st.tuples(paths, texts), max_size=5))
def test_any_line_of_overrides_gives_the_same_in_any_order(pairs: list[tuple[str, str]]) -> None:
    words = [f"{path}={text}" for path, text in pairs]
    there, back = applied(minimal(), *words), applied(minimal(), *words[::-1])
    assert there == back or (isinstance(there, OverrideError) and isinstance(back, OverrideError))

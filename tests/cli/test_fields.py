"""`show --fields` and `FIELD=?` say what can be changed, and do nothing else."""

import json
from pathlib import Path

import pytest

from tests.cli.command import run
from tests.config.examples import write_file


@pytest.mark.parametrize(
    "words",
    [
        ("train", "own", "sampler=?"),
        ("train", "own", "steps=7", "sampler=?", "--run", "new"),
        ("sample", "no-such-run", "sampler=?"),
        ("restore", "no-such-run", "sampler=?"),
        ("fid", "no-such-run", "sampler=?", "features.width=3"),
        ("train", "sampler=?"),
    ],
    ids=" ".join,
)
def test_a_question_is_answered_and_nothing_is_done(words: tuple[str, ...], here: Path) -> None:
    write_file(here / "experiments" / "own.py")
    before = sorted(here.rglob("*"))
    outcome = run(*words)
    assert (outcome.code, outcome.err) == (0, "")
    assert "\n  dpmpp-sde " in outcome.out
    assert sorted(here.rglob("*")) == before


def test_a_note_may_end_in_a_question(here: Path) -> None:
    write_file(here / "experiments" / "own.py")
    outcome = run("train", "own", "--note", "sampler=?", "--device", "cuda:x")
    assert outcome.code == 2


def test_a_question_about_an_unknown_field_is_a_mistake(here: Path) -> None:
    outcome = run("train", "digits", "model.widht=?")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "error: model.widht: no such field; did you mean model.width?\n"


def test_show_has_the_fields_below_a_path_with_values(here: Path) -> None:
    write_file(here / "experiments" / "own.py")
    rows = json.loads(run("show", "own", "--fields", "optimizer", "model.width", "model.width=40", "--json").out)
    paths = [row["path"] for row in rows]
    assert set(paths) > {"model.width", "optimizer", "optimizer.lr"}
    assert all(path == "model.width" or path.startswith("optimizer") for path in paths)
    assert {row["path"]: row["value"] for row in rows}["model.width"] == 40
    text = run("show", "own", "--fields", "model.width").out
    assert text.startswith(
        "model.width = 32: a whole number; between 1 and 16,384; default 128; part of the identity\n"
    )
    wrong = run("show", "own", "--fields", "modle")
    assert (wrong.code, wrong.err) == (2, "error: modle: no such field; did you mean model?\n")

"""`FIELD=?` says what can be changed, and does nothing else."""

from pathlib import Path

import pytest

from tests.cli.command import run
from tests.config.examples import write_file


@pytest.mark.parametrize(
    "words",
    [
        ("train", "own", "steps=7", "sampler=?", "--run", "new"),
        ("restore", "no-such-run", "sampler=?"),
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


def test_a_question_about_an_unknown_field_is_a_mistake_and_a_note_may_end_in_one(here: Path) -> None:
    assert run("train", "digits", "--note", "sampler=?", "--device", "cuda:x").code == 2
    outcome = run("train", "digits", "model.widht=?")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "error: model.widht: no such field; did you mean model.width?\n"

"""Runs from elsewhere: nothing of them is executed or unpickled, and names are text."""

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import REPOSITORY
from tests.cli.hostile import pickled, reseal
from tests.training.tiny import CPU, Result, command, training

RUN = "runs/digits"
COMMANDS = {
    "sample": ("sample", "digits", "--n", "2", *CPU),
    "loss": ("loss", "digits", "--range", "latest", *CPU),
    "train": tuple(training("steps=13")),
    "export": ("export", "digits", "--out", "model", "--grid", "2", *CPU),
    "doctor": ("doctor", "digits", "--repair"),
    "show": ("show", "runs/digits", "--origins"),
    "list": ("list",),
}


def assert_orderly(result: Result) -> None:
    """Asserts that the command did its work, or said in one line why not."""
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert (result.code, len(errors)) in ((0, 0), (1, 1)), result.err
    assert "Traceback" not in result.err
    assert "\x1b" not in result.out + result.err
    assert max(map(len, result.err.splitlines()), default=0) < 2_000


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_executed_or_unpickled(workplace: Path, name: str) -> None:
    made, run = workplace / "executed", workplace / RUN
    (run / "experiment.py").write_text(f"open({str(made)!r}, 'w')\nraise SystemExit(3)\n")
    for checkpoint in (run / "checkpoints").iterdir():
        for part in ("model", "ema", "optimizer"):
            (checkpoint / f"{part}.safetensors").write_bytes(pickled(made))
        reseal(checkpoint)
    result = command(*COMMANDS[name], folder=workplace)
    assert_orderly(result)
    if name in ("sample", "loss", "export"):
        assert result.code == 1
    assert not made.exists()


def test_the_name_of_a_folder_is_text(trained: Path, tmp_path: Path) -> None:
    name = "~[bold red]x[/bold red] error: fake $\\frac{ \u202e\u2066 . "
    place = tmp_path / "work"
    shutil.copytree(trained / RUN, place / "runs" / name)
    run = f"runs/{name}"
    for words in (("sample", run, "--n", "1", *CPU), ("show", run), ("list",), ("doctor", run)):
        result = command(*words, folder=place)
        assert_orderly(result)
        assert result.code == 0
        assert not {"\u202e", "\u2066"} & set(result.err + result.out)


def test_on_a_terminal_names_neither_colour_nor_move_anything(trained: Path, tmp_path: Path) -> None:
    names = ["[b]x[red]", "[link=a]y", "z\x1b]0;t\x07\x1b[2J", "w\u202e"]
    for name in names:
        shutil.copytree(trained / RUN, tmp_path / "runs" / name)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color"}
    listing = [sys.executable, "-m", "ncsnx", "list"]
    process = subprocess.Popen(listing, cwd=tmp_path, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    assert process.wait() == 0
    os.close(ours)
    for inert in (b"[b]x[red]", b"[link=a]y", b"z\\x1b]0;t\\x07\\x1b[2J", b"w\\u202e"):
        assert inert in shown
    assert b"\x1b]" not in shown
    assert b"\x1b[2J" not in shown

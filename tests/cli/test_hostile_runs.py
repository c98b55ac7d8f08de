"""Runs from elsewhere: nothing of them is executed or unpickled, and names are text."""

import os
import pickle
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from ncsnx.runs.manifest import FileRecord, Manifest, read_manifest
from ncsnx.storage.documents import document_bytes
from ncsnx.storage.parts import Part, done_indices, write_part
from tests.forked import REPOSITORY
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


def reseal(checkpoint: Path) -> None:
    """Gives a checkpoint a manifest that vouches for the files as they are now."""
    found = read_manifest(checkpoint)
    records = {name: FileRecord.of((checkpoint / name).read_bytes()) for name in found.files}
    (checkpoint / "manifest.json").write_bytes(document_bytes(Manifest(found.step, records)))


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, (f"touch {self.made}",)


def pickled(made: Path) -> bytes:
    """A pickle that makes a file."""
    return pickle.dumps(Payload(made))


def part(*indices: int) -> Part:
    return Part(torch.tensor(indices), {"images": torch.zeros(len(indices), 1, 2, 2)})


def fits(indices: list[int], shapes: Mapping[str, list[int]]) -> bool:
    return shapes == {"images": [len(indices), 1, 2, 2]}


@pytest.mark.parametrize("indices", [(0, 1000), (-1, 0)])
def test_a_part_with_indices_that_do_not_exist_is_not_done(tmp_path: Path, indices: tuple[int, ...]) -> None:
    write_part(tmp_path, part(0, 1))
    sound = next(iter(tmp_path.iterdir()))
    write_part(tmp_path / "made", part(*indices))
    forged = next(iter((tmp_path / "made").iterdir()))
    forged.replace(tmp_path / "00000002-00000003.safetensors")

    assert done_indices(tmp_path, 4, fits) == {0, 1}
    assert sound.exists()
    assert not (tmp_path / "00000002-00000003.safetensors").exists()


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

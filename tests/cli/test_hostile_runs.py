"""Runs from elsewhere: nothing of them is executed or unpickled, and names are text."""

import os
import pickle
from pathlib import Path

import pytest

from ncsnx.runs.manifest import FileRecord, Manifest, read_manifest
from ncsnx.storage.documents import document_bytes
from tests.exchange.test_published_files import Payload
from tests.training.tiny import CPU, Result, command, training

RUN = "runs/digits"
COMMANDS = {
    "sample": ("sample", "digits", "--n", "2", *CPU),
    "loss": ("loss", "digits", "--range", "latest", *CPU),
    "train": tuple(training("steps=13")),
    "export": ("export", "digits", "--out", "model", "--grid", "2", *CPU),
    "doctor": ("doctor", "digits"),
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
            (checkpoint / f"{part}.safetensors").write_bytes(pickle.dumps(Payload(os.system, f"touch {made}")))
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

"""Equal commands write equal files: nothing in them follows the order of a set, which differs between processes."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.forked import REPOSITORY
from tests.training.tiny import CPU, command, training

pytestmark = pytest.mark.slow

COMMANDS = [
    training("steps=4", "optimizer=sgd", "optimizer.momentum=0.8"),
    ["sample", "digits", "--out", "runs/digits/samples/drawn", "--n", "2", "--frames", "2", *CPU],
    ["fid", "digits", "--n", "10", "--metrics", "inception-score", "features.steps=2", "features.width=4", *CPU],
    ["loss", "digits", "--passes", "1", *CPU],
    ["neighbors", "digits", "--n", "2", "--features", "none", *CPU],
    ["export", "digits", "--out", "exported", "--grid", "0", *CPU],
    ["data", "pack", "digits", "--out", "packed"],
]
PROGRAM = f"""
import sys
from ncsnx.cli import app
for command in {COMMANDS!r}:
    if (code := app(command, standalone_mode=False)) not in (0, None):
        sys.exit(f"exit code {{code}} of {{command}}")
"""
VOLATILE = {"digest", "time", "started", "finished", "changed", "pid", "seconds", "made", "rate", "images_per_s"}
"""Values that say when, by which process and how fast."""


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two folders with all that COMMANDS make, by processes that order sets otherwise: this one and another."""
    ours, theirs = (tmp_path_factory.mktemp("twin") for _ in range(2))
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    environment = {"PYTHONPATH": str(REPOSITORY), "PYTHONHASHSEED": seed, "NCSNX_CACHE": str(theirs / "cache")}
    with (
        subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=theirs, env=os.environ | environment) as other,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("NCSNX_CACHE", str(ours / "cache"))
        patch.setattr(sys, "argv", ["-c"])
        for words in COMMANDS:
            command(*words, folder=ours).done()
        assert other.wait(timeout=300) == 0
    return [ours, theirs]


def files(folder: Path, *patterns: str) -> list[Path]:
    """Paths of files within the folder."""
    found = {path.relative_to(folder) for pattern in patterns for path in folder.rglob(pattern) if path.is_file()}
    return sorted(found)


def documents(path: Path) -> list[Any]:
    """The JSON documents of a file, one in a `.json`, one a line in a `.jsonl`."""
    text = path.read_text()
    return [json.loads(text)] if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]


def settled(value: Any) -> Any:
    """The value as lists, in which order counts, without what is volatile."""
    if isinstance(value, dict):
        return [[key, None if key in VOLATILE else settled(inner)] for key, inner in value.items()]
    if isinstance(value, list):
        return [settled(inner) for inner in value]
    return value


def test_every_json_file_has_its_fields_in_one_order_and_but_for_times_the_same_values(twins: list[Path]) -> None:
    first, second = twins
    paths = files(first, "*.json", "*.jsonl")
    assert paths == files(second, "*.json", "*.jsonl")
    assert len({path.name for path in paths}) > 10
    for path in paths:
        assert settled(documents(first / path)) == settled(documents(second / path)), path


def test_every_safetensors_file_is_equal_to_the_byte_and_has_one_entry_of_metadata_at_most(twins: list[Path]) -> None:
    """safetensors writes several entries in random order."""
    first, second = twins
    paths = files(first, "*.safetensors")
    assert len(paths) >= 5
    for path in paths:
        content = (first / path).read_bytes()
        (length,) = struct.unpack_from("<Q", content)
        assert len(json.loads(content[8 : 8 + length]).get("__metadata__", {})) <= 1, path
        assert content == (second / path).read_bytes(), path

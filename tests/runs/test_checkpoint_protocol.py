"""Checkpoints are written atomically, and damage to them is always detected."""

import json
import os
import random
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from ncsnx.config.codec import digest
from ncsnx.errors import NcsnxError
from ncsnx.runs import checkpoint
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import UnsoundError, checkpoints, read_manifest, read_verified, verify, write_checkpoint
from ncsnx.runs.names import step_name
from ncsnx.runs.retention import remove_debris
from ncsnx.storage import atomic
from tests.conftest import StartPython
from tests.runs.kept import SMALL, damage, weights

FILES = {
    "ema.safetensors": weights(SMALL, b"first content"),
    "model.safetensors": weights(SMALL, bytes(range(256))),
    "optimizer.safetensors": b"state",
    "state.json": b"{}",
}

WRITE_FOR_EVER = """
import itertools, os, sys
from pathlib import Path
from ncsnx.runs.manifest import write_checkpoint
NAMES = ["ema.safetensors", "model.safetensors", "state.json"]
for step in itertools.count(int(sys.argv[2])):
    write_checkpoint(Path(sys.argv[1]), step, ((name, os.urandom(300_000)) for name in NAMES))
    print(step, flush=True)
"""


def write(run: Run, step: int, files: Mapping[str, bytes] = FILES) -> Path:
    return write_checkpoint(run.checkpoints, step, files.items())


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_holds_its_files_and_a_manifest_that_verifies(run: Run) -> None:
    folder = write(run, 150)
    assert folder == run.checkpoints / "step-00000150"
    found = verify(folder)
    assert found.step == 150
    assert {name: read_verified(folder, found, name) for name in found.files} == FILES
    assert names_in(folder) == sorted([*FILES, "manifest.json"])
    assert names_in(run.checkpoints) == ["step-00000150"]


def assert_found(folder: Path) -> None:
    """Damage is found by verifying and by loading."""
    for use in (verify, checkpoint.read_checkpoint):
        with pytest.raises(UnsoundError):
            use(folder)


def test_truncations_and_flipped_bits_of_every_file_are_detected(run: Run) -> None:
    weight = {"weight": torch.arange(4.0)}
    folder = checkpoint.save(run, 1, weight, weight, {"exp_avg/weight": torch.zeros(4)}, {"seen": 16})
    generator = random.Random(0)
    for name in names_in(folder):
        whole = (folder / name).read_bytes()
        for length in {*range(0, len(whole), 97), len(whole) - 1}:
            (folder / name).write_bytes(whole[:length])
            assert_found(folder)
        for _ in range(50):
            flipped = bytearray(whole)
            flipped[generator.randrange(len(whole) - 1)] ^= 1 << generator.randrange(8)
            (folder / name).write_bytes(flipped)
            assert_found(folder)
        (folder / name).write_bytes(whole)
    verify(folder)
    assert checkpoint.read_checkpoint(folder).step == 1


def test_a_missing_file_and_a_named_pipe_in_its_place_are_refused_without_waiting(run: Run) -> None:
    folder = write(run, 1)
    (folder / "ema.safetensors").unlink()
    with pytest.raises(UnsoundError, match=r"ema\.safetensors is missing"):
        verify(folder)
    os.mkfifo(folder / "ema.safetensors")
    with pytest.raises(UnsoundError, match="is not a file"):
        verify(folder)


def test_a_checkpoint_under_another_steps_name_is_refused(run: Run) -> None:
    write(run, 1).rename(run.checkpoints / step_name(2))
    with pytest.raises(UnsoundError, match="another step, 1"):
        verify(run.checkpoints / step_name(2))


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"../config.json": {"sha256": "0" * 64, "bytes": 1}}},
        {"files": {"manifest.json": {"sha256": "0" * 64, "bytes": 1}}},
        {"files": {"notes.txt": {"sha256": "0" * 64, "bytes": 1}}},
        {"files": {"ema.safetensors": {"sha256": "0" * 64}}},
        {"files": []},
        {"for_training": {}},
        {"step": "1"},
        {"schema_version": 0},
    ],
)
def test_a_wrong_manifest_with_a_right_digest_is_refused(run: Run, change: dict[str, object]) -> None:
    folder = write(run, 1)
    content = json.loads((folder / "manifest.json").read_bytes())
    del content["digest"]
    content |= change
    (folder / "manifest.json").write_bytes(atomic.json_bytes({**content, "digest": digest(content)}))
    with pytest.raises(
        UnsoundError, match=r"manifest\.json: (schema_version: |step: |files|for_training|expected version 1)"
    ):
        read_manifest(folder)


def test_a_checkpoint_of_a_newer_version_is_not_called_unsound(run: Run) -> None:
    folder = write(run, 1)
    content = {"schema_version": 2, "anything": "else"}
    (folder / "manifest.json").write_bytes(atomic.json_bytes({**content, "digest": digest(content)}))
    with pytest.raises(NcsnxError, match="update ncsnx") as caught:
        verify(folder)
    assert not isinstance(caught.value, UnsoundError)


def test_an_unsound_folder_is_moved_aside_and_kept_when_its_step_is_written_again(run: Run) -> None:
    for _ in range(2):
        damage(write(run, 150) / "model.safetensors")
    write(run, 150)
    verify(run.checkpoints / step_name(150))
    assert names_in(run.checkpoints) == ["step-00000150", "step-00000150.unsound-1", "step-00000150.unsound-2"]
    assert checkpoints(run) == [150]


def test_a_sound_checkpoint_is_not_overwritten(run: Run) -> None:
    folder = write(run, 1)
    with pytest.raises(NcsnxError, match="nothing is overwritten"):
        write_checkpoint(run.checkpoints, 1, [("ema.safetensors", b"other")])
    assert (folder / "ema.safetensors").read_bytes() == FILES["ema.safetensors"]


def test_debris_is_removed_and_nothing_else(run: Run) -> None:
    write(run, 1)
    damage(write(run, 2) / "model.safetensors")
    write(run, 2)
    kept = names_in(run.checkpoints)
    (run.checkpoints / ".step-00000003.tmp-17-0a1b2c3d").mkdir()
    (run.checkpoints / ".step-00000003.tmp-17-0a1b2c3d" / "ema.safetensors").write_bytes(b"half")
    (run.checkpoints / ".mine").mkdir()
    remove_debris(run)
    assert names_in(run.checkpoints) == [".mine", *kept]


def test_whenever_a_writer_is_killed_every_visible_checkpoint_is_sound(run: Run, start_python: StartPython) -> None:
    generator = random.Random(0)
    for _ in range(4):
        first = max(checkpoints(run), default=0) + 1
        process = start_python(WRITE_FOR_EVER, run.checkpoints, first)
        assert process.stdout is not None
        assert process.stdout.readline() == f"{first}\n"
        time.sleep(generator.uniform(0, 0.05))
        process.kill()
        process.wait()
        assert checkpoints(run)[-1] >= first
        for step in checkpoints(run):
            verify(run.checkpoints / step_name(step))
    remove_debris(run)
    assert names_in(run.checkpoints) == [step_name(step) for step in checkpoints(run)]

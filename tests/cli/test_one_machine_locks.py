"""Commands that write where locks don't reach other machines."""

import json
from pathlib import Path

import pytest

from ncsnx.runs.writer_lock import HOLDER
from tests.cli.command import run

SMALL = ("model.width=4", "batch_size=8", "schedule.levels=4", "sampler.steps_per_level=1", "snapshots=none")
CPU = ("--threads", "1", "--device", "cpu")
WARNING = "(nfs local_lock=flock) that locks hold on one machine only"


def test_training_and_sampling_warn_and_are_refused_while_another_machine_writes(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "mounts").write_text("27 1 0:40 / / rw - nfs nas:/home rw,vers=3,local_lock=flock\n")
    monkeypatch.setattr("ncsnx.storage.locks.mounts.MOUNT_TABLE", here / "mounts")
    trained = run("train", "digits", "steps=2", *SMALL, *CPU)
    assert trained.code == 0, trained.err
    assert trained.err.count(WARNING) == 1
    sampled = run("sample", "digits", "--n", "2", *CPU)
    assert sampled.code == 0, sampled.err
    assert sampled.err.count(WARNING) == 1

    note = {"started": "then", "command": "ncsnx train digits", "pid": 7, "host": "node9", "job": None}
    (here / "runs" / "digits" / HOLDER).write_text(json.dumps(note))
    refused = run("train", "digits", "steps=4", *SMALL, *CPU)
    assert refused.code == 1
    assert "is being written by process 7 on node9 (ncsnx train digits, since then)" in refused.err
    assert f"\n  if that process has ended:  rm runs/digits/{HOLDER}\n" in refused.err
    assert "node9" in run("list").out + run("doctor", "digits").out + run("doctor", "digits").err

"""`ncsnx doctor` and retention as people meet them: on runs that were really trained."""

import os
from pathlib import Path

from ncsnx.runs.folder import Run
from ncsnx.runs.writer_lock import writer_lock
from tests.runs.kept import tree
from tests.training.tiny import command, saved, steps_of, training

KEEP = ("retention.keep_last=2", "snapshots=none")


def run_in(workplace: Path) -> Path:
    return workplace / "runs/digits"


def test_a_trained_run_is_sound_and_nothing_is_changed(workplace: Path) -> None:
    assert command("sample", "digits", "--n", "2", "--quiet", folder=workplace).code == 0
    before = tree(workplace)
    result = command("doctor", "digits", folder=workplace)
    assert (result.code, result.out) == (0, "")
    assert "verified 13 files" in result.err
    assert "of 3 checkpoints" in result.err
    assert "runs/digits is sound: 0 findings" in result.err
    assert tree(workplace) == before


def test_while_a_trainer_runs_it_is_named_and_its_files_are_no_debris(workplace: Path) -> None:
    (run_in(workplace) / "checkpoints/.step-00000016.tmp-9-0a1b2c3d").mkdir()
    with writer_lock(Run(run_in(workplace))):
        result = command("doctor", "digits", folder=workplace)
    assert result.code == 0
    assert f"is being written by process {os.getpid()} on " in result.err
    assert command("doctor", "digits", folder=workplace).code == 1


def test_retention_is_followed_and_changes_no_weight(trained: Path, tmp_path: Path) -> None:
    result = command(*training(*KEEP), folder=tmp_path).done()
    run = run_in(tmp_path)
    assert steps_of(run) == [8, 12]
    assert "retention removed the checkpoint of step 4" in result.err
    found, expected = saved(run, 12), saved(run_in(trained), 12)
    assert all(found[name] == expected[name] for name in ("model.safetensors", "ema.safetensors"))

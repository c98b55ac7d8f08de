"""`ncsnx doctor` and retention as people meet them: on runs that were really trained."""

import json
import os
from pathlib import Path

from ncsnx.runs.folder import Run
from ncsnx.runs.writer_lock import writer_lock
from tests.runs.kept import tree
from tests.training.tiny import command, damage, saved, steps_of, training

KEEP = ("retention.keep_last=2", "snapshots=none")


def run_in(workplace: Path) -> Path:
    return workplace / "runs/digits"


def checkpoint(run: Path, step: int) -> Path:
    return run / f"checkpoints/step-{step:08d}"


def without_lock(content: dict[str, bytes]) -> dict[str, bytes]:
    return {name: held for name, held in content.items() if not name.endswith(".lock")}


def test_a_trained_run_is_sound_and_nothing_is_changed(workplace: Path) -> None:
    assert command("sample", "digits", "--n", "2", "--quiet", folder=workplace).code == 0
    before = tree(workplace)
    result = command("doctor", "digits", folder=workplace)
    assert (result.code, result.out) == (0, "")
    assert "verified 13 files" in result.err
    assert "of 3 checkpoints" in result.err
    assert "runs/digits is sound: 0 findings" in result.err
    assert tree(workplace) == before
    assert command("doctor", "digits", "--repair", folder=workplace).code == 0
    assert without_lock(tree(workplace)) == without_lock(before)


def test_what_was_repaired_is_counted_and_training_goes_on_as_if_nothing_had_been(
    workplace: Path, trained: Path
) -> None:
    run = run_in(workplace)
    damage(checkpoint(run, 12) / "model.safetensors")
    damage(checkpoint(run, 4) / "ema.safetensors")
    found = json.loads(command("doctor", "digits", "--json", folder=workplace).out)
    assert (found["sound"], found["writer"], found["verified"]["checkpoints"]) == (False, None, 3)
    for unsound in found["findings"]:
        assert unsound["path"].startswith("runs/digits/checkpoints/step-000000")
        assert "safetensors is damaged" in unsound["what"]
        assert (unsound["kind"], unsound["repairable"], unsound["repaired"]) == ("unsound", True, False)
    result = command("doctor", "digits", "--json", "--repair", folder=workplace)
    assert [finding["repaired"] for finding in json.loads(result.out)["findings"]] == [True, True]
    assert "2 findings repaired, 0 findings left" in result.err
    assert steps_of(run) == [8]
    aside = sorted(path.name for path in (run / "checkpoints").glob("*.unsound-*"))
    assert aside == ["step-00000004.unsound-1", "step-00000012.unsound-1"]
    assert command(*training(), folder=workplace).code == 0
    assert saved(run, 12) == saved(run_in(trained), 12)


def test_while_a_trainer_runs_it_is_named_and_repair_is_refused(workplace: Path) -> None:
    leftover = run_in(workplace) / "checkpoints/.step-00000016.tmp-9-0a1b2c3d"
    leftover.mkdir()
    with writer_lock(Run(run_in(workplace))):
        looked = command("doctor", "digits", folder=workplace)
        repaired = command("doctor", "digits", "--repair", folder=workplace)
    assert (looked.code, repaired.code) == (0, 1)
    for result in (looked, repaired):
        assert f"is being written by process {os.getpid()} on " in result.err
    assert leftover.is_dir()
    assert command("doctor", "digits", folder=workplace).code == 1


def test_retention_is_followed_and_changes_no_weight(trained: Path, tmp_path: Path) -> None:
    result = command(*training(*KEEP), folder=tmp_path)
    assert result.code == 0
    run = run_in(tmp_path)
    assert steps_of(run) == [8, 12]
    assert "retention removed the checkpoint of step 4" in result.err
    found, expected = saved(run, 12), saved(run_in(trained), 12)
    assert all(found[name] == expected[name] for name in ("model.safetensors", "ema.safetensors"))

"""The doctor finds what is wrong in a run, and changes nothing."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from ncsnx.exports.exported import write_export
from ncsnx.reporting import doctor
from ncsnx.reporting.doctor import Examination, Finding
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import MANIFEST, write_checkpoint
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.names import step_name
from ncsnx.runs.segments import append_segment
from ncsnx.runs.writer_lock import folder_lock, writer_of
from tests.runs.kept import SMALL, contents, damage, folder, score, tree, weights, write
from tests.runs.test_exports import config_of
from tests.spaces import space_of
from tests.storage.frozen import V1

TOKEN = "tmp-99-0a1b2c3d"
SAMPLING = "samples/step-00000030-n1-seed0"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with three checkpoints and one of everything that a run may hold. Not to be changed."""
    run = Run.create(
        tmp_path_factory.mktemp("sound"), "small", SMALL, {"steps": "small.py:9"}, None, "f" * 64, space_of(SMALL.data)
    )
    write(run, 10, 20, 30)
    append_segment(run, from_step=0, runtime={}, changes={})
    for step in (10, 20, 30):
        MetricsLog(run).append({"step": step, "loss": 1.0})
        run.snapshots.mkdir(exist_ok=True)
        (run.snapshots / f"{step_name(step)}.png").write_bytes(b"PNG")
    run.log_path.write_text("log\n")
    run.report_path.write_text("<!DOCTYPE html>\n")
    run.tensorboard.mkdir()
    shutil.copytree(V1 / "trackers", run.trackers)
    (run.trackers / "wandb.log").write_text("wandb: Tracking run\n")
    score(run, {10: 3.0, 20: 2.0, 30: 1.0})
    (run.fid / "first").mkdir(parents=True)
    sampling = run.path / SAMPLING
    (sampling / "images").mkdir(parents=True)
    for place in ("images/00000.png", "grid.png"):
        (sampling / place).write_bytes(b"PNG")
    (sampling / "samples-00000.safetensors").write_bytes(b"samples")
    record = {
        "n": 1,
        "columns": 1,
        "shape": [1, 8, 8],
        "step": 30,
        "weights_sha256": json.loads((folder(run, 30) / MANIFEST).read_bytes())["files"]["ema.safetensors"]["sha256"],
        "complete": True,
        "samples": {"samples-00000.safetensors": hashlib.sha256(b"samples").hexdigest()},
    }
    (sampling / "protocol.json").write_text(json.dumps(record))
    model = weights(run.experiment(), b"model")
    write_export(run.path / "exported", config_of(run.experiment(), model), model, "# card\n")
    return run


@pytest.fixture
def sound(made: Run, tmp_path: Path) -> Run:
    """A copy of the run."""
    return Run(Path(shutil.copytree(made.path, tmp_path / "small")))


def kinds(found: Examination) -> list[tuple[str, str]]:
    """The findings as (kind, path within the run)."""
    return sorted((finding.kind, str(finding.path.relative_to(found.run.path))) for finding in found.findings)


def only(found: Examination) -> Finding:
    (finding,) = found.findings
    return finding


def test_a_sound_run_has_no_findings_and_every_file_with_a_hash_is_read(sound: Run) -> None:
    before = tree(sound.path)
    examination = doctor.examine(sound)
    assert examination.findings == []
    assert examination.is_sound
    assert (examination.checkpoints, examination.files) == (3, 14)
    sizes = sum(
        path.stat().st_size for path in sound.checkpoints.rglob("*") if path.is_file() and path.name != MANIFEST
    )
    model = (sound.path / "exported/model.safetensors").stat().st_size
    assert examination.bytes == sizes + len(b"samples") + model
    assert tree(sound.path) == before


def test_a_checkpoint_of_another_experiment_is_found(sound: Run) -> None:
    other = attrs.evolve(sound.experiment(), seed=7)
    write_checkpoint(sound.checkpoints, 40, contents(other, 40).items())
    finding = only(doctor.examine(sound))
    assert (finding.kind, finding.path) == ("damaged", folder(sound, 40) / "state.json")


DEBRIS = {
    "a half-written checkpoint": f"checkpoints/.step-00000040.{TOKEN}/model.safetensors",
    "a half-removed checkpoint": f"checkpoints/.step-00000005.{TOKEN}/{MANIFEST}",
    "a half-written file": f".config.json.{TOKEN}",
    "a half-written grid": f"snapshots/.step-00000040.png.{TOKEN}",
    "a half-written manifest": f"checkpoints/step-00000020/.{MANIFEST}.{TOKEN}",
    "half-written scores": f"fid/first/.scores.csv.{TOKEN}",
    "a half-written image": f"{SAMPLING}/images/.00000.png.{TOKEN}",
}


def leave(run: Run, what: str) -> Path:
    """Writes debris; returns what the doctor should name."""
    file = run.path / DEBRIS[what]
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"half")
    return file.parent if file.parent.name.endswith(TOKEN) else file


@pytest.mark.parametrize("what", DEBRIS)
def test_debris_is_named_and_left(sound: Run, what: str) -> None:
    path = leave(sound, what)
    before = tree(sound.path)
    finding = only(doctor.examine(sound))
    assert (finding.kind, finding.path) == ("leftover", path)
    assert tree(sound.path) == before


def test_an_export_that_is_being_written_into_the_run_is_no_debris(sound: Run) -> None:
    path = sound.path / f".model.{TOKEN}"
    path.mkdir()
    assert doctor.examine(sound).findings == []
    os.utime(path, (1, 1))
    assert only(doctor.examine(sound)).path == path


def test_a_run_without_a_sound_checkpoint_cannot_be_trained_further(sound: Run) -> None:
    for step in (10, 20, 30):
        damage(folder(sound, step) / "model.safetensors")
    (finding,) = [finding for finding in doctor.examine(sound).findings if finding.kind == "untrainable"]
    assert "has no sound checkpoint any more" in finding.what


def replaced(old: str, new: str) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(old.encode(), new.encode(), 1)


@pytest.mark.parametrize(
    ("place", "change", "kind"),
    [
        ("config.json", lambda content: b"{", "damaged"),
        ("origins.json", lambda content: b"[]", "damaged"),
        ("origins.json", None, "missing"),
        ("segments.jsonl", lambda content: b"none\n", "damaged"),
        ("segments.jsonl", None, "missing"),
        ("metrics.jsonl", lambda content: b'{"step": "3"}\n', "damaged"),
        ("measurements.jsonl", lambda content: content + b"{}\n", "damaged"),
        (f"{SAMPLING}/samples-00000.safetensors", lambda content: b"others", "damaged"),
        (f"{SAMPLING}/protocol.json", replaced('"n": 1', '"made": 3, "n": 1'), "damaged"),
        ("exported/model.safetensors", lambda content: b"others", "damaged"),
    ],
)
def test_what_is_damaged_or_missing_is_named_with_advice(
    sound: Run, place: str, change: Callable[[bytes], bytes] | None, kind: str
) -> None:
    path = sound.path / place
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    before = tree(sound.path)
    found = doctor.examine(sound)
    assert (kind, path) in {(finding.kind, finding.path) for finding in found.findings}
    assert not found.is_sound
    assert tree(sound.path) == before
    assert all(finding.advice for finding in found.findings)


def test_what_a_newer_ncsnx_wrote_gets_no_other_advice_than_to_update(sound: Run) -> None:
    path = sound.path / SAMPLING / "protocol.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 2}))
    finding = only(doctor.examine(sound))
    assert (finding.path, finding.advice) == (path, "update ncsnx")
    assert finding.what == "schema_version: is 2, newer than this ncsnx reads (1)"


def test_what_a_sweep_that_is_going_on_writes_is_left_to_it(sound: Run) -> None:
    path = leave(sound, "half-written scores")
    with folder_lock(path.parent, "the sweep"):
        assert writer_of(path.parent) is not None
        assert doctor.examine(sound).findings == []
    assert writer_of(path.parent) is None


def test_a_folder_that_may_not_be_read_is_named(sound: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refusing(path: Path) -> Any:
        if Path(path) == sound.samples:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert ("damaged", "samples") in kinds(doctor.examine(sound))


def test_a_run_without_its_configuration_is_examined_too(sound: Run) -> None:
    sound.config_path.unlink()
    damage(folder(sound, 20) / "model.safetensors")
    (sound.checkpoints / "step-00000000").mkdir()
    examination = doctor.examine(sound)
    assert ("unsound", "checkpoints/step-00000000") in kinds(examination)
    assert ("missing", "config.json") in kinds(examination)
    assert ("unsound", "checkpoints/step-00000020") in kinds(examination)

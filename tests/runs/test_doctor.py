"""The doctor finds what is wrong in a run, changes nothing unasked, and repairs on request."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from ncsnx.errors import Stopped
from ncsnx.runs import doctor
from ncsnx.runs.doctor import Examination, Finding
from ncsnx.runs.exported import export_config, write_export
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import MANIFEST, checkpoints, write_checkpoint
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.names import step_name
from ncsnx.runs.result_records import MeasureRecord, NeighborRecord, SpaceRecord
from ncsnx.runs.segments import append_segment
from ncsnx.runs.writer_lock import folder_lock, writer_of
from ncsnx.storage.documents import write_document
from ncsnx.work import Work
from tests.runs.kept import contents, damage, folder, score, tree, weights, write
from tests.storage.frozen import V1

TOKEN = "tmp-99-0a1b2c3d"
Break = Callable[[Run], Path]


@pytest.fixture
def sound(run: Run) -> Run:
    """A run with three checkpoints and one of everything that a run may hold."""
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
    sampling = run.samples / "step-00000030-n1-seed0"
    (sampling / "images").mkdir(parents=True)
    for place in ("images/00000.png", "grid.png"):
        (sampling / place).write_bytes(b"PNG")
    (sampling / "samples.safetensors").write_bytes(b"samples")
    record = {
        "n": 1,
        "columns": 1,
        "shape": [1, 8, 8],
        "step": 30,
        "weights_sha256": json.loads((folder(run, 30) / MANIFEST).read_bytes())["files"]["ema.safetensors"]["sha256"],
        "complete": True,
        "samples_sha256": hashlib.sha256(b"samples").hexdigest(),
    }
    (sampling / "protocol.json").write_text(json.dumps(record))
    model = weights(run.experiment(), b"model")
    config = export_config(
        run.experiment(),
        run=run.name,
        step=30,
        weights="ema",
        checkpoint_sha256="0" * 64,
        model=model,
        data_fingerprint=None,
    )
    write_export(run.path / "exported", config, model, "# card\n")
    return run


def kinds(found: Examination) -> list[tuple[str, str]]:
    """The findings as (kind, path within the run)."""
    return sorted((finding.kind, str(finding.path.relative_to(found.run.path))) for finding in found.findings)


def only(found: Examination) -> Finding:
    (finding,) = found.findings
    return finding


def repaired(run: Run) -> Examination:
    return doctor.examine(run, repair=True)


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


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", MANIFEST])
@pytest.mark.parametrize("how", ["damaged", "cut", "missing"])
def test_whatever_happens_to_a_file_of_a_checkpoint_is_found(sound: Run, name: str, how: str) -> None:
    path = folder(sound, 20) / name
    if how == "damaged":
        damage(path)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    finding = only(doctor.examine(sound))
    assert (finding.kind, finding.path) == ("unsound", folder(sound, 20))
    assert name in finding.what


def test_a_checkpoint_of_another_experiment_is_found(sound: Run) -> None:
    other = attrs.evolve(sound.experiment(), seed=7)
    write_checkpoint(sound.checkpoints, 40, contents(other, 40).items())
    finding = only(doctor.examine(sound))
    assert (finding.kind, finding.path) == ("damaged", folder(sound, 40) / "state.json")
    assert finding.remedy is None


def half_written_checkpoint(run: Run) -> Path:
    path = run.checkpoints / f".step-00000040.{TOKEN}"
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"half")
    return path


def half_written_file(run: Run) -> Path:
    path = run.path / f".config.json.{TOKEN}"
    path.write_bytes(b"half")
    return path


def half_written_grid(run: Run) -> Path:
    path = run.snapshots / f".step-00000040.png.{TOKEN}"
    path.write_bytes(b"half")
    return path


def half_written_manifest(run: Run) -> Path:
    path = folder(run, 20) / f".{MANIFEST}.{TOKEN}"
    path.write_bytes(b"half")
    return path


def half_written_scores(run: Run) -> Path:
    path = run.fid / "first" / f".scores.json.{TOKEN}"
    path.write_bytes(b"half")
    return path


def half_written_image(run: Run) -> Path:
    path = run.samples / "step-00000030-n1-seed0/images" / f".00000.png.{TOKEN}"
    path.write_bytes(b"half")
    return path


def half_removed_checkpoint(run: Run) -> Path:
    write(run, 5)
    path = run.checkpoints / f".step-00000005.{TOKEN}"
    folder(run, 5).rename(path)
    (path / "model.safetensors").unlink()
    return path


DEBRIS = [
    half_written_checkpoint,
    half_written_file,
    half_written_grid,
    half_written_manifest,
    half_written_scores,
    half_written_image,
    half_removed_checkpoint,
]


@pytest.mark.parametrize("leave", DEBRIS)
def test_debris_is_named_and_removed_on_request_alone(sound: Run, leave: Break) -> None:
    clean = tree(sound.path)
    path = leave(sound)
    before = tree(sound.path)
    finding = only(doctor.examine(sound))
    assert (finding.kind, finding.path) == ("leftover", path)
    assert tree(sound.path) == before
    examination = repaired(sound)
    assert only(examination).repaired
    assert examination.is_sound
    assert not path.exists()
    assert tree(sound.path) == clean
    assert doctor.examine(sound).findings == []


def test_an_export_that_is_being_written_into_the_run_is_left_alone(sound: Run) -> None:
    path = sound.path / f".model.{TOKEN}"
    path.mkdir()
    assert repaired(sound).findings == []
    assert path.exists()
    os.utime(path, (1, 1))
    assert only(repaired(sound)).repaired
    assert not path.exists()


def test_an_unsound_checkpoint_is_moved_aside_whole_and_never_deleted(sound: Run) -> None:
    for step in (20, 30):
        damage(folder(sound, step) / "model.safetensors")
    content = tree(folder(sound, 30))
    examination = repaired(sound)
    assert examination.is_sound
    assert checkpoints(sound) == [10]
    assert tree(sound.checkpoints / f"{step_name(30)}.unsound-1") == content
    assert doctor.examine(sound).findings == []


def test_a_run_without_a_sound_checkpoint_cannot_be_trained_further(sound: Run) -> None:
    for step in (10, 20, 30):
        damage(folder(sound, step) / "model.safetensors")
    for examination in (doctor.examine(sound), repaired(sound)):
        (finding,) = [finding for finding in examination.findings if finding.kind == "untrainable"]
        assert "has no sound checkpoint any more" in finding.what
        assert not examination.is_sound


def broken_config(run: Run) -> Path:
    run.config_path.write_text("{")
    return run.config_path


def broken_origins(run: Run) -> Path:
    run.origins_path.write_text("[]")
    return run.origins_path


def lost_origins(run: Run) -> Path:
    run.origins_path.unlink()
    return run.origins_path


def broken_segments(run: Run) -> Path:
    run.segments_path.write_text("none\n")
    return run.segments_path


def lost_segments(run: Run) -> Path:
    run.segments_path.unlink()
    return run.segments_path


def broken_metrics(run: Run) -> Path:
    run.metrics_path.write_text('{"step": "3"}\n')
    return run.metrics_path


def broken_scores(run: Run) -> Path:
    (run.fid / "first/scores.json").write_text("{}")
    return run.fid / "first/scores.json"


def broken_samples(run: Run) -> Path:
    (run.samples / "step-00000030-n1-seed0/samples.safetensors").write_bytes(b"others")
    return run.samples / "step-00000030-n1-seed0/samples.safetensors"


def broken_export(run: Run) -> Path:
    (run.path / "exported/model.safetensors").write_bytes(b"others")
    return run.path / "exported/model.safetensors"


def sampling_changed(run: Run, **changes: object) -> Path:
    path = run.samples / "step-00000030-n1-seed0/protocol.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def newer_sampling(run: Run) -> Path:
    return sampling_changed(run, schema_version=2)


def odd_sampling(run: Run) -> Path:
    return sampling_changed(run, made=3)


def searched(run: Run) -> Path:
    """Valid results of a neighbour search."""
    folder = run.neighbors / "first"
    folder.mkdir(parents=True)
    measure = MeasureRecord(
        median=1.25, held_out_median=None, nearer=None, near=None, pairs_probability=None, tail_probability=None
    )
    record = NeighborRecord(
        protocol={},
        caption="how",
        verdict=None,
        spaces={"pixels": SpaceRecord(distance=measure, relative=measure)},
    )
    write_document(folder / "results.json", record)
    return folder / "results.json"


def other_median(run: Run) -> Path:
    path = searched(run)
    path.write_text(path.read_text().replace("1.25", "1.35", 1))
    return path


def no_results(run: Run) -> Path:
    path = searched(run)
    path.write_text("{}")
    return path


def compared(run: Run, *more: str) -> Path:
    """Valid trials of a comparison, followed by these lines."""
    path = run.compare / "first/trials.jsonl"
    path.parent.mkdir(parents=True)
    trials = next((V1 / "run/compare").glob("*/trials.jsonl")).read_text()
    path.write_text(trials + "".join(f"{line}\n" for line in more))
    return path


def broken_trial(run: Run) -> Path:
    return compared(run, "none")


def odd_comparison(run: Run) -> Path:
    path = compared(run).with_name("results.json")
    path.write_text((V1 / "comparison/results.json").read_text().replace('"seeds": ', '"seeds": 1.5', 1))
    return path


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (broken_config, "damaged"),
        (broken_origins, "damaged"),
        (lost_origins, "missing"),
        (broken_segments, "damaged"),
        (lost_segments, "missing"),
        (broken_metrics, "damaged"),
        (broken_scores, "damaged"),
        (broken_samples, "damaged"),
        (broken_export, "damaged"),
        (newer_sampling, "damaged"),
        (odd_sampling, "damaged"),
        (other_median, "damaged"),
        (no_results, "damaged"),
        (broken_trial, "damaged"),
        (odd_comparison, "damaged"),
    ],
)
def test_what_only_a_person_can_mend_is_named_and_left(sound: Run, change: Break, kind: str) -> None:
    path = change(sound)
    before = tree(sound.path)
    found = repaired(sound)
    assert (kind, path) in {(finding.kind, finding.path) for finding in found.findings}
    assert not found.is_sound
    assert not any(finding.repaired for finding in found.findings)
    assert tree(sound.path) == before
    assert all(finding.advice for finding in found.findings)


def test_searches_and_comparisons_are_sound_as_they_are_written(sound: Run) -> None:
    searched(sound)
    shutil.copy(V1 / "comparison/results.json", compared(sound).parent)
    assert doctor.examine(sound).findings == []


def test_what_a_newer_ncsnx_wrote_gets_no_other_advice_than_to_update(sound: Run) -> None:
    path = newer_sampling(sound)
    finding = only(doctor.examine(sound))
    assert (finding.path, finding.advice) == (path, "update ncsnx")
    assert finding.what == "schema_version: is 2, newer than this ncsnx reads (1)"


@pytest.mark.parametrize(
    ("line", "said", "advice"),
    [
        ("none", "line 1: expected a JSON object", "restore it from a backup, or fix that line"),
        ('{"from": 1}', "line 1: ", "restore it from a backup, or fix that line"),
        (
            '{"schema_version": 2, "other": 1}',
            "line 1: schema_version: is 2, newer than this ncsnx reads (1)",
            "update ncsnx",
        ),
    ],
)
def test_a_bad_segment_gets_its_advice_once(sound: Run, line: str, said: str, advice: str) -> None:
    sound.segments_path.write_text(line + "\n")
    found = next(finding for finding in doctor.examine(sound).findings if finding.path == sound.segments_path)
    assert found.what.startswith(said)
    assert found.advice == advice
    assert "fix or remove" not in found.what
    assert "update ncsnx" not in found.what


def test_what_another_process_writes_isnt_called_debris(sound: Run) -> None:
    for leave in (half_written_checkpoint, half_written_file, half_removed_checkpoint, half_written_manifest):
        leave(sound)
    examination = doctor.examine(sound, writer="process 7")
    assert examination.findings == []


def test_what_a_sweep_that_is_going_on_writes_is_left_to_it(sound: Run) -> None:
    path = half_written_scores(sound)
    with folder_lock(path.parent, "the sweep"):
        assert writer_of(path.parent) is not None
        assert repaired(sound).findings == []
        assert path.exists()
    assert writer_of(path.parent) is None


def test_a_stop_request_ends_an_examination(sound: Run) -> None:
    def check() -> None:
        raise Stopped("stopped by a test")

    with pytest.raises(Stopped):
        doctor.examine(sound, Work(check_stop=check))


def test_a_run_without_its_configuration_is_examined_too(sound: Run) -> None:
    sound.config_path.unlink()
    damage(folder(sound, 20) / "model.safetensors")
    examination = doctor.examine(sound)
    assert ("missing", "config.json") in kinds(examination)
    assert ("unsound", "checkpoints/step-00000020") in kinds(examination)

"""The doctor finds what is wrong in a run, changes nothing unasked, and repairs only files of ncsnx."""

import hashlib
import json
import os
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from ncsnx.config import Retention
from ncsnx.config.canonical import digest
from ncsnx.errors import NcsnxError, Stopped
from ncsnx.runs import doctor
from ncsnx.runs.checkpoints.leftovers import remove_debris
from ncsnx.runs.checkpoints.manifest import MANIFEST, OPTIMIZER, checkpoints
from ncsnx.runs.checkpoints.removal import remove_checkpoint, remove_optimizer_state
from ncsnx.runs.doctor import NOTES, Examination, Finding
from ncsnx.runs.exported import export_config, write_export
from ncsnx.runs.folder import Run, open_run
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.names import step_name
from ncsnx.runs.records.neighbor_record import MeasureRecord, NeighborRecord, SpaceRecord
from ncsnx.runs.resuming import resumption
from ncsnx.runs.segments import append_segment
from ncsnx.runs.writer_lock import folder_lock, writer_of
from ncsnx.storage import atomic
from ncsnx.storage.documents.document_files import write_document
from ncsnx.work import Work
from tests.runs.kept import as_nobody, damage, folder, score, tree, weights, write
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
        (run.snapshots / f"{step_name(step)}.png").write_bytes(png())
    run.log_path.write_text("log\n")
    run.report_path.write_text("<!DOCTYPE html>\n")
    run.tensorboard.mkdir()
    shutil.copytree(V1 / "trackers", run.trackers)
    (run.trackers / "wandb.log").write_text("wandb: Tracking run\n")
    score(run, {10: 3.0, 20: 2.0, 30: 1.0})
    sampling = run.samples / "step-00000030-n1-seed0"
    (sampling / "images").mkdir(parents=True)
    for place in ("images/00000.png", "grid.png"):
        (sampling / place).write_bytes(png())
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


def png() -> bytes:
    """A PNG of one grey pixel."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0\x7f")),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


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
    found = doctor.examine(sound)
    assert found.findings == []
    assert found.is_sound
    assert (found.checkpoints, found.files) == (3, 14)
    sizes = sum(
        path.stat().st_size for path in sound.checkpoints.rglob("*") if path.is_file() and path.name != MANIFEST
    )
    model = (sound.path / "exported/model.safetensors").stat().st_size
    assert found.bytes == sizes + len(b"samples") + model
    assert tree(sound.path) == before


@pytest.mark.parametrize(
    ("name", "how"),
    [
        (name, how)
        for name in ("ema.safetensors", "model.safetensors", OPTIMIZER, "state.json", MANIFEST)
        for how in ("damaged", "cut", "missing", "linked")
        if (name, how) != (OPTIMIZER, "missing")
    ],
)
def test_whatever_happens_to_a_file_of_a_checkpoint_is_found(sound: Run, tmp_path: Path, name: str, how: str) -> None:
    path = folder(sound, 20) / name
    if how == "damaged":
        damage(path)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-2])
    else:
        shutil.move(path, tmp_path / name)
        if how == "linked":
            path.symlink_to(tmp_path / name)
    finding = next(finding for finding in doctor.examine(sound).findings if not finding.is_note)
    assert (finding.kind, finding.path) == ("unsound", folder(sound, 20))
    assert name in finding.what


def test_every_broken_file_of_a_checkpoint_is_named(sound: Run) -> None:
    for name in ("ema.safetensors", "state.json"):
        damage(folder(sound, 30) / name)
    what = next(finding.what for finding in doctor.examine(sound).findings if finding.kind == "unsound")
    assert "ema.safetensors" in what
    assert "state.json" in what


def test_a_state_that_was_tampered_with_and_hashed_again_is_found(sound: Run) -> None:
    state = {**json.loads((folder(sound, 20) / "state.json").read_bytes()), "identity": "0" * 64}
    written = json.dumps(state).encode()
    (folder(sound, 20) / "state.json").write_bytes(written)
    content = json.loads((folder(sound, 20) / MANIFEST).read_bytes())
    del content["digest"]
    content["files"]["state.json"] = {"sha256": hashlib.sha256(written).hexdigest(), "bytes": len(written)}
    (folder(sound, 20) / MANIFEST).write_bytes(atomic.json_bytes({**content, "digest": digest(content)}))
    finding = only(doctor.examine(sound))
    assert (finding.kind, finding.path) == ("foreign", folder(sound, 20) / "state.json")
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


def half_made_run(run: Run) -> Path:
    path = run.path.parent / f".other.{TOKEN}"
    (path / "checkpoints").mkdir(parents=True)
    (path / "config.json").write_text("{}")
    os.utime(path, (1, 1))
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
    half_made_run,
    half_removed_checkpoint,
]


@pytest.mark.parametrize("leave", DEBRIS)
def test_debris_is_named_and_removed_on_request_alone(sound: Run, leave: Break) -> None:
    clean = tree(sound.path.parent)
    path = leave(sound)
    before = tree(sound.path.parent)
    finding = only(doctor.examine(sound))
    kind = "begun" if leave is half_made_run else "leftover"
    assert (finding.kind, finding.path) == (kind, path)
    assert finding.is_note == (kind == "begun"), "what lies beside a run says nothing about it"
    assert tree(sound.path.parent) == before
    found = repaired(sound)
    assert only(found).repaired
    assert found.is_sound
    assert not path.exists()
    after = {name: content for name, content in tree(sound.path.parent).items() if not name.endswith(".lock")}
    assert after == clean
    assert doctor.examine(sound).findings == []


def half_written_export(run: Run) -> Path:
    """Files that a killed export left in the run's folder."""
    path = run.path / f".model.{TOKEN}"
    shutil.copytree(run.path / "exported", path)
    (path / "samples.png").write_bytes(png())
    (path / "config.json").unlink()
    return path


@pytest.mark.parametrize("name", ["model", step_name(40)])
def test_an_export_that_is_being_written_into_the_run_is_left_alone(sound: Run, name: str) -> None:
    path = half_written_export(sound).rename(sound.path / f".{name}.{TOKEN}")
    for written in ("README.md", "samples.png", "model.safetensors", None):
        before = tree(sound.path)
        remove_debris(sound)
        found = repaired(sound)
        assert (only(found).kind, only(found).path, found.is_sound) == ("busy", path, True)
        assert tree(sound.path) == before
        if written is not None:
            (path / written).unlink()


def test_what_a_killed_export_left_is_removed_whole(sound: Run) -> None:
    clean = tree(sound.path)
    path = half_written_export(sound)
    os.utime(path, (1, 1))
    finding = only(doctor.examine(sound))
    assert (finding.kind, finding.path) == ("leftover", path)
    assert "train" not in finding.advice
    remove_debris(sound)
    assert path.exists(), "a training cannot tell whether it is being written"
    assert repaired(sound).is_sound
    assert tree(sound.path) == clean
    assert not path.exists()


def test_a_half_written_folder_that_holds_something_of_somebody_elses_stays_whole(sound: Run) -> None:
    path = half_written_export(sound)
    (path / "mine.txt").write_text("mine")
    os.utime(path, (1, 1))
    before = tree(sound.path)
    found = repaired(sound)
    assert only(found).kind == "unknown"
    assert "holds mine.txt, which" in only(found).what
    assert tree(sound.path) == before


def test_the_checkpoints_of_a_half_made_run_are_not_said_to_be_somebody_elses(sound: Run) -> None:
    path = half_made_run(sound)
    (path / "checkpoints" / "mine").mkdir()
    os.utime(path, (1, 1))
    before = tree(path)
    finding = only(repaired(sound))
    assert "holds checkpoints/mine, which ncsnx" in finding.advice
    assert not finding.repaired
    assert tree(path) == before


@pytest.mark.parametrize("leave", [half_written_checkpoint, half_made_run, half_removed_checkpoint])
def test_a_strangers_file_in_debris_stays_and_is_named(sound: Run, leave: Break) -> None:
    path = leave(sound)
    (path / "mine.txt").write_text("mine")
    os.utime(path, (1, 1))
    found = repaired(sound)
    assert (path / "mine.txt").read_text() == "mine"
    if leave is half_made_run:
        assert found.findings == [], "another program's, for all that is known"
    else:
        assert "mine.txt" in only(found).advice
        assert not only(found).repaired
        assert [one.name for one in path.iterdir()] == ["mine.txt"], "what is ncsnx's own has gone"
        assert "mine.txt" in only(doctor.examine(sound)).what
        assert only(doctor.examine(sound)).is_note


def test_a_run_that_is_being_made_this_moment_is_left_alone(sound: Run) -> None:
    path = half_made_run(sound)
    os.utime(path)
    assert only(repaired(sound)).kind == "begun"
    assert path.exists()


def test_an_empty_folder_beside_the_run_is_named_and_left(sound: Run) -> None:
    path = sound.path.parent / f".other.{TOKEN}"
    path.mkdir()
    os.utime(path, (1, 1))
    found = repaired(sound)
    assert (only(found).kind, only(found).path, found.is_sound) == ("begun", path, True)
    assert path.exists()


def test_an_unsound_checkpoint_is_moved_aside_whole_and_never_deleted(sound: Run) -> None:
    for number in (1, 2):
        damage(folder(sound, 30) / "ema.safetensors")
        content = tree(folder(sound, 30))
        found = repaired(sound)
        moved = sound.unsound / (step_name(30) if number == 1 else f"{step_name(30)}-2")
        assert tree(moved) == content
        assert checkpoints(sound) == [10, 20]
        assert found.is_sound, "what is left is"
        assert str(moved) in next(finding.advice for finding in found.findings if finding.kind == "unsound")
        write(sound, 30)
    found = doctor.examine(sound)
    assert {finding.kind for finding in found.findings} == {"set-aside"}
    assert found.is_sound


def test_what_is_left_without_a_checkpoint_cant_be_trained_on_and_the_doctor_says_so_too(sound: Run) -> None:
    for step in (10, 20, 30):
        damage(folder(sound, step) / "state.json")
    before = next(finding.what for finding in doctor.examine(sound).findings if finding.kind == "untrainable")
    assert "has no sound checkpoint any more, but had some (none of 3 is sound; step 30: " in before
    found = repaired(sound)
    assert checkpoints(sound) == []
    finding = next(finding for finding in found.findings if finding.kind == "untrainable")
    refusal = resumption(sound)
    assert refusal.refusal is not None
    assert refusal.refusal in finding.what
    assert finding.advice == refusal.advice
    assert not found.is_sound


def test_a_run_whose_newest_sound_checkpoint_was_pruned_gets_the_advice_that_train_gives(sound: Run) -> None:
    for step in (10, 20):
        remove_optimizer_state(folder(sound, step))
    damage(folder(sound, 30) / "model.safetensors")
    sound.update_experiment(attrs.evolve(sound.experiment(), retention=Retention(optimizer_last=1)))
    for found in (doctor.examine(sound), repaired(sound)):
        finding = next(finding for finding in found.findings if finding.kind == "untrainable")
        assert finding.advice == resumption(sound).advice
        assert "missing" not in {finding.kind for finding in found.findings}


@pytest.mark.parametrize(
    ("rules", "kept", "lost"),
    [
        (Retention(), 20, [30]),
        (Retention(optimizer_last=1), 20, [30]),
        (Retention(optimizer_last=2), 10, [20, 30]),
        (Retention(optimizer_last=2, keep_every=10), 10, [30]),
        (Retention(optimizer_last=3, keep_last=2, keep_every=10), 10, [20, 30]),
    ],
)
def test_an_optimizer_state_that_no_rule_removes_is_missing(
    sound: Run, rules: Retention, kept: int, lost: list[int]
) -> None:
    sound.update_experiment(attrs.evolve(sound.experiment(), retention=rules))
    for step in (10, 20, 30):
        if step > kept:
            (folder(sound, step) / OPTIMIZER).unlink()
    before = tree(sound.path)
    found = repaired(sound)
    missing = [finding.path for finding in found.findings if finding.kind == "missing"]
    assert sorted(missing) == [folder(sound, step) / OPTIMIZER for step in lost]
    assert "untrainable" not in {finding.kind for finding in found.findings}
    assert not found.is_sound
    assert tree(sound.path) == before
    assert resumption(sound).step == kept


def test_an_optimizer_state_that_a_rule_removed_is_no_finding(sound: Run) -> None:
    sound.update_experiment(attrs.evolve(sound.experiment(), retention=Retention(optimizer_last=2)))
    remove_optimizer_state(folder(sound, 10))
    assert doctor.examine(sound).findings == []


def test_beside_a_training_whose_retention_goes_on_nothing_is_said_of_where_another_would_resume(sound: Run) -> None:
    for step in (10, 20, 30):
        damage(folder(sound, step) / "model.safetensors")
    kinds_found = {finding.kind for finding in doctor.examine(sound, writer="process 7").findings}
    assert kinds_found & {"untrainable", "missing"} == set()
    assert "untrainable" in {finding.kind for finding in doctor.examine(sound).findings}


def without_optimizer_state(run: Run) -> Path:
    (folder(run, 20) / OPTIMIZER).unlink()
    return run.checkpoints


def beyond(run: Run) -> Path:
    MetricsLog(run).append({"step": 31, "loss": 1.0})
    return run.metrics_path


def torn(run: Run) -> Path:
    with run.metrics_path.open("a") as file:
        file.write('{"step": 3')
    return run.metrics_path


def of_a_step_that_is_gone(run: Run) -> Path:
    shutil.copy(run.snapshots / f"{step_name(30)}.png", run.snapshots / f"{step_name(40)}.png")
    return run.snapshots


def drawn_from_other_weights(run: Run) -> Path:
    path = run.samples / "step-00000030-n1-seed0/protocol.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "weights_sha256": "0" * 64}))
    return path.parent


def unfinished_sampling(run: Run) -> Path:
    path = run.samples / "step-00000030-n1-seed0/protocol.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "complete": False}))
    return path.parent


def scored_and_gone(run: Run) -> Path:
    score(run, {40: 1.0})
    return run.fid / "first"


def unknown_file(run: Run) -> Path:
    (run.path / "own.txt").write_text("own")
    return run.path / "own.txt"


def unknown_file_in_a_checkpoint(run: Run) -> Path:
    (folder(run, 20) / "own.txt").write_text("own")
    return folder(run, 20) / "own.txt"


def unknown_link(run: Run) -> Path:
    (run.checkpoints / "elsewhere").symlink_to("/etc")
    return run.checkpoints / "elsewhere"


def more_than_retention_keeps(run: Run) -> Path:
    run.update_experiment(attrs.evolve(run.experiment(), retention=Retention(keep_last=2)))
    return run.checkpoints


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (without_optimizer_state, "gone", "without optimizer state, of steps 20"),
        (beyond, "beyond", "1 record after the last checkpoint, of step 30"),
        (torn, "unfinished", "half a line"),
        (of_a_step_that_is_gone, "gone", ": 40"),
        (drawn_from_other_weights, "gone", "step 30, whose weights no longer exist"),
        (unfinished_sampling, "unfinished", "interrupted"),
        (scored_and_gone, "gone", "of steps 40"),
        (unknown_file, "unknown", "is not part of a run"),
        (unknown_file_in_a_checkpoint, "unknown", "is not part of the checkpoint"),
        (unknown_link, "unknown", "is not a checkpoint"),
        (more_than_retention_keeps, "due", "the checkpoint of step 10"),
    ],
)
def test_what_a_person_may_want_to_know_is_a_note_and_repair_leaves_it(
    sound: Run, change: Break, kind: str, said: str
) -> None:
    path = change(sound)
    before = tree(sound.path)
    found = repaired(sound)
    finding = only(found)
    assert (finding.kind, finding.path) == (kind, path)
    assert said in finding.what
    assert kind in NOTES
    assert found.is_sound
    assert tree(sound.path) == before


FILES_OF_A_RUN = [
    "config.json",
    "origins.json",
    "log.txt",
    "report.html",
    "segments.jsonl",
    "metrics.jsonl",
    ".lock",
    "tensorboard/events",
    "snapshots/step-00000010.png",
    "checkpoints/step-00000020/ema.safetensors",
    "checkpoints/step-00000020/manifest.json",
    "fid/first/scores.json",
    "samples/step-00000030-n1-seed0/images/00000.png",
    "samples/step-00000030-n1-seed0/protocol.json",
    "compare/first/trials.jsonl",
    "exported/model.safetensors",
    "own/deep/inside.txt",
]
APPENDED = ("log.txt", "segments.jsonl", "metrics.jsonl", "compare/first/trials.jsonl")


@pytest.mark.parametrize("name", FILES_OF_A_RUN)
def test_a_hard_link_to_any_file_of_a_run_is_found_and_leaves_it_sound(sound: Run, tmp_path: Path, name: str) -> None:
    path = sound.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.link(path, tmp_path / "elsewhere")
    content = path.read_bytes()
    (finding,) = [finding for finding in doctor.examine(sound).findings if finding.kind == "hard-link"]
    assert (finding.path, finding.is_note) == (path, True)
    assert (finding.remedy is not None) == (name in APPENDED)
    found = repaired(sound)
    assert found.is_sound
    assert path.read_bytes() == (tmp_path / "elsewhere").read_bytes() == content
    assert path.stat().st_nlink == (1 if name in APPENDED else 2)


def test_what_has_another_name_can_be_written_again_once_it_is_repaired(sound: Run, tmp_path: Path) -> None:
    os.link(sound.segments_path, tmp_path / "elsewhere")
    with pytest.raises(
        NcsnxError, match=r"2 names \(hard links\); make it a separate file: ncsnx doctor .*/small --re"
    ):
        append_segment(sound, from_step=30, runtime={}, changes={})
    before = (tmp_path / "elsewhere").read_bytes()
    repaired(sound)
    append_segment(sound, from_step=30, runtime={}, changes={})
    assert (tmp_path / "elsewhere").read_bytes() == before
    assert sound.segments_path.read_bytes().startswith(before)


def test_a_run_whose_every_file_a_backup_shares_is_sound_with_one_note_for_what_needs_nothing(
    sound: Run, tmp_path: Path
) -> None:
    copy = Run(Path(shutil.copytree(sound.path, tmp_path / "copy of the run", copy_function=os.link)))
    found = doctor.examine(copy)
    assert found.is_sound
    *appended, others = found.findings
    assert [finding.path for finding in appended] == [copy.log_path, copy.metrics_path, copy.segments_path]
    total = sum(path.is_file() for path in copy.path.rglob("*"))
    assert f"has {total - 3} files with other names (hard links)" in others.what
    subprocess.run(others.advice.partition(": ")[2], shell=True, check=True, cwd=tmp_path)
    assert doctor.examine(Run(tmp_path / "COPY")).findings == []


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


def lost_metrics(run: Run) -> Path:
    run.metrics_path.unlink()
    return run.metrics_path


def broken_scores(run: Run) -> Path:
    (run.fid / "first/scores.json").write_text("{}")
    return run.fid / "first/scores.json"


def broken_grid(run: Run) -> Path:
    damage_middle(run.snapshots / f"{step_name(20)}.png")
    return run.snapshots / f"{step_name(20)}.png"


def broken_samples(run: Run) -> Path:
    (run.samples / "step-00000030-n1-seed0/samples.safetensors").write_bytes(b"others")
    return run.samples / "step-00000030-n1-seed0/samples.safetensors"


def lost_image(run: Run) -> Path:
    (run.samples / "step-00000030-n1-seed0/images/00000.png").unlink()
    return run.samples / "step-00000030-n1-seed0/images"


def broken_export(run: Run) -> Path:
    (run.path / "exported/model.safetensors").write_bytes(b"others")
    return run.path / "exported/model.safetensors"


def origin_of_another_type(run: Run) -> Path:
    run.origins_path.write_text('{"x": 5}')
    return run.origins_path


def sampling_changed(run: Run, **changes: object) -> Path:
    path = run.samples / "step-00000030-n1-seed0/protocol.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def newer_sampling(run: Run) -> Path:
    return sampling_changed(run, schema_version=2)


def odd_sampling(run: Run) -> Path:
    return sampling_changed(run, made=3)


def searched(run: Run) -> Path:
    """Valid results of a neighbour search, with a picture."""
    folder = run.neighbors / "first"
    folder.mkdir(parents=True)
    (folder / "grid.png").write_bytes(png())
    measure = MeasureRecord(
        median=1.25, held_out_median=None, nearer=None, near=None, pairs_probability=None, tail_probability=None
    )
    record = NeighborRecord(
        protocol={},
        caption="how",
        verdict=None,
        spaces={"pixels": SpaceRecord(distance=measure, relative=measure)},
        files={"grid.png": hashlib.sha256(png()).hexdigest()},
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


def other_grid(run: Run) -> Path:
    path = searched(run).with_name("grid.png")
    path.write_bytes(png() + b"more")
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


def linked_samples(run: Run) -> Path:
    shutil.rmtree(run.samples)
    run.samples.symlink_to("/etc")
    return run.samples


def damage_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (broken_config, "damaged"),
        (broken_origins, "damaged"),
        (lost_origins, "missing"),
        (broken_segments, "damaged"),
        (lost_segments, "missing"),
        (broken_metrics, "damaged"),
        (lost_metrics, "missing"),
        (broken_scores, "damaged"),
        (broken_grid, "damaged"),
        (broken_samples, "damaged"),
        (lost_image, "missing"),
        (broken_export, "damaged"),
        (linked_samples, "link"),
        (origin_of_another_type, "damaged"),
        (newer_sampling, "damaged"),
        (odd_sampling, "damaged"),
        (other_median, "damaged"),
        (no_results, "damaged"),
        (other_grid, "damaged"),
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


def test_what_a_comparison_leaves_out_is_a_note(sound: Run) -> None:
    path = compared(sound, '{"seed": 0}', '{"schema_version": 2, "more": 1}')
    lines = path.read_text().count("\n")
    finding = only(doctor.examine(sound))
    assert (finding.kind, finding.path, finding.is_note) == ("unknown", path, True)
    assert finding.what.startswith(f"has 2 lines that this ncsnx cannot read as a trial: line {lines - 1}: sampler: is")


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
    beyond(sound)
    found = doctor.examine(sound, writer="process 7")
    assert {finding.kind for finding in found.findings} == {"busy"}
    assert len(found.findings) == 5
    assert all(finding.remedy is None for finding in found.findings)


def test_what_a_sweep_that_is_going_on_writes_is_left_to_it(sound: Run) -> None:
    path = half_written_scores(sound)
    with folder_lock(path.parent, "the sweep"):
        assert writer_of(path.parent) is not None
        assert only(repaired(sound)).kind == "busy"
        assert path.exists()
    assert writer_of(path.parent) is None


def test_a_link_in_the_place_of_unsound_leads_nowhere(sound: Run, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    sound.unsound.symlink_to(tmp_path / "outside")
    damage(folder(sound, 30) / "state.json")
    found = repaired(sound)
    assert list((tmp_path / "outside").iterdir()) == []
    assert checkpoints(sound) == [10, 20, 30]
    finding = next(finding for finding in found.findings if finding.kind == "unsound")
    assert not finding.repaired
    assert "symbolic link" in finding.advice


def test_a_stop_request_ends_an_examination(sound: Run) -> None:
    def check() -> None:
        raise Stopped("stopped by a test")

    with pytest.raises(Stopped):
        doctor.examine(sound, Work(check_stop=check))


def test_a_hidden_file_of_somebody_elses_leaves_the_run_sound_once_its_checkpoint_is_removed(sound: Run) -> None:
    (folder(sound, 10) / ".DS_Store").write_text("theirs")
    remove_checkpoint(folder(sound, 10))
    (finding,) = [finding for finding in repaired(sound).findings if finding.kind != "gone"]
    assert (finding.kind, finding.is_note) == ("unknown", True)
    assert "still holds .DS_Store" in finding.what
    assert (finding.path / ".DS_Store").read_text() == "theirs"


def test_a_run_that_is_a_link_itself_is_examined_where_it_is(sound: Run) -> None:
    link = Run(sound.path.with_name("linked"))
    link.path.symlink_to(sound.path)
    found = doctor.examine(link)
    assert found.findings == []
    assert (found.checkpoints, found.files) == (3, 14)


def test_a_run_without_its_configuration_is_examined_too(sound: Run) -> None:
    sound.config_path.unlink()
    found = doctor.examine(open_run(sound.path.parent, sound.name, needs_config=False))
    assert ("damaged", "config.json") in kinds(found)
    assert found.checkpoints == 3


UNREADABLE = """
import sys
from pathlib import Path
from ncsnx.runs import doctor
from ncsnx.runs.folder import Run
drop()
print(*[finding.kind for finding in doctor.examine(Run(Path(sys.argv[1]))).findings])
"""


def test_what_cannot_be_read_is_not_called_lost(run: Run) -> None:
    write(run, 10)
    append_segment(run, from_step=0, runtime={}, changes={})
    (folder(run, 10) / "ema.safetensors").chmod(0)
    result = as_nobody(UNREADABLE, run.path.name, place=run.path.parent)
    assert "unreadable" in result.stdout.split(), result.stderr
    assert "untrainable" not in result.stdout


def test_damaged_notes_of_a_tracker_are_found_and_what_else_is_there_is_a_note(sound: Run) -> None:
    (sound.trackers / "wandb.json").write_text("{}")
    (sound.trackers / "active.json").write_text('{"schema_version": 1, "trackers": "wandb"}')
    (sound.trackers / "more.txt").touch()
    found = doctor.examine(sound)
    assert kinds(found) == [
        ("damaged", "trackers/active.json"),
        ("damaged", "trackers/wandb.json"),
        ("unknown", "trackers/more.txt"),
    ]
    damaged = [finding.advice for finding in found.findings if finding.kind == "damaged"]
    assert all(advice.endswith("; training continues without it") for advice in damaged)

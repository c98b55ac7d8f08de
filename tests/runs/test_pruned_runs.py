"""Pruned runs of every manifest version are sound, and can be resumed, pruned again and cleared of debris."""

import errno
import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import attrs
import pytest

from ncsnx.config import Retention
from ncsnx.errors import NcsnxError
from ncsnx.runs.checkpoints.manifest import MANIFEST, OPTIMIZER, SCHEMA_VERSION, checkpoints, read_manifest, verify
from ncsnx.runs.checkpoints.pruning import CheckpointPruner
from ncsnx.runs.checkpoints.removal import remove_optimizer_state
from ncsnx.runs.folder import Run
from ncsnx.runs.resuming import resumption
from ncsnx.storage import atomic
from tests.runs.frozen.__main__ import FROZEN
from tests.runs.frozen.pruned import STEPS, TRAINABLE, TRAINING
from tests.runs.kept import damage, folder, python, whole
from tests.training.tiny import CPU, command, saved

VERSIONS = sorted(FROZEN.glob("pruned-v*"))


@pytest.fixture(params=VERSIONS, ids=lambda place: place.name)
def pruned(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """A copy of the frozen run of one version, in runs/digits."""
    shutil.copytree(request.param, tmp_path / "runs/digits")
    return Run(tmp_path / "runs/digits")


def place_of(run: Run) -> Path:
    """The working folder of a run."""
    return run.path.parents[1]


def manifests(run: Run) -> dict[int, bytes]:
    """The manifests of the run's checkpoints."""
    return {step: (folder(run, step) / MANIFEST).read_bytes() for step in checkpoints(run)}


def train_on(run: Run) -> None:
    result = command(*TRAINING, f"steps={STEPS + 1}", *CPU, folder=place_of(run))
    assert result.code == 0, result.err


def test_there_is_a_frozen_run_of_each_version_of_the_manifest() -> None:
    assert [place.name for place in VERSIONS] == [f"pruned-v{version}" for version in range(1, SCHEMA_VERSION + 1)]
    for number, place in enumerate(VERSIONS, start=1):
        found = {json.loads(path.read_bytes())["schema_version"] for path in place.rglob(MANIFEST)}
        assert found == {number}


def test_its_checkpoints_are_sound_with_an_optimizer_state_or_without(pruned: Run) -> None:
    assert {step: verify(folder(pruned, step)).is_trainable for step in checkpoints(pruned)} == TRAINABLE


def test_doctor_finds_debris_alone_and_removes_it(pruned: Run) -> None:
    before = command("doctor", "digits", "--json", folder=place_of(pruned))
    assert before.code == 1
    assert {finding["kind"] for finding in json.loads(before.out)["findings"]} == {"leftover", "gone"}
    assert command("doctor", "digits", "--repair", folder=place_of(pruned)).code == 0
    after = command("doctor", "digits", "--json", folder=place_of(pruned))
    assert after.code == 0
    (note,) = json.loads(after.out)["findings"]
    assert note["what"].endswith("without optimizer state, of steps 1, 3")
    assert checkpoints(pruned) == list(TRAINABLE)


def test_training_resumes_clears_debris_and_leaves_what_was_written(pruned: Run) -> None:
    before = manifests(pruned)
    train_on(pruned)
    hidden = [path.name for path in pruned.path.rglob(".*") if path.is_dir() or ".tmp-" in path.name]
    assert hidden == []
    assert manifests(pruned).items() >= before.items()
    assert checkpoints(pruned) == [*TRAINABLE, STEPS + 1]
    assert command("doctor", "digits", folder=place_of(pruned)).code == 0


@pytest.mark.parametrize("step", [step for step, trainable in TRAINABLE.items() if trainable])
def test_training_resumes_with_the_same_bits_under_every_version(tmp_path: Path, step: int) -> None:
    """The checkpoints were written on one machine, so training from each ends bit-identically on one machine."""
    ends = []
    for frozen in VERSIONS:
        run = Run(Path(shutil.copytree(frozen, tmp_path / frozen.name / "runs/digits")))
        for later in [other for other in TRAINABLE if other > step]:
            shutil.rmtree(folder(run, later))
        train_on(run)
        assert f'"from_step": {step},' in run.segments_path.read_text()
        ends.append(saved(run.path, STEPS + 1))
    assert all(end == ends[0] for end in ends)


def test_the_nearest_optimizer_state_is_named_where_the_newest_sound_checkpoint_has_none(pruned: Run) -> None:
    damage(folder(pruned, 5) / "model.safetensors")
    assert "of step 3, holds no optimizer state" in str(resumption(pruned).refusal)
    assert "resume from step 2, the nearest that has it" in resumption(pruned).advice


WITHOUT_ROOM = """
import resource, sys
from pathlib import Path
from ncsnx.runs.checkpoints.removal import remove_optimizer_state
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
remove_optimizer_state(Path(sys.argv[1]))
"""


def test_an_optimizer_state_goes_on_a_full_disk_too(pruned: Run) -> None:
    before = manifests(pruned)
    assert python(WITHOUT_ROOM, folder(pruned, 2)).stderr == ""
    assert (manifests(pruned), whole(pruned)) == (before, [5])
    assert not verify(folder(pruned, 2)).is_trainable
    assert [path.name for path in folder(pruned, 2).iterdir() if path.name.startswith(".")] == []


def test_where_a_manifest_may_not_be_written_no_state_goes(pruned: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> None:
        raise NcsnxError("no") from PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(atomic, "write_bytes", refused)
    is_old = json.loads(manifests(pruned)[2])["schema_version"] < SCHEMA_VERSION
    with pytest.raises(NcsnxError) if is_old else nullcontext():
        remove_optimizer_state(folder(pruned, 2))
    assert whole(pruned) == ([2, 5] if is_old else [5])


def test_it_is_pruned_and_writes_only_a_manifest_that_earlier_programs_would_call_damaged(pruned: Run) -> None:
    before = manifests(pruned)
    held = read_manifest(folder(pruned, 2)).files
    experiment = pruned.experiment()
    pruner = CheckpointPruner(pruned, attrs.evolve(experiment, retention=Retention(optimizer_last=1)))
    assert pruner.apply().stripped == (2,)
    assert whole(pruned) == [5]
    after = manifests(pruned)
    changed = {step for step in before if after[step] != before[step]}
    assert changed == ({2} if json.loads(before[2])["schema_version"] < SCHEMA_VERSION else set())
    assert json.loads(after[2])["schema_version"] == SCHEMA_VERSION
    stripped = read_manifest(folder(pruned, 2))
    assert stripped.files | stripped.absent == held
    assert set(stripped.absent) == {OPTIMIZER}
    for step in checkpoints(pruned):
        verify(folder(pruned, step))
    pruner = CheckpointPruner(pruned, attrs.evolve(experiment, retention=Retention(keep_last=1)))
    assert pruner.apply().removed == (1, 2, 3)
    assert checkpoints(pruned) == [5]


def test_a_checkpoint_without_optimizer_state_is_sampled(pruned: Run) -> None:
    result = command("sample", "digits", "--ckpt", "1", "--n", "1", *CPU, folder=place_of(pruned))
    assert result.code == 0, result.err


def test_an_optimizer_state_that_no_manifest_lists_stays_and_keeps_its_checkpoint(tmp_path: Path) -> None:
    """Version 1 kept no record of a removed optimizer state."""
    run = Run(Path(shutil.copytree(FROZEN / "pruned-v1", tmp_path / "digits")))
    (folder(run, 1) / OPTIMIZER).write_bytes(b"theirs")
    assert not read_manifest(folder(run, 1)).is_trainable
    pruner = CheckpointPruner(run, attrs.evolve(run.experiment(), retention=Retention(keep_last=1)))
    outcome = pruner.apply()
    assert outcome.removed == (2, 3)
    assert f"it holds {OPTIMIZER}" in outcome.problems[0]
    assert (folder(run, 1) / OPTIMIZER).read_bytes() == b"theirs"

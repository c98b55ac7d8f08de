"""Pruned runs are sound, and can be resumed, pruned again and cleared of debris."""

import json
import shutil
from pathlib import Path

import attrs
import pytest

from ncsnx.config import Retention
from ncsnx.runs.checkpoints.manifest import MANIFEST, OPTIMIZER, checkpoints, read_manifest, verify
from ncsnx.runs.checkpoints.pruning import CheckpointPruner
from ncsnx.runs.checkpoints.removal import remove_optimizer_state
from ncsnx.runs.folder import Run
from ncsnx.runs.resuming import resumption
from ncsnx.storage import atomic
from tests.cli.command import REPOSITORY
from tests.runs.kept import damage, folder, python, whole
from tests.training.tiny import CPU, command

STEPS = 5
TRAINING = (
    *("train", "digits", "model.width=2", "batch_size=16", "schedule.levels=4", "sampler.steps_per_level=1"),
    *("snapshots=none", "checkpoint_every=1", "ema=none", "optimizer=sgd", "optimizer.momentum=0.9"),
)
TRAINABLE = {1: False, 2: True, 3: False, 5: True}
"""Step → whether its checkpoint holds the optimizer's state. Of step 4, a killed removal left files."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder of a run whose retention was killed."""
    work = tmp_path_factory.mktemp("pruned")
    shutil.copytree(REPOSITORY / "experiments", work / "experiments")
    result = command(*TRAINING, f"steps={STEPS}", *CPU, folder=work)
    assert result.code == 0, result.err
    run = Run(work / "runs/digits")
    for step in (1, 3):
        remove_optimizer_state(folder(run, step))
    half_removed = folder(run, 4).rename(atomic.temporary_sibling(folder(run, 4)))
    (half_removed / MANIFEST).unlink()
    return work


@pytest.fixture
def pruned(template: Path, tmp_path: Path) -> Run:
    """A copy of that run, in runs/digits."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
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


def test_it_is_pruned_without_a_manifest_being_written(pruned: Run) -> None:
    before = manifests(pruned)
    held = read_manifest(folder(pruned, 2)).files
    experiment = pruned.experiment()
    pruner = CheckpointPruner(pruned, attrs.evolve(experiment, retention=Retention(optimizer_last=1)))
    assert pruner.apply().stripped == (2,)
    assert whole(pruned) == [5]
    assert manifests(pruned) == before
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

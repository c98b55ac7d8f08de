"""Runs of every past schema version can be shown, sampled, scored and trained further."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ncsnx.config.codec import CONFIG_VERSION
from ncsnx.data.packed.packed_file import Damage, PackedFile, damage
from ncsnx.evaluation.comparing.trials import Trials
from ncsnx.runs import exported as export
from ncsnx.runs.checkpoints import manifest
from ncsnx.runs.checkpoints.manifest import verify
from ncsnx.runs.folder import Run
from ncsnx.runs.score_files import best_checkpoint
from ncsnx.work import Work
from tests.cli.command import REPOSITORY
from tests.runs.frozen.__main__ import FROZEN, IMAGES, LONGER, STEPS, expectation, grey_levels
from tests.storage.frozen import V1
from tests.training.tiny import CPU, command

VERSIONS = sorted(FROZEN.glob("v*"))


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda place: place.name)
def frozen(request: pytest.FixtureRequest) -> Path:
    """The folder of one schema version."""
    return Path(request.param)


@pytest.fixture
def place(frozen: Path, tmp_path: Path) -> Path:
    """A working folder with a copy of the run in runs/digits."""
    shutil.copytree(frozen / "run", tmp_path / "runs/digits")
    shutil.copytree(REPOSITORY / "experiments", tmp_path / "experiments")
    return tmp_path


def test_what_was_made_of_it_is_taken_up(place: Path) -> None:
    """Samples, a sweep, a comparison and a neighbour search as version 1 wrote them."""
    run = Run(place / "runs/digits")
    shutil.copytree(V1 / "run", run.path, dirs_exist_ok=True)
    sampled = command("sample", "digits", "--n", "2", *CPU, folder=place)
    assert (sampled.code, "already sampled" in sampled.err) == (0, True)
    best = best_checkpoint(run, partial(manifest.holds, run))
    assert best is not None
    assert (best.step, best.score, best.images) == (STEPS, 3.6150017014863938, 40)
    fast = command("sample", "digits", "sampler=fast", "--ckpt", "best", "--n", "1", *CPU, folder=place)
    assert "sampler=fast: sampler=cas sampler.steps=3, found on step 20" in fast.err
    assert fast.code == 0
    (trials,) = run.compare.glob("*/trials.jsonl")
    assert [trial.row["evaluations"] for trial in Trials.read(trials).found] == [11, 2]
    examined = command("doctor", "digits", folder=place)
    # the frozen neighbour search lacks its pictures and its list of distances
    assert all("/distances." in line and " is missing; " in line for line in examined.out.splitlines()), examined.out


def test_a_packed_file_has_the_bytes_that_the_same_images_get_today(tmp_path: Path) -> None:
    np.save(tmp_path / "some.npy", load_digits().images[:10].astype(np.uint8) * 15)
    assert command("data", "pack", "some.npy", "--out", "some.pack", folder=tmp_path).code == 0
    assert (tmp_path / "some.pack").read_bytes() == (V1 / "some.pack").read_bytes()
    assert damage(PackedFile.open(V1 / "some.pack"), Work()) == Damage((), padding=False)


def test_there_is_a_frozen_run_of_each_version() -> None:
    assert [place.name for place in VERSIONS] == [f"v{version}" for version in range(1, CONFIG_VERSION + 1)]


def test_other_files_have_the_versions_that_were_frozen() -> None:
    """A new schema version requires a frozen run and a frozen export."""
    assert (manifest.SCHEMA_VERSION, export.FORMAT_VERSION) == (2, 1)


def test_the_frozen_run_is_as_it_was_written(frozen: Path) -> None:
    (folder,) = (frozen / "run/checkpoints").iterdir()
    assert verify(folder).step == STEPS
    # schema versions of a document increase by one, and this document keeps its own
    assert f"v{json.loads((frozen / 'run/config.json').read_text())['schema_version']}" == frozen.name


def test_it_is_listed_and_shown(place: Path) -> None:
    (listed,) = json.loads(command("list", "--json", folder=place).out)["runs"]
    expected = {"run": "digits", "experiment": "digits", "step": STEPS, "steps": STEPS, "state": "complete"}
    assert listed.items() >= expected.items()
    shown = command("show", "runs/digits", "--origins", folder=place)
    assert shown.code == 0
    assert "experiments/digits.py:" in shown.out


def test_its_export_samples_like_the_run_when_it_was_frozen(frozen: Path, tmp_path: Path) -> None:
    expected = json.loads((frozen / "expected.json").read_text())["grey_levels"]
    result = command("sample", str(frozen / "export"), "--n", str(IMAGES), "--out", "drawn", *CPU, folder=tmp_path)
    assert result.code == 0, result.err
    for image, kept in zip(grey_levels(tmp_path / "drawn"), expected, strict=True):
        assert image == pytest.approx(kept, abs=2)


def test_it_samples_scores_and_trains_on_as_when_it_was_frozen(frozen: Path, place: Path) -> None:
    before = Run(place / "runs/digits").experiment()
    expected: dict[str, Any] = json.loads((frozen / "expected.json").read_text())
    found: dict[str, Any] = expectation(place)

    # rounding differs between processors and torch versions
    assert len(found["grey_levels"]) == IMAGES
    for image, kept in zip(found["grey_levels"], expected["grey_levels"], strict=True):
        assert image == pytest.approx(kept, abs=2)
    assert found["held_out_loss"] == pytest.approx(expected["held_out_loss"], rel=1e-4)
    # equal losses show that network, EMA, optimizer and data order were restored
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-3)
    assert Run(place / "runs/digits").experiment().steps == LONGER
    old, new = ((folder / "metrics.jsonl").read_text() for folder in (frozen / "run", place / "runs/digits"))
    assert new.startswith(old)
    assert all("weights" in json.loads(line) for line in new.removeprefix(old).splitlines())
    assert command("doctor", "digits", folder=place).code == 0
    assert before.steps == STEPS

"""A run of each schema version that there ever was can be shown, sampled, scored and trained on."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ncsnx.config.codec import CONFIG_VERSION
from ncsnx.runs import exported as export
from ncsnx.runs import score_files as scores
from ncsnx.runs.checkpoints import manifest
from ncsnx.runs.checkpoints.manifest import verify
from ncsnx.runs.folder import Run
from tests.cli.command import REPOSITORY
from tests.runs.frozen.__main__ import FROZEN, IMAGES, LONGER, STEPS, expectation, grey_levels
from tests.training.tiny import CPU, command

VERSIONS = sorted(FROZEN.glob("v*"))


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda place: place.name)
def frozen(request: pytest.FixtureRequest) -> Path:
    """The folder of one version."""
    return Path(request.param)


@pytest.fixture
def place(frozen: Path, tmp_path: Path) -> Path:
    """A folder to work in, with a copy of the run in runs/digits."""
    shutil.copytree(frozen / "run", tmp_path / "runs/digits")
    shutil.copytree(REPOSITORY / "experiments", tmp_path / "experiments")
    return tmp_path


def test_there_is_a_frozen_run_of_each_version() -> None:
    assert [place.name for place in VERSIONS] == [f"v{version}" for version in range(1, CONFIG_VERSION + 1)]


def test_other_files_have_the_versions_that_were_frozen() -> None:
    """Who raises one freezes what has it: a run, an exported folder, a sweep."""
    assert (manifest.SCHEMA_VERSION, export.FORMAT_VERSION, scores._SCHEMA_VERSION) == (2, 1, 1)


def test_the_frozen_run_is_as_it_was_written(frozen: Path) -> None:
    (folder,) = (frozen / "run/checkpoints").iterdir()
    assert verify(folder).step == STEPS
    # versions of a file's schema rise one by one, and this one keeps its own
    assert f"v{json.loads((frozen / 'run/config.json').read_text())['schema_version']}" == frozen.name


def test_it_is_listed_and_shown(place: Path) -> None:
    listed = json.loads(command("list", "--json", folder=place).out)["runs"]
    assert listed == [{"run": "digits", "experiment": "digits", "step": STEPS, "steps": STEPS, "state": "complete"}]
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

    # processors and versions of torch differ in rounding
    assert len(found["grey_levels"]) == IMAGES
    for image, kept in zip(found["grey_levels"], expected["grey_levels"], strict=True):
        assert image == pytest.approx(kept, abs=2)
    assert found["held_out_loss"] == pytest.approx(expected["held_out_loss"], rel=1e-4)
    # that the losses go on where they stood says that network, average, optimizer and order of the data were taken up
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-3)
    assert Run(place / "runs/digits").experiment().steps == LONGER
    old, new = ((folder / "metrics.jsonl").read_text() for folder in (frozen / "run", place / "runs/digits"))
    assert new.startswith(old)
    assert all("weights" in json.loads(line) for line in new.removeprefix(old).splitlines())
    assert command("doctor", "digits", folder=place).code == 0
    assert before.steps == STEPS

"""Choices of trackers that are refused before anything is trained or sent."""

from pathlib import Path

import pytest

from ncsnx.tracking.tracker import RegisteredTracker
from tests.training.tiny import command, training


@pytest.mark.parametrize(
    "words", [training("--track=wandv"), ["track", "digits", "--to", "wandv"]], ids=["train", "track"]
)
def test_an_unknown_tracker_is_refused_with_a_near_match(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "runs" / "digits").mkdir(parents=True)
    (tmp_path / "runs" / "digits" / "config.json").write_text("{}")
    result = command(*words, folder=tmp_path)
    assert result.code == 2
    assert "there is no tracker 'wandv'; expected mlflow, trackio or wandb." in result.err
    assert "wandb" in result.err.splitlines()[-1]
    assert {path.name for path in (tmp_path / "runs" / "digits").iterdir()} <= {"config.json", ".lock"}


@pytest.mark.parametrize("tag", ["wandb", "trackio", "mlflow"])
def test_a_package_that_is_missing_is_said_with_how_to_install_it(
    tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RegisteredTracker, "is_installed", property(lambda self: False))
    (tmp_path / tag).mkdir()  # such as ./wandb, which is there once wandb has written something
    result = command(*training(), "--track", tag, folder=tmp_path)
    assert result.code == 2
    assert f"error: {tag} is not installed: the module {tag} is missing." in result.err
    assert f"pip install 'ncsnx[{tag}]'" in result.err
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_a_packages_name_is_not_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_tracker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    found = RegisteredTracker(tag="some", open=None, requires="some_tracker", install=None)  # type: ignore[arg-type]
    assert not found.is_installed
    (tmp_path / "some_tracker" / "__init__.py").touch()
    assert found.is_installed


def test_a_run_without_trackers_says_what_to_type(workplace: Path) -> None:
    result = command("track", "digits", folder=workplace)
    assert result.code == 2
    assert "runs/digits has no record in a tracker." in result.err
    assert "name some:  ncsnx track digits --to TAGS" in result.err
    assert not (workplace / "runs/digits/trackers").exists()


def test_a_resumed_run_continues_without_a_tracker_that_is_not_here(workplace: Path) -> None:
    folder = workplace / "runs" / "digits" / "trackers"
    folder.mkdir()
    (folder / "gone.json").write_text("{}")
    resumed = command(*training(), folder=workplace)
    assert resumed.code == 0
    assert "warning: the training continues without gone: there is no tracker 'gone'" in resumed.err
    refused = command(*training(), "--track", "gone", folder=workplace)
    assert refused.code == 2
    assert "there is no tracker 'gone'" in refused.err

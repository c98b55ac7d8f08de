"""The history of a run records what is needed to repeat each start."""

import os
import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest

from ncsnx.runs.folder import Run
from ncsnx.runs.segments import GitState, append_segment, git_state, read_segments

IDENTITY = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]


def git(folder: Path, *arguments: str) -> str:
    result = subprocess.run(["git", *IDENTITY, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return result.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "file").write_text("1\none\n3\n")
    git(folder, "add", "file")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_a_segment_records_what_a_start_needs_to_be_repeated(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["ncsnx", "train", "small", "--note", "two words"])
    append_segment(run, from_step=0, runtime={"device": "cpu", "threads": 2}, changes={}, note="two words")
    append_segment(run, from_step=50, runtime={"device": "cpu", "threads": 1}, changes={"steps": [100, 200]})
    first, second = read_segments(run)
    assert first.command == "ncsnx train small --note 'two words'"
    assert first.note == "two words"
    assert first.runtime == {"device": "cpu", "threads": 2}
    assert first.versions["torch"] == version("torch")
    assert (first.pid, first.host) == (os.getpid(), socket.gethostname())
    assert timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(first.started) < timedelta(minutes=1)
    assert (second.from_step, second.changes) == (50, {"steps": [100, 200]})


def test_arguments_that_are_no_text_do_not_stop_a_start(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["ncsnx", os.fsdecode(b"na\xefve"), "σ\n"])
    append_segment(run, from_step=0, runtime={}, changes={})
    assert run.segments_path.read_bytes().count(b"\n") == 1
    (segment,) = read_segments(run)
    assert segment.command == "ncsnx 'na\\xefve' 'σ\n'"


def test_the_commit_and_changes_to_tracked_files_are_seen(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "untracked").write_text("")
    assert git_state(repository) == GitState(commit=commit, dirty=False)
    (repository / "file").write_text("two")
    assert git_state(repository) == GitState(commit=commit, dirty=True)


def test_without_a_repository_or_a_commit_there_is_no_git_state(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) is None


def test_a_git_that_hangs_or_is_missing_is_not_waited_for(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = repository / "git"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{repository}{os.pathsep}{os.environ['PATH']}")
    begun = time.monotonic()
    assert git_state(repository) is None
    assert time.monotonic() - begun < 10
    program.unlink()
    monkeypatch.setenv("PATH", str(repository))
    assert git_state(repository) is None

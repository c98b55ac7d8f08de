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
from ncsnx.runs.segments import MOST_PATCH_BYTES, GitState, append_segment, git_state, read_segments

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


def recorded(run: Run, folder: Path, patch: str = "1") -> GitState:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("NCSNX_PATCH", patch)
        append_segment(run, from_step=0, runtime={}, changes={}, source=folder)
    state = read_segments(run)[-1].git
    assert state is not None
    return state


def test_a_patch_restores_staged_and_unstaged_changes_of_text_and_bytes_whatever_a_person_has_set_for_git(
    run: Run, repository: Path, tmp_path: Path
) -> None:
    for setting in ("diff.context 0", "diff.noprefix true", "diff.relative true", "color.ui always", "diff.external /"):
        git(repository, "config", *setting.split())
    inner = repository / "inner"
    inner.mkdir()
    (inner / "binary").write_bytes(bytes(range(256)))
    git(repository, "add", "inner/binary")
    (repository / "file").write_text("1\ntwo\n3\n")
    state = recorded(run, inner)
    assert state.patch is not None
    git(tmp_path, "clone", "-q", str(repository), "copy")
    git(tmp_path / "copy", "apply", str(run.patches / state.patch))
    assert (tmp_path / "copy" / "file").read_text() == "1\ntwo\n3\n"
    assert (tmp_path / "copy" / "inner" / "binary").read_bytes() == bytes(range(256))
    (repository / "file").write_text("three")
    other = recorded(run, inner)
    assert other.patch is not None
    assert sorted(path.name for path in run.patches.iterdir()) == sorted([state.patch, other.patch])


def test_a_large_patch_and_one_that_is_not_wanted_are_left_out(run: Run, repository: Path) -> None:
    (repository / "file").write_bytes(os.urandom(2 * MOST_PATCH_BYTES))
    assert recorded(run, repository).patch is None
    (repository / "file").write_text("two")
    state = recorded(run, repository, patch="0")
    assert (state.dirty, state.patch) == (True, None)
    assert not run.patches.exists()


def test_a_patch_that_cannot_be_written_stops_no_start(run: Run, repository: Path) -> None:
    (repository / "file").write_text("changed\n")
    run.patches.write_text("in the way")
    assert recorded(run, repository).patch is None

"""Locks, removals and reads on file systems that several machines share.

Errors come from the lowest calls, and mounts from a table that says so: no such file system is at hand in the tests.
"""

import errno
import fcntl
import json
import os
import socket
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncsnx.config import Experiment
from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.writer_lock import HOLDER, LOCK, writer_lock, writer_of
from ncsnx.storage import atomic
from ncsnx.storage.cache import cache_lock
from ncsnx.work import SILENT

StartPython = Callable[..., "subprocess.Popen[str]"]
JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")
HOLD = """
import sys
from pathlib import Path
from ncsnx.runs.folder import Run
from ncsnx.runs.writer_lock import writer_lock
from ncsnx.storage.locks import mounts
mounts.MOUNT_TABLE = Path(sys.argv[2])
with writer_lock(Run(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of mounts by which locks hold on one machine only."""
    table = tmp_path / "mounts"
    table.write_text("27 1 0:40 / / rw - nfs4 nas:/home rw,vers=4.2,local_lock=all\n")
    monkeypatch.setattr("ncsnx.storage.locks.mounts.MOUNT_TABLE", table)
    return table


def note_of(run: Run, **changes: Any) -> None:
    """Leaves a holder's note, by default of another machine."""
    values = {"started": "2026-01-01T00:00:00+00:00", "command": "ncsnx train", "pid": 7, "host": "node9"}
    (run.path / HOLDER).write_text(json.dumps({**values, "schema_version": 1, "job": "Slurm job 12", **changes}))


@pytest.mark.parametrize(("variable", "job"), [*zip(JOBS, ("Slurm job 77", "PBS job 77", "LSF job 77"), strict=True)])
def test_a_refusal_names_host_process_and_batch_job(
    run: Run, monkeypatch: pytest.MonkeyPatch, variable: str, job: str
) -> None:
    for name in JOBS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "77")
    who = rf"process {os.getpid()} on {socket.gethostname()} \({job}, "
    with writer_lock(run), pytest.raises(NcsnxError, match=who), writer_lock(run):
        pass


def test_a_note_without_a_job_is_still_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in JOBS:
        monkeypatch.delenv(name, raising=False)
    with writer_lock(run):
        note = {"started": "then", "command": "ncsnx train", "pid": 7, "host": "node9", "job": None}
        (run.path / HOLDER).write_text(json.dumps(note))
        assert writer_of(run.path) == "process 7 on node9 (ncsnx train, since then)"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_one_clear_error(run: Run, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    for locked in (writer_lock(run), cache_lock(run.path / "cache", "it", SILENT)):
        with warnings.catch_warnings(), pytest.raises(NcsnxError, match="has no flock") as caught, locked:
            warnings.simplefilter("error")  # filelock's own would fall back
        assert os.strerror(code) in str(caught.value)
        assert "Lustre with the option flock" in str(caught.value)
    assert not (run.path / HOLDER).exists()


def test_no_run_is_begun_there(tmp_path: Path, experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(NcsnxError, match=f"{tmp_path / 'runs' / 'new'} cannot be locked"):
        Run.create(tmp_path / "runs", "new", experiment, {}, None, None)
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.usefixtures("one_machine")
def test_a_lock_of_one_machine_is_warned_of(run: Run) -> None:
    said: list[str] = []
    with writer_lock(run, said.append):
        assert json.loads((run.path / HOLDER).read_text())["pid"] == os.getpid()
    assert len(said) == 1
    assert "is mounted so (nfs4 local_lock=all) that locks hold on one machine only" in said[0]
    assert not (run.path / HOLDER).exists()


def test_a_lock_of_all_machines_is_not_warned_of(run: Run) -> None:
    said: list[str] = []
    note_of(run)
    with writer_lock(run, said.append):
        assert json.loads((run.path / HOLDER).read_text())["host"] == socket.gethostname()
    assert said == []


@pytest.mark.usefixtures("one_machine")
def test_there_a_note_of_another_machine_refuses_and_says_what_to_type(run: Run) -> None:
    note_of(run)
    before = (run.path / HOLDER).read_bytes()
    with (
        pytest.raises(NcsnxError, match=r"process 7 on node9 \(Slurm job 12, ncsnx train, ") as caught,
        writer_lock(run),
    ):
        pass
    (hint,) = caught.value.hints
    assert (hint.label, hint.command) == ("if that process has ended", f"rm {run.path / HOLDER}")
    assert (run.path / HOLDER).read_bytes() == before
    assert "process 7 on node9" in (writer_of(run.path) or "")
    subprocess.run(["sh", "-c", hint.command], check=True)
    with writer_lock(run):
        pass


@pytest.mark.usefixtures("one_machine")
def test_there_a_damaged_note_refuses_too(run: Run) -> None:
    (run.path / HOLDER).write_text("{")
    with pytest.raises(NcsnxError, match="does not say which"), writer_lock(run):
        pass


def test_there_a_killed_holder_of_this_machine_does_not_refuse(
    run: Run, one_machine: Path, start_python: StartPython
) -> None:
    process = start_python(HOLD, run.path, one_machine)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(NcsnxError, match=f"process {process.pid} "), writer_lock(run):
        pass
    process.kill()
    process.wait()
    assert (run.path / HOLDER).exists()
    with writer_lock(run):
        assert json.loads((run.path / HOLDER).read_text())["pid"] == os.getpid()


@pytest.mark.usefixtures("one_machine")
def test_there_the_note_of_a_machine_that_took_over_stays(run: Run) -> None:
    with writer_lock(run):
        note_of(run)  # somebody removed the note, and another machine began
    assert json.loads((run.path / HOLDER).read_text())["host"] == "node9"
    assert (run.path / LOCK).exists()


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_folders_that_cannot_be_synced_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir():
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    atomic.write_bytes(tmp_path / "file", b"content")
    with atomic.new_folder(tmp_path / "folder"):
        pass
    atomic.append_line(tmp_path / "lines", "line")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_files_that_cannot_be_synced_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(NcsnxError, match="Input/output error"):
        atomic.write_bytes(tmp_path / "file", b"content")
    assert list(tmp_path.iterdir()) == []


def test_a_tree_that_cannot_be_removed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()

    def rmdir(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "rmdir", rmdir)
    with pytest.raises(PermissionError):
        atomic.remove_tree(tmp_path / "folder")

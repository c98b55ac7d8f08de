"""One writer at a time."""

import json
import os
import socket
import time

import pytest

from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.writer_lock import HOLDER, LOCK, writer_lock, writer_of
from tests.conftest import StartPython

HOLD = """
import os, sys, time
from pathlib import Path
from ncsnx.runs.folder import Run
from ncsnx.runs.writer_lock import HOLDER, writer_lock
with writer_lock(Run(Path(sys.argv[1]))):
    {then}
    print("held", flush=True)
    sys.stdin.readline()
"""
LIMIT_S = 2.0


def held_by_another(run: Run, start_python: StartPython, then: str = "pass") -> int:
    process = start_python(HOLD.format(then=then), run.path)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process.pid


def test_a_second_writer_is_refused_soon_and_told_who_writes(run: Run, start_python: StartPython) -> None:
    pid = held_by_another(run, start_python)
    begun = time.monotonic()
    with pytest.raises(NcsnxError) as caught, writer_lock(run):
        pass
    assert time.monotonic() - begun < LIMIT_S
    assert f"process {pid} on {socket.gethostname()}" in str(caught.value)
    assert str(caught.value).isprintable()


def test_the_lock_is_free_at_once_when_its_holder_is_killed(run: Run, start_python: StartPython) -> None:
    pid = held_by_another(run, start_python)
    os.kill(pid, 9)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert json.loads((run.path / HOLDER).read_bytes())["pid"] == pid
    begun = time.monotonic()
    with writer_lock(run):
        assert time.monotonic() - begun < LIMIT_S
        assert json.loads((run.path / HOLDER).read_bytes())["pid"] == os.getpid()
    assert not (run.path / HOLDER).exists()


def test_workers_forked_by_a_killed_holder_do_not_keep_the_lock(run: Run, start_python: StartPython) -> None:
    fork = "os.fork() or (os.close(1), os.close(2), time.sleep(4), os._exit(0))"
    pid = held_by_another(run, start_python, fork)
    os.kill(pid, 9)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with writer_lock(run):
        pass


def test_who_looks_for_a_writer_sees_it_and_leaves_nothing(run: Run, start_python: StartPython) -> None:
    before = sorted(path.name for path in run.path.iterdir())
    assert writer_of(run.path) is None
    assert sorted(path.name for path in run.path.iterdir()) == before, "not even the lock's file"
    pid = held_by_another(run, start_python)
    assert f"process {pid} on" in (writer_of(run.path) or "")
    os.kill(pid, 9)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert writer_of(run.path) is None, "a killed one holds nothing, whatever its note says"


def test_a_writer_starts_while_others_look(run: Run, start_python: StartPython) -> None:
    look = """
import sys, time
from pathlib import Path
from ncsnx.runs.writer_lock import LOCK, writer_of
folder = Path(sys.argv[1])
print("looking", flush=True)
while not (folder / "enough").exists():
    writer_of(folder)
    time.sleep(0.001)
"""
    (run.path / LOCK).touch()
    process = start_python(look, run.path)
    assert process.stdout is not None
    assert process.stdout.readline() == "looking\n"
    for _ in range(20):
        with pytest.raises(ZeroDivisionError), writer_lock(run):
            raise ZeroDivisionError
    (run.path / "enough").touch()
    assert process.wait(LIMIT_S * 5) == 0


@pytest.mark.parametrize("note", [b'{"pid": 1}', b"\xff"])
def test_a_damaged_note_still_gives_a_clear_refusal(run: Run, note: bytes) -> None:
    with writer_lock(run):
        (run.path / HOLDER).write_bytes(note)
        with pytest.raises(NcsnxError, match="being written by another process"), writer_lock(run):
            pass


def test_a_refusal_names_host_process_and_batch_job(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    systems = {"SLURM_JOB_ID": "Slurm", "PBS_JOBID": "PBS", "LSB_JOBID": "LSF"}
    for variable, system in systems.items():
        for name in systems:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(variable, "77")
        who = rf"process {os.getpid()} on {socket.gethostname()} \({system} job 77, "
        with writer_lock(run), pytest.raises(NcsnxError, match=who), writer_lock(run):
            pass

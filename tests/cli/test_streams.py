"""Standard streams that are closed, full, or no longer read: a run continues, and nothing prints a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import checkpoints, verify
from ncsnx.runs.names import step_name
from tests.cli.command import REPOSITORY
from tests.training.tiny import training

NCSNX = f'"{sys.executable}" -m ncsnx'
RUN = " ".join(training())


def bash(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """The end of a pipeline of NCSNX, whose exit code is that of its first part."""
    return subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", ["--help", "--version", "train --help", "list", "show digits --json"])
def test_what_a_full_disk_doesnt_take_is_one_line(words: str, tmp_path: Path) -> None:
    done = bash(f"{NCSNX} {words} >/dev/full", tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.startswith("error: cannot write to standard output (No space left on device)")


@pytest.mark.parametrize("words", ["train --help", "list", "no-such-command"])
@pytest.mark.parametrize("pipe", ["| true", "2>&1 | true", ">&-", "2>&-"])
def test_no_stream_that_is_closed_gives_a_traceback(words: str, pipe: str, tmp_path: Path) -> None:
    assert "Traceback" not in bash(f"{NCSNX} {words} {pipe}", tmp_path).stderr


@pytest.mark.slow
@pytest.mark.parametrize("pipe", ["2>&1 | head -1", ">&- 2>&- <&-"])
def test_a_run_outlives_who_reads_its_output(pipe: str, tmp_path: Path) -> None:
    done = bash(f"{NCSNX} {RUN} {pipe}", tmp_path)
    run = Run(tmp_path / "runs/digits")
    assert done.returncode == 0
    assert "Traceback" not in done.stdout + done.stderr + run.log_path.read_text()
    assert checkpoints(run) == [4, 8, 12]
    for step in checkpoints(run):
        verify(run.checkpoints / step_name(step))
    assert "finished at step 12/12" in run.log_path.read_text()


# a file that is open while native code writes to number 2, whatever that is
WRITES = """
import os, sys
from ncsnx.cli import main
sys.argv = ["ncsnx", "--version"]
try:
    main()
finally:
    with open("weights", "w") as file:
        os.write(2, b"a warning of native code")
"""


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", ">&- 2>&- <&-"])
def test_what_is_said_to_a_closed_standard_error_ends_up_in_no_file(closed: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(WRITES)
    bash(f'"{sys.executable}" program.py {closed}', tmp_path)
    assert (tmp_path / "weights").read_text() == ""

"""Processes: standard streams that are closed or full, signals at any time, and memory that is kept."""

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.command import run_process
from tests.forked import REPOSITORY, fork
from tests.training.tiny import wait_until

NCSNX = f'"{sys.executable}" -m ncsnx'


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
@pytest.mark.parametrize("words", ["--help", "show digits --json"])
def test_what_a_full_disk_doesnt_take_is_one_line(words: str, tmp_path: Path) -> None:
    done = bash(f"{NCSNX} {words} >/dev/full", tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.startswith("error: cannot write to standard output (No space left on device)")


@pytest.mark.parametrize("words", ["list | true", "list >&-", "no-such-command 2>&1 | true", "no-such-command 2>&-"])
def test_no_stream_that_is_closed_gives_a_traceback(words: str, tmp_path: Path) -> None:
    assert "Traceback" not in bash(f"{NCSNX} {words}", tmp_path).stderr


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


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&- <&-"])
def test_what_is_said_to_a_closed_standard_error_ends_up_in_no_file(closed: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(WRITES)
    bash(f'"{sys.executable}" program.py {closed}', tmp_path)
    assert (tmp_path / "weights").read_text() == ""


ENTRIES = {
    "console script": "from ncsnx.cli import main\nmain()",
    "python -m ncsnx": "import runpy\nrunpy.run_module('ncsnx', run_name='__main__', alter_sys=True)",
}

INTERRUPTED = """
import os, signal, sys
class Strike:
    def find_spec(self, name, path=None, target=None):
        if name in self.left:
            self.left.remove(name)
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):  # the handler runs between two of Python's instructions
                pass
        return None
    left = [sys.argv[1]]
sys.meta_path.insert(0, Strike())
sys.argv = ["ncsnx", "show", "digits"]
"""


def test_a_signal_while_torch_is_imported_ends_the_process_where_its_cpp_would_abort(tmp_path: Path) -> None:
    strike = (
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGTERM)\nexcept BaseException:\n    os.abort()\n"
    )
    (tmp_path / "torch.py").write_text(strike)
    assert run_process(tmp_path, "train", "digits", python_path=(tmp_path,)).code == -signal.SIGTERM


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def ended(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Python after it ran `code`."""
    words = [sys.executable, "-c", code, *arguments]
    return subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("entry", "module"), [("console script", "ncsnx.cli.application"), ("python -m ncsnx", "ncsnx.commands.show")]
)
def test_ctrl_c_while_modules_are_imported_ends_without_a_word(entry: str, module: str) -> None:
    result = ended(INTERRUPTED + ENTRIES[entry], module)
    assert (result.returncode, result.stdout, result.stderr) == (-signal.SIGINT, "", ""), "a shell shows 130"


def test_ctrl_c_that_a_script_ignores_stays_ignored_while_modules_are_imported() -> None:
    ignored = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    result = ended(ignored + INTERRUPTED + ENTRIES["console script"], "typer")
    assert (result.returncode, result.stderr) == (0, "")


def test_nothing_but_ncsnx_itself_is_imported_before_ctrl_c_is_heeded() -> None:
    code = "import sys; before = set(sys.modules); import ncsnx.cli; print(*sorted(set(sys.modules) - before))"
    assert ended(code).stdout.split() == ["ncsnx", "ncsnx.cli", "ncsnx.version"]


def stopped(folder: Path, *words: str, at: Callable[[], object]) -> str:
    """The command's last line when SIGTERM comes at that moment."""
    with fork(*words, folder=folder) as process:
        wait_until(lambda: bool(at()), process, poll_s=0.02)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + signal.SIGTERM, ""), err
    assert "Traceback" not in err
    last = str(err.splitlines()[-1])
    assert last.startswith("stopped by SIGTERM")
    return last


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 2,000 pictures in many/, and a cache of its own."""
    folder = tmp_path / "many"
    folder.mkdir()
    values = np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3), dtype=np.uint8)
    for number, pixels in enumerate(values):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    for number in range(10, 2_000):
        (folder / f"{number}.png").hardlink_to(folder / f"{number % 10}.png")
    monkeypatch.setenv("NCSNX_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_training_that_has_not_begun_says_so(pictures: Path) -> None:
    words = ("train", "digits", "data=images", "data.root=many", "data.image_size=8", "data.channels=1")
    last = stopped(pictures, *words, at=lambda: list(pictures.glob("cache/scans/*/.lock")))
    assert last == "stopped by SIGTERM; no step was trained; repeat the command to train"
    assert not (pictures / "runs").exists()


_FAULTS = """
import resource, sys
from ncsnx.cli import main

sys.argv = ["ncsnx", "--version"]
try:
    main()
except SystemExit:
    pass
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = b"x" * (64 << 20)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is meant")
def test_memory_that_was_freed_is_used_again_without_asking_the_system() -> None:
    assert int(ended(_FAULTS).stdout.split()[-1]) < 100, "pages for a block as large as one that was freed"

"""Ctrl-C while Python imports modules, before a command begins: the end, without a traceback."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.cli.command import REPOSITORY

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


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def ended(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Python after it ran `code`."""
    words = [sys.executable, "-c", code, *arguments]
    return subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("module", ["ncsnx.cli.application", "ncsnx.commands.show"])
def test_ctrl_c_while_modules_are_imported_ends_without_a_word(entry: str, module: str) -> None:
    result = ended(INTERRUPTED + ENTRIES[entry], module)
    assert (result.returncode, result.stdout, result.stderr) == (-signal.SIGINT, "", ""), "a shell shows 130"


def test_nothing_but_ncsnx_itself_is_imported_before_ctrl_c_is_heeded() -> None:
    code = "import sys; before = set(sys.modules); import ncsnx.cli; print(*sorted(set(sys.modules) - before))"
    assert ended(code).stdout.split() == ["ncsnx", "ncsnx.cli", "ncsnx.version"]


# tells when Ctrl-C is heeded: what comes before is Python's own start
TELLS = """
import _signal, os, sys
sys.argv = ["ncsnx", "show", "digits"]
plain = _signal.signal
def telling(*given):
    _signal.signal = plain
    before = plain(*given)
    os.write(1, b"begun\\n")
    return before
_signal.signal = telling
"""


def test_ctrl_c_at_any_moment_prints_no_traceback() -> None:
    problems = []
    for delay_s in (0.0, 0.05, 0.1, 0.2, 0.35):
        words = [sys.executable, "-c", TELLS + ENTRIES["console script"]]
        with subprocess.Popen(
            words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            time.sleep(delay_s)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        if process.returncode not in (0, 130, -signal.SIGINT) or len(err.splitlines()) > 1:
            problems.append((delay_s, process.returncode, err))
    assert problems == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_is_ignored_when_the_process_starts_stays_ignored_while_modules_are_imported(
    number: signal.Signals,
) -> None:
    struck = INTERRUPTED.replace("signal.SIGINT", f"signal.{number.name}")
    ignored = f"import signal\nsignal.signal(signal.{number.name}, signal.SIG_IGN)\n"
    result = ended(ignored + struck + ENTRIES["console script"], "typer")
    assert (result.returncode, result.stderr) == (0, "")
    assert "digits" in result.stdout

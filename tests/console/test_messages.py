"""Messages: destinations, escaping, and behavior when the reader is gone."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ncsnx.console.messages import Messages, Verbosity
from ncsnx.errors import printable

from .programs import LIMIT_S, environment, on_terminal, piped

HOSTILE = r"[red]x[/red] \x1b[31mred\x1b[0m \x9b2J \r \u202e :smile: [link=file:///etc]y[/link]"
INERT = r"[red]x[/red] \x1b[31mred\x1b[0m \x9b2J \r \u202e :smile: [link=file:///etc]y[/link]"

SAY_ALL = """
from ncsnx.console.messages import Messages, Verbosity
messages = Messages(Verbosity.{verbosity})
for level in ("detail", "info", "warning", "error"):
    getattr(messages, level)("a " + level)
"""


@pytest.mark.parametrize(
    ("verbosity", "lines"),
    [
        ("QUIET", ["error: a error"]),
        ("NORMAL", ["a info", "warning: a warning", "error: a error"]),
        ("VERBOSE", ["a detail", "a info", "warning: a warning", "error: a error"]),
    ],
)
def test_verbosity_chooses_what_is_shown_and_all_of_it_is_on_stderr(verbosity: str, lines: list[str]) -> None:
    done = piped(SAY_ALL.format(verbosity=verbosity))
    assert (done.stdout, done.stderr.splitlines()) == ("", lines)


HOSTILE_PROGRAM = f"""
from ncsnx.console.messages import Messages
messages = Messages()
messages.info("run {HOSTILE}")
"""


def test_markup_and_escape_sequences_in_names_stay_inert() -> None:
    assert piped(HOSTILE_PROGRAM).stderr == f"run {INERT}\n"
    assert on_terminal(HOSTILE_PROGRAM).text == f"run {INERT}\r\n"


def test_a_long_message_on_a_terminal_is_not_broken_into_lines() -> None:
    program = "from ncsnx.console.messages import Messages; Messages().info('path/' * 60)"
    assert on_terminal(program).text == "path/" * 60 + "\r\n"


def test_a_line_break_in_a_name_cannot_start_a_message_of_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    program = f"""
from pathlib import Path
from ncsnx.console.messages import Messages
Messages(log_file=Path({str(log)!r})).info("no run x\\nerror: all is lost")
"""
    assert piped(program).stderr == "no run x\n  error: all is lost\n"
    assert log.read_text().splitlines()[1] == "  error: all is lost"


def test_printable_shows_what_shows_nothing_and_leaves_any_script_alone() -> None:
    for unseen in ("\x1b", "\u202e", "\u2063", "\ufff9", "\U000e0041", "\udcff"):
        assert printable(f"run{unseen}") == f"run{unseen.encode('unicode_escape').decode()}"
    assert printable("σ₁ = 50, ñandú, 画像, 🔬, [bold]") == "σ₁ = 50, ñandú, 画像, 🔬, [bold]"


def test_the_log_gets_every_message_even_when_quiet(tmp_path: Path) -> None:
    messages = Messages(Verbosity.QUIET, tmp_path / "log.txt")
    for level in ("detail", "info", "warning", "error"):
        getattr(messages, level)(f"a {level}")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split(maxsplit=2)[1:] for line in lines] == [
        [level, f"a {level}"] for level in ("detail", "info", "warning", "error")
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line.split()[0]) for line in lines)


def test_a_log_attached_later_gets_the_earlier_messages_too_and_keeps_what_it_held(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("of an earlier start\n")
    messages = Messages(Verbosity.QUIET)
    messages.info("before")
    messages.attach(log)
    messages.info("after")
    first, *others = log.read_text().splitlines()
    assert first == "of an earlier start"
    assert [line.split(maxsplit=2)[2] for line in others] == ["before", "after"]


def test_a_log_that_cannot_be_written_is_reported_once_and_stops_nothing(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from ncsnx.console.messages import Messages
messages = Messages(log_file=Path({str(tmp_path / "missing" / "log.txt")!r}))
messages.info("one")
messages.info("two")
"""
    warning, *others = piped(program).stderr.splitlines()
    assert re.fullmatch(r"warning: cannot write .*log\.txt \([0-9]+ bytes\): No such file or directory; .*", warning)
    assert others == ["one", "two"]


def test_data_in_a_pipe_has_its_controls_visible_too() -> None:
    """A pipe may end at a terminal."""
    program = r"from ncsnx.console.messages import Messages; Messages().data('a\t\x1b[31m[red]é')"
    assert piped(program).stdout == "a\t\\x1b[31m[red]é\n"


JSON_PROGRAM = r"""
from ncsnx.console.messages import Messages
value = {"z": "é\x9b\u202e\udcff\n", "a": [1, 2.5, None, float("nan"), (float("inf"), True)]}
Messages().json(value)
"""


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_json_keeps_its_order_and_can_be_read_whatever_the_locale(encoding: str) -> None:
    text = piped(JSON_PROGRAM, PYTHONIOENCODING=encoding).stdout
    read = json.loads(text)
    assert list(read) == ["z", "a"]
    assert read == {"z": "é\x9b\u202e\udcff\n", "a": [1, 2.5, None, None, [None, True]]}
    assert text.isascii()


def _in_bash(command: str, program: Path) -> subprocess.CompletedProcess[str]:
    """Runs a pipeline whose first part is "$PYTHON" "$PROGRAM"; prints the exit code of that part."""
    return subprocess.run(
        ["bash", "-c", f'{command}; echo "exit ${{PIPESTATUS[0]}}"'],
        capture_output=True,
        encoding="utf-8",
        env=environment({"PYTHON": sys.executable, "PROGRAM": str(program)}),
        timeout=LIMIT_S,
        check=False,
    )


def test_a_closed_stdout_gives_no_traceback(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("""
from ncsnx.console.messages import Messages
from ncsnx.console.tables import table
from ncsnx.results import Column
messages = Messages()
for line in range(20_000):
    messages.data(f"line {line}")
messages.json(list(range(20_000)))
table(messages, [Column("a")], [["b"]] * 20_000)
""")
    done = _in_bash('"$PYTHON" "$PROGRAM" | head -1', program)
    assert (done.stdout, done.stderr) == ("line 0\nexit 0\n", "")


def test_a_closed_stderr_ends_neither_the_work_nor_the_log(tmp_path: Path) -> None:
    program, log = tmp_path / "program.py", tmp_path / "log.txt"
    program.write_text(f"""
from pathlib import Path
from ncsnx.console.messages import Messages
messages = Messages(log_file=Path({str(log)!r}))
for line in range(3_000):
    messages.info(f"line {{line}} " + "x" * 100)
""")
    done = _in_bash('"$PYTHON" "$PROGRAM" 2>&1 | head -1', program)
    assert done.stdout == "line 0 " + "x" * 100 + "\nexit 0\n"
    assert done.stderr == ""
    assert len(log.read_text().splitlines()) == 3_000


def test_a_run_outlives_the_terminal_it_was_started_from(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    program = f"""
import signal, time
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from pathlib import Path
from ncsnx.console.messages import Messages
from ncsnx.console.training import TrainingView
messages = Messages(log_file=Path({str(log)!r}))
with TrainingView(messages, total_steps=10, start_step=0, batch_size=1) as view:
    view.phase("training")
    time.sleep(1.5)
    messages.info("said to nobody")
    view.finish()
"""
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment({}),
        start_new_session=True,
    )
    os.close(terminal)
    os.read(master, 1)
    os.close(master)
    assert process.wait(timeout=LIMIT_S) == 0
    assert "finished at step 0/10" in log.read_text()

"""Real shells complete what is typed after `ncsnx`, and execute nothing that a run or a file contains."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ncsnx.cli.completion import _NAMES, completion_of
from ncsnx.commands.command import Declaration
from ncsnx.inverse.rules.contract import AUTO, rules
from ncsnx.runs.folder import Run
from tests.config.examples import minimal, write_file
from tests.forked import REPOSITORY
from tests.spaces import space_of

LINES = {
    "ncsnx train own model.wi": "ncsnx train own model.width=",
    "ncsnx train own optimizer=sg": "ncsnx train own optimizer=sgd",
    "ncsnx sample first --ckpt 5": "ncsnx sample first --ckpt 500 ",
    "ncsnx compare first --samplers cas,he": "ncsnx compare first --samplers cas,heun ",
}
"""Text before Tab → the beginning of the line afterwards."""
SETUP = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "bind 'set bell-style none'; source ./script"),
    "zsh": (["zsh", "-f", "-i"], "autoload -Uz compinit; compinit -u -D; unsetopt beep; source ./script"),
}
KILL_LINE = "\x15"


@pytest.fixture
def place(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an experiment, a run with a checkpoint, hostile names, and `ncsnx` on the path."""
    write_file(here / "experiments" / "own.py")
    (here / "experiments" / "trap.py").write_text("open('executed', 'w')\nprint('printed')\n1 / 0\n")
    made = Run.create(here / "runs", "first", minimal(), {}, None, "f" * 64, space_of(minimal().data))
    (made.checkpoints / "step-00000500").mkdir(parents=True)
    for name in ("$(touch executed)", "first; touch executed", "fir\nst", "`touch executed`"):
        shutil.copytree(made.path, here / "runs" / name)
    program = here / "bin" / "ncsnx"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom ncsnx.cli import main\nsys.exit(main())\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    return here


def until(terminal: int, expected: str, limit_s: float = 15) -> str:
    text, end = "", time.monotonic() + limit_s
    while expected not in text and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            text += os.read(terminal, 4096).decode("utf-8", "replace")
    return text


@pytest.mark.parametrize("shell", SETUP)
def test_a_shell_on_a_terminal_completes(shell: str, place: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    asked = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", **os.environ}
    with (place / "script").open("w") as script:
        subprocess.run(["ncsnx", "--show-completion", shell], env=asked, stdout=script, check=True)
    words, setup = SETUP[shell]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update({"TERM": "dumb", "PS1": "> ", "COLUMNS": "200", "HOME": str(place)})
        os.execvp(words[0], words)
    try:
        os.write(terminal, f"{setup}; echo rea''dy\n".encode())
        until(terminal, "ready")
        time.sleep(0.2)
        for line, completed in LINES.items():
            os.write(terminal, f"{line}\t".encode())
            assert completed.rstrip() in until(terminal, completed.rstrip())
            os.write(terminal, KILL_LINE.encode())
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)
    assert not (place / "executed").exists()


def test_a_command_is_offered_the_fields_that_it_takes() -> None:
    def offered(*roots: str) -> set[str]:
        complete = completion_of(Declaration(complete="field", roots=roots))
        assert complete is not None
        return {word.partition("=")[0].partition(".")[0] for word, _ in complete("")}

    for roots in (("data",), ("sampler", "features")):
        assert offered(*roots) == set(roots)
    assert {"data", "model", "sampler", "steps"} <= offered()
    assert "features" not in offered()


def test_every_closed_set_of_names_is_offered() -> None:
    offered = {kind: set(names()) for kind, names in _NAMES.items()}
    assert offered["rule"] == {AUTO, *rules()}
    known = {"column": "score", "device": "cuda", "features": "inception", "metrics": "all", "trackers": "mlflow"}
    assert all(name in offered[kind] for kind, name in known.items())


def test_names_that_mean_something_to_a_shell_are_not_offered(place: Path) -> None:
    asked = {**os.environ, "_NCSNX_COMPLETE": "complete_bash", "COMP_WORDS": "ncsnx sample ", "COMP_CWORD": "2"}
    answer = subprocess.run(["ncsnx"], cwd=place, env=asked, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["first"]
    assert not (place / "executed").exists()

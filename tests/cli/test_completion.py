"""Real shells complete what is typed after `ncsnx`, quickly, and execute nothing that a run or a file contains."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ncsnx.cli.completion.shell_scripts import SCRIPTS
from ncsnx.runs.folder import Run
from tests.cli.command import REPOSITORY, run
from tests.config.examples import minimal, write_file

LINES = {
    "ncsnx compl": "ncsnx completion ",
    "ncsnx train own mod": "ncsnx train own model",
    "ncsnx train own model.wi": "ncsnx train own model.width=",
    "ncsnx train own model=ncsn optimizer=sg": "ncsnx train own model=ncsn optimizer=sgd",
    "ncsnx sample fir": "ncsnx sample first ",
    "ncsnx sample first --ckpt 5": "ncsnx sample first --ckpt 500 ",
    "ncsnx sample first --ck": "ncsnx sample first --ckpt ",
    "ncsnx fid first --range 500:": "ncsnx fid first --range 500:500 ",
    "ncsnx sample first sampler=eul": "ncsnx sample first sampler=euler-ancestral ",
}
"""Text before Tab → the beginning of the line afterwards."""


@pytest.fixture
def place(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an experiment, a run with a checkpoint, hostile names, and `ncsnx` on the path."""
    write_file(here / "experiments" / "own.py")
    (here / "experiments" / "trap.py").write_text("open('executed', 'w')\nprint('printed')\n1 / 0\n")
    made = Run.create(here / "runs", "first", minimal(), {}, None, "f" * 64)
    (made.checkpoints / "step-00000500").mkdir(parents=True)
    for name in ("$(touch executed)", "first; touch executed", "fir\nst", "`touch executed`"):
        shutil.copytree(made.path, here / "runs" / name)
    program = here / "bin" / "ncsnx"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom ncsnx.cli import main\nsys.exit(main())\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    for shell, script in SCRIPTS.items():
        (here / f"script.{shell}").write_text(script)
    asked(here, "")
    return here


def asked(folder: Path, *words: str) -> list[str]:
    program = [sys.executable, "-m", "ncsnx", "__complete", "zsh", *words]
    answer = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    assert answer.stderr == ""
    return [line.partition("\t")[0] for line in answer.stdout.splitlines()]


def typed(shell: list[str], setup: str, line: str, expected: str, folder: Path) -> str:
    """The output of a shell on a terminal after `line` and Tab, as soon as it has `expected`."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ.update({"TERM": "dumb", "PS1": "> ", "COLUMNS": "200", "HOME": str(folder)})
        os.execvp(shell[0], shell)
    try:
        os.write(terminal, f"{setup}; echo rea''dy\n".encode())
        until(terminal, "ready")
        time.sleep(0.2)
        os.write(terminal, f"{line}\t".encode())
        return until(terminal, expected)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)


def until(terminal: int, expected: str, limit_s: float = 15) -> str:
    text, end = "", time.monotonic() + limit_s
    while expected not in text and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            text += os.read(terminal, 4096).decode("utf-8", "replace")
    return text


SETUP = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "bind 'set bell-style none'; source ./script.bash"),
    "zsh": (["zsh", "-f", "-i"], "autoload -Uz compinit; compinit -u -D; unsetopt beep; source ./script.zsh"),
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("shell", SETUP)
def test_a_shell_on_a_terminal_completes(shell: str, line: str, place: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    shown = typed(*SETUP[shell], line, LINES[line].rstrip(), place)
    assert LINES[line].rstrip() in shown
    assert not (place / "executed").exists()


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize("line", LINES)
def test_fish_completes(line: str, place: Path) -> None:
    code = f"source script.fish; complete -C '{line}'"
    environment = {**os.environ, "HOME": str(place)}
    answer = subprocess.run(
        ["fish", "-c", code], cwd=place, env=environment, capture_output=True, text=True, check=True
    )
    words = [row.partition("\t")[0] for row in answer.stdout.splitlines()]
    expected = LINES[line].split()[-1]
    assert any(word.startswith(expected) for word in words), words
    assert not (place / "executed").exists()


def test_names_that_mean_something_to_a_shell_are_not_offered(place: Path) -> None:
    assert asked(place, "sample", "") == ["first", ":files"]
    assert not (place / "executed").exists()


def test_fields_follow_the_variants_that_were_typed_and_those_of_the_file(place: Path) -> None:
    assert "sampler.step_size=" in asked(place, "train", "own", "sampler.")
    changed = asked(place, "train", "own", "sampler=cas", "sampler.")
    assert "sampler.order=" in changed
    assert "sampler.step_size=" not in changed
    assert asked(place, "train", "own", "model.activation=s") == ["model.activation=swish"]
    assert {word.partition(".")[0].rstrip("=") for word in asked(place, "sample", "first", "s")} == {"sampler"}


def test_a_pipe_in_place_of_a_configuration_is_not_waited_for(place: Path) -> None:
    config = place / "runs" / "first" / "config.json"
    config.unlink()
    os.mkfifo(config)
    assert all(word.startswith("sampler") for word in asked(place, "sample", "first", "sampler."))


def test_a_broken_file_says_nothing_and_breaks_nothing(place: Path) -> None:
    (place / "experiments" / "own.py").write_text("print('no\n")
    assert "digits" in asked(place, "train", "")


def test_an_answer_imports_neither_torch_nor_typer_nor_attrs_and_is_quick(place: Path) -> None:
    code = """
import sys, time
from ncsnx.cli.completion.answering import print_completions
begun = time.process_time()
print_completions(["zsh", *sys.argv[1:]])
assert not {"torch", "typer", "attrs", "attr"} & set(sys.modules), sorted(sys.modules)
assert time.process_time() - begun < 0.2
"""
    for words in (["train", ""], ["train", "own", "model."], ["fid", "first", "--range", ""], ["--"]):
        subprocess.run([sys.executable, "-c", code, *words], cwd=place, check=True, capture_output=True)


def test_the_script_of_an_unknown_shell_is_refused(here: Path) -> None:
    outcome = run("completion", "tcsh")
    assert (outcome.code, outcome.err) == (2, "error: expected bash, zsh or fish, found 'tcsh'\n")
    assert run("completion", "fish").out == f"{SCRIPTS['fish'].strip()}\n"

"""Bad inputs: each gets one clear line, the intended exit code, and no traceback; below it stands what to type."""

import json
import re
from pathlib import Path

import pytest

from ncsnx.runs.folder import Run
from ncsnx.spelling import argument, spelled_by
from tests.cli.command import run, run_process
from tests.config.examples import FILE, minimal, write_file
from tests.spaces import space_of

BAD = Path("experiments") / "bad.py"
GOOD_BYTES = FILE.replace("NAME", "bad").encode()


def _with(old: str, new: str) -> bytes:
    text = FILE.replace("NAME", "bad")
    assert old in text
    return text.replace(old, new).encode()


def _before(code: str) -> bytes:
    return code.encode() + b"\n" + GOOD_BYTES


def _after(code: str) -> bytes:
    return GOOD_BYTES + code.encode() + b"\n"


FILES: dict[str, tuple[bytes, str]] = {
    "a keyword that is mistyped": (
        _with("lr=1e-3", "lrr=1e-3"),
        "bad.py:9: TypeError: Adam.__init__() got an unexpected keyword argument 'lrr'",
    ),
    "a variant that no package brings": (
        _before("from ncsnx.config import SGD, variant, Optimizer\n@variant(Optimizer, 'mine')\nclass Mine(SGD): pass"),
        "bad.py:2: an experiment file cannot register a variant ('mine'); move it to a module of an installed package",
    ),
    "a name registered twice": (
        _after("register(experiment)"),
        "bad.py:15: 'bad' is already registered, at experiments/bad.py:3",
    ),
    "Latin-1 without saying so": (_after("# é").replace("é".encode(), b"\xe9"), "bad.py:15: is not Python source in"),
    "an empty file": (b"", "bad.py: registers no experiment; end it with register(Experiment("),
}


@pytest.mark.parametrize("case", FILES)
def test_a_bad_file_gets_one_line_with_file_and_line_and_exit_code_1_and_a_row_of_list(case: str, here: Path) -> None:
    content, message = FILES[case]
    BAD.parent.mkdir()
    BAD.write_bytes(content)
    outcome = run("show", str(BAD))
    assert outcome.code == 1
    assert outcome.out == ""
    error = outcome.err.splitlines()[-1]
    assert error.startswith("error: experiments/bad.py")
    assert message in error
    assert "Traceback" not in outcome.err
    listed = run("list").done()
    assert f"\nbroken: {error.removeprefix('error: ')}" in listed.out


TYPED: dict[str, tuple[list[str], str]] = {
    "a name that is mistyped": (["show", "digitz"], "no experiment is named 'digitz'; did you mean digits, "),
    "a run that is not there": (["show", "runs/owned"], "there is no run at 'runs/owned'"),
    "an experiment in place of its run": (["sample", "own"], "train the experiment of this name:  ncsnx train own"),
    "a checkpoint in place of its run": (
        ["sample", "runs/own-run/checkpoints/step-00000500"],
        "is a checkpoint; name the run runs/own-run, with --ckpt 500",
    ),
    "a run of other values": (["train", "own", "seed=5", "--run", "own-run"], "run belongs to another experiment; "),
    "a picture that is not there": (
        ["new", "mine", "--from", "experiments/own.py"],
        "such as .npy, found another file",
    ),
    "a field that a run lacks": (["show", "runs/own-run", "step=5"], "step: no such field in Experiment"),
    "one to compare": (["diff", "own", "seed=1"], "expected 2 experiments or runs, or up to 26; found 1"),
    "a swap that needs more": (["show", "own", "data=lsun"], "add them:  data.category=… data.image_size=…"),
}


def _own_files(here: Path) -> None:
    write_file(here / "experiments" / "own.py")
    Run.create(here / "runs", "own-run", minimal(), {}, None, "f" * 64, space_of(minimal().data))


@pytest.mark.parametrize("case", TYPED)
def test_what_was_typed_wrongly_gets_one_line_and_what_to_type_and_exit_code_2(case: str, here: Path) -> None:
    arguments, message = TYPED[case]
    _own_files(here)
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    first, *to_type = outcome.err.splitlines()
    assert first.startswith("error: ")
    assert all(re.match("  [a-z ]+:  ", line) for line in to_type)
    assert message in outcome.err


def test_where_an_experiment_has_the_name_it_is_told_how_to_get_a_run(here: Path) -> None:
    assert run("sample", "bedroom128").err.splitlines() == [
        "error: there is no run 'bedroom128' in runs, which holds none yet.",
        "  train an experiment:  ncsnx train bedroom128",
    ]
    (here / "trap.py").write_text("raise SystemExit(7)\n")
    outcome = run("sample", "./trap.py")
    assert (outcome.code, outcome.out) == (2, ""), "a file is never executed as a run"
    assert not (here / "runs").exists()


def test_a_run_of_a_newer_version_is_an_error_that_names_the_file_with_exit_code_1(here: Path) -> None:
    newer = Run.create(here / "runs", "newer", minimal(), {}, None, "f" * 64, space_of(minimal().data))
    newer.config_path.write_text(json.dumps({**json.loads(newer.config_path.read_text()), "schema_version": 9}))
    outcome = run("show", "runs/newer", "--origins")
    assert (outcome.code, outcome.out) == (1, "")
    told = "runs/newer/config.json: schema_version: is 9, newer than this ncsnx reads (1).\n  update ncsnx\n"
    assert outcome.err == f"error: {told}"
    assert "broken: runs/newer/config.json" in run("list").out


def test_a_real_process_ends_with_the_same_code_and_line_and_verbose_adds_the_traceback(here: Path) -> None:
    BAD.parent.mkdir()
    BAD.write_bytes(_after("1 / 0"))
    line = "error: experiments/bad.py:15: ZeroDivisionError: division by zero\n"
    broken = run_process(here, "show", str(BAD))
    assert (broken.code, broken.out, broken.err) == (1, "", line)
    outcome = run("show", str(BAD), "--verbose")
    assert outcome.err.startswith(line)
    assert "Traceback" in outcome.err


def test_an_argument_is_quoted_for_the_shell_in_a_command_and_for_python_elsewhere() -> None:
    assert argument("features", "torchscript:my net.pt") == "features='torchscript:my net.pt'"
    with spelled_by(lambda name: f"--{name}"):
        assert argument("features", "torchscript:my net.pt") == "--features 'torchscript:my net.pt'"
        assert argument("compile", False) == "--no_compile"


def test_habits_of_other_programs_are_answered_by_what_to_type(here: Path) -> None:
    assert "(Possible options: optimizer.lr=VALUE)" in " ".join(run("train", "digits", "--lr", "0.1").err.split())
    assert "`ncsnx train RUN` resumes" in run("resume", "digits").err
    assert "epochs: no such field in Experiment; did you mean steps?" in run("train", "digits", "epochs=10").err
    write_file(here / "experiments" / "own.py")
    assert run("train", "experiments/own").err.endswith("train the experiment:  ncsnx train experiments/own.py\n")
    (here / "photos").mkdir()
    assert run("train", "photos/").err.endswith("make an experiment of them:  ncsnx new NAME --from ./photos\n")

"""Bad inputs: each gets one clear line, the intended exit code, and no traceback."""

import json
import re
from pathlib import Path

import pytest

from ncsnx.config.codec import to_json
from ncsnx.runs.folder import Run
from tests.cli.command import run, run_process
from tests.config.examples import FILE, minimal, write_file

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
    "text for a boolean": (
        _with("Digits()", 'Digits(random_flip="false")'),
        "bad.py:3: experiment 'bad': data.random_flip: expected true or false, found text 'false'",
    ),
    "a class for an object": (
        _with("Digits()", "Digits"),
        "data: expected one of digits, cifar10, celeba, lsun, ffhq, phantoms, images, arrays, volumes, packed, "
        "found the class itself; write Digits(…)",
    ),
    "a number beyond all digits": (
        _with("lr=1e-3", "lr=-(10**5000)"),
        "lr must be a finite number > 0, not a number of",
    ),
    "negative steps": (_with("steps=1_500", "steps=-1"), "bad.py:4: steps must be between 1 and 1,000,000,000, not -1"),
    "a subclass that is no variant": (
        _before("from ncsnx.config import SGD\nclass Mine(SGD): pass").replace(b"Adam(lr=1e-3)", b"Mine(lr=1e-3)"),
        "optimizer: expected one of adam, rmsprop, sgd, found an object without a type (no registered variant)",
    ),
    "a variant that no package brings": (
        _before("from ncsnx.config import SGD, variant, Optimizer\n@variant(Optimizer, 'mine')\nclass Mine(SGD): pass"),
        "bad.py:2: an experiment file cannot register a variant ('mine'); move it to a module of an installed package",
    ),
    "a name registered twice": (
        _after("register(experiment)"),
        "bad.py:15: 'bad' is already registered, at experiments/bad.py:3",
    ),
    "a bracket that is not closed": (b"register(\n", "bad.py:1: SyntaxError: '(' was never closed"),
    "a NUL byte": (_with("lr=1e-3", "lr=1e-3\0"), "bad.py: SyntaxError: source code string cannot contain null bytes"),
    "Latin-1 without saying so": (_after("# é").replace("é".encode(), b"\xe9"), "bad.py:15: is not Python source in"),
    "an empty file": (b"", "bad.py: registers no experiment; end it with register(Experiment("),
    "sys.exit": (_before("import sys\nsys.exit(3)"), "bad.py:2: SystemExit: 3"),
    "an exception without a word": (_after("assert False"), "bad.py:15: AssertionError"),
    "an exception of many lines": (_after("raise ValueError('a\\n\\n  b')"), "bad.py:15: ValueError: a b"),
    "endless recursion": (_after("def f(): f()\nf()"), "bad.py:15: RecursionError: maximum recursion depth exceeded"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_bad_file_gets_one_line_with_file_and_line_and_exit_code_1(case: str, here: Path) -> None:
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


def test_all_bad_files_together_are_rows_and_break_nothing(here: Path) -> None:
    for number, (content, _) in enumerate(FILES.values()):
        file = here / "experiments" / f"bad{number:02}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    write_file(here / "experiments" / "good.py")
    listed = run("list", "--json")
    assert listed.code == 0
    rows = json.loads(listed.out)["experiments"]
    assert sum(row["error"] is not None for row in rows) == len(FILES)
    assert {row["name"] for row in rows if row["error"] is None} >= {"good", "digits", "ffhq256"}
    plain = run("list")
    assert plain.code == 0
    assert len([line for line in plain.out.splitlines() if line.startswith("broken: ")]) == len(FILES)
    assert run("show", "good").code == 0


TYPED: dict[str, tuple[list[str], str]] = {
    "a name that is mistyped": (
        ["show", "digitz"],
        "no experiment is named 'digitz'; did you mean digits, digits_edm?",
    ),
    "a name that is too long": (["show", "x" * 5000], "xx… (5,002 characters) is too long for a name"),
    "a file that is not there": (
        ["show", "experiments/owm.py"],
        "no such experiment file",
    ),
    "a file with several": (
        ["show", "experiments/two.py"],
        "registers two-a, two-b; choose one as experiments/two.py:NAME",
    ),
    "a file without that name": (["show", "experiments/own.py:owl"], "registers own, but no 'owl'"),
    "a run that is not there": (["show", "runs/owned"], "there is no run 'owned' in runs; did you mean own-run?"),
    "a run's path that is not there": (["show", "else/where"], "there is no run at 'else/where'"),
    "a run that is mistyped": (["show", "own-rum"], "no experiment is named 'own-rum'; did you mean own"),
    "a field that a run lacks": (["show", "runs/own-run", "step=5"], "step: no such field in Experiment"),
    "one to compare": (["diff", "own", "seed=1"], "expected 2 experiments or runs, or up to 26; found 1"),
    "a field elsewhere": (["show", "own", "lr=1"], "lr: no such field in Experiment; did you mean optimizer.lr?"),
    "a swap that needs more": (
        ["show", "own", "data=lsun"],
        "add them:  data.category=… data.image_size=…",
    ),
}


def _own_files(here: Path) -> None:
    write_file(here / "experiments" / "own.py")
    two = write_file(here / "experiments" / "two.py", name="two-a")
    two.write_text(f"import attrs\n{two.read_text()}\nregister(attrs.evolve(experiment, name='two-b'))\n")
    Run.create(here / "runs", "own-run", minimal(), {}, None, "f" * 64)


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shw"], "No such command 'shw'"),
        (["show"], "Missing argument 'NAME'"),
    ],
)
def test_a_command_line_that_can_not_be_read_shows_the_usage(arguments: list[str], message: str, here: Path) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("Usage: ")
    assert message in outcome.err


NEWER = json.dumps({**to_json(minimal()), "data_fingerprint": "f" * 64, "schema_version": 9}).encode()
RUN_FILES: dict[str, tuple[str, bytes, str]] = {
    "a newer version": (
        "config.json",
        NEWER,
        "config.json: schema_version: is 9, newer than this ncsnx reads (1).\n  update ncsnx",
    ),
    "origins that are no JSON": ("origins.json", b"{", "origins.json: expected JSON, but"),
}


@pytest.mark.parametrize("case", RUN_FILES)
def test_a_damaged_run_is_an_error_that_names_the_file_with_exit_code_1(case: str, here: Path) -> None:
    name, content, message = RUN_FILES[case]
    damaged = Run.create(here / "runs", "damaged", minimal(), {}, None, "f" * 64)
    (damaged.path / name).write_bytes(content)
    outcome = run("show", "runs/damaged", "--origins")
    assert outcome.code == 1
    assert outcome.out == ""
    first, *hints = outcome.err.splitlines()
    assert first.startswith("error: runs/damaged/")
    assert all(line.startswith("  ") for line in hints)
    assert message in outcome.err
    listed = run("list")
    assert listed.code == 0
    if name == "config.json":
        assert "broken: runs/damaged/config.json" in listed.out


def test_verbose_adds_the_traceback_and_keeps_the_line(here: Path) -> None:
    outcome = run("show", "digitz", "--verbose")
    assert outcome.code == 2
    assert outcome.err.startswith("error: no experiment is named 'digitz'")
    assert "Traceback" in outcome.err


def test_a_real_process_ends_with_the_same_code_and_line(here: Path) -> None:
    BAD.parent.mkdir()
    BAD.write_bytes(_after("1 / 0"))
    broken = run_process(here, "show", str(BAD))
    assert (broken.code, broken.out) == (1, "")
    assert broken.err == "error: experiments/bad.py:15: ZeroDivisionError: division by zero\n"


def test_a_folder_of_pictures_in_the_place_of_an_experiment_leads_to_new(here: Path) -> None:
    Path("photos").mkdir()
    outcome = run("train", "photos/")
    assert outcome.code in (1, 2)
    assert outcome.err.endswith("make an experiment of them:  ncsnx new NAME --from ./photos\n")

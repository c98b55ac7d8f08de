"""Bad inputs: each gets one clear line, the intended exit code, and no traceback."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ncsnx.config.codec import to_json
from ncsnx.runs.folder import Run
from tests.cli.command import run, run_process
from tests.config.examples import FILE, minimal, write_file

DATA_SETS = "digits, cifar10, celeba, lsun, ffhq, phantoms, images, arrays, volumes, packed"

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
    "a key of an older program": (
        _with("batch_size=128", "n_iters=128"),
        "bad.py:4: TypeError: Experiment.__init__() got an unexpected keyword argument 'n_iters'",
    ),
    "a keyword that is missing": (
        _with("levels=24", "sigma_min=0.02").replace(b"sigma_min=0.01, ", b""),
        "bad.py:7: TypeError: Geometric.__init__() missing 1 required keyword-only argument: 'levels'",
    ),
    "a position for a keyword": (
        _with("Adam(lr=1e-3)", "Adam(1e-3)"),
        "Adam.__init__() takes 1 positional argument but 2 were given",
    ),
    "a name that is mistyped in the import": (
        _with("import Adam", "import Adm"),
        "bad.py:1: ImportError: cannot import",
    ),
    "a name that was never imported": (
        _with("Adam(lr", "Adams(lr"),
        "bad.py:9: NameError: name 'Adams' is not defined",
    ),
    "text for a boolean": (
        _with("Digits()", 'Digits(random_flip="false")'),
        "bad.py:3: experiment 'bad': data.random_flip: expected true or false, found text 'false'",
    ),
    "text for a number": (
        _with("lr=1e-3", 'lr="1e-3"'),
        "experiment 'bad': optimizer.lr: expected a finite number, found text '1e-3'",
    ),
    "a fraction for a whole number": (
        _with("steps=1_500", "steps=3.7"),
        "steps: expected a whole number, found number 3.7",
    ),
    "a boolean for a whole number": (
        _with("width=32", "width=True"),
        "model.width: expected a whole number, found boolean",
    ),
    "a list for a number": (_with("width=32", "width=[32]"), "model.width: expected a whole number, found list [32]"),
    "none for a part": (
        _with("Digits()", "None"),
        f"data: expected one of {DATA_SETS}, found none",
    ),
    "a number for a part": (
        _with("batch_size=128", "ema=0.99"),
        "ema: expected an object, found number 0.99",
    ),
    "a class for an object": (
        _with("Digits()", "Digits"),
        "data: expected one of digits, cifar10, celeba, lsun, ffhq, phantoms, images, arrays, volumes, packed, "
        "found the class itself; write Digits(…)",
    ),
    "a variant of another family": (
        _with("Digits()", "Adam()"),
        f"data: expected one of {DATA_SETS}, found type 'adam'",
    ),
    "an unknown choice": (
        _with("width=32", 'width=32, activation="relo"'),
        "model.activation: expected one of elu, relu, leaky_relu, swish, found text 'relo'; did you mean 'relu'?",
    ),
    "NaN": (_with("lr=1e-3", 'lr=float("nan")'), "bad.py:9: lr must be a finite number > 0, not nan"),
    "infinity": (_with("sigma_max=5.0", 'sigma_max=float("inf")'), "sigma_max must be a finite number > 0, not inf"),
    "a number beyond all numbers": (
        _with("lr=1e-3", "lr=10**400"),
        "optimizer.lr: expected a finite number, found integer",
    ),
    "a number beyond all digits": (
        _with("lr=1e-3", "lr=-(10**5000)"),
        "lr must be a finite number > 0, not a number of",
    ),
    "negative steps": (_with("steps=1_500", "steps=-1"), "bad.py:4: steps must be between 1 and 1,000,000,000, not -1"),
    "levels that ascend": (
        _with("sigma_min=0.01", "sigma_min=7.0"),
        "bad.py:7: sigma_max must be above sigma_min=7.0, which 5.0 is not",
    ),
    "a batch that cannot be divided": (
        _with("batch_size=128", "accumulation=3"),
        "bad.py:4: accumulation must divide batch_size=128, which 3 does not",
    ),
    "a name with a slash": (_with('"bad"', '"a/b"'), "bad.py:4: name must be 1 to 100 of the characters A-Z a-z 0-9"),
    "a subclass that is no variant": (
        _before("from ncsnx.config import SGD\nclass Mine(SGD): pass").replace(b"Adam(lr=1e-3)", b"Mine(lr=1e-3)"),
        "optimizer: expected one of adam, rmsprop, sgd, found an object without a type (no registered variant)",
    ),
    "a variant that no package brings": (
        _before("from ncsnx.config import SGD, variant, Optimizer\n@variant(Optimizer, 'mine')\nclass Mine(SGD): pass"),
        "bad.py:2: an experiment file cannot register a variant ('mine'); move it to a module of an installed package",
    ),
    "a value that is assigned afterwards": (
        _after("experiment.steps = 5"),
        "bad.py:15: FrozenInstanceError",
    ),
    "evolve of a field that is not there": (
        _after("import attrs\nregister(attrs.evolve(experiment, optimiser=Adam()))"),
        "bad.py:16: TypeError: Experiment.__init__() got an unexpected keyword argument 'optimiser'",
    ),
    "registering what is no experiment": (
        _after("register(Adam())"),
        "bad.py:15: register expects an Experiment, found Adam",
    ),
    "a name registered twice": (
        _after("register(experiment)"),
        "bad.py:15: 'bad' is already registered, at experiments/bad.py:3",
    ),
    "a bracket that is not closed": (b"register(\n", "bad.py:1: SyntaxError: '(' was never closed"),
    "indentation": (b"if True:\nx = 1\n", "bad.py:2: IndentationError: expected an indented block"),
    "a NUL byte": (_with("lr=1e-3", "lr=1e-3\0"), "bad.py: SyntaxError: source code string cannot contain null bytes"),
    "Latin-1 without saying so": (
        _after("# é").replace("é".encode(), b"\xe9"),
        "bad.py:15: is not Python source in",
    ),
    "an image": (b"\x89PNG\r\n\x1a\n\x00\x00", "bad.py:1: is not Python source in UTF-8 ("),
    "an empty file": (b"", "bad.py: registers no experiment; end it with register(Experiment("),
    "a file that registers nothing": (_with("register(\n", "print(\n"), "bad.py: registers no experiment; end it with"),
    "sys.exit": (
        _before("import sys\nsys.exit(3)"),
        "bad.py:2: SystemExit: 3",
    ),
    "sys.exit without a word": (_after("raise SystemExit"), "bad.py:15: SystemExit"),
    "an import of what is not installed": (
        _before("import nothere"),
        "bad.py:1: ModuleNotFoundError: No module named 'nothere'",
    ),
    "an exception of its own": (_after("1 / 0"), "bad.py:15: ZeroDivisionError: division by zero"),
    "an exception without a word": (_after("assert False"), "bad.py:15: AssertionError"),
    "an exception of many lines": (_after("raise ValueError('a\\n\\n  b')"), "bad.py:15: ValueError: a b"),
    "endless recursion": (_after("def f(): f()\nf()"), "bad.py:15: RecursionError: maximum recursion depth exceeded"),
    "nesting that is too deep": (b"x = " + b"(" * 500 + b")" * 500 + b"\n", "bad.py:1: SyntaxError: too many nested"),
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
    "a name like no other": (
        ["show", "zzz"],
        "no experiment is named 'zzz'; known experiments: own, two-a, two-b, bedroom128",
    ),
    "an empty name": (["show", ""], "NAME: '' is empty: expected a name or a path"),
    "a name that is too long": (["show", "x" * 5000], "xx… (5,002 characters) is too long for a name"),
    "a file that is not there": (
        ["show", "experiments/owm.py"],
        "no such experiment file",
    ),
    "a file whose name is too long": (
        ["show", "x" * 5000 + ".py"],
        "xx… (5,005 characters) is too long for a name",
    ),
    "a file with several": (
        ["show", "experiments/two.py"],
        "registers two-a, two-b; choose one as experiments/two.py:NAME",
    ),
    "a file without that name": (["show", "experiments/own.py:owl"], "registers own, but no 'owl'"),
    "a file with an empty name": (["show", "experiments/own.py:"], "registers own, but no ''"),
    "a name with two owners": (
        ["show", "twin"],
        "'twin' is registered twice in ./experiments, at experiments/twin1.py:3 and",
    ),
    "a run that is not there": (["show", "runs/owned"], "there is no run 'owned' in runs; did you mean own-run?"),
    "a run's path that is not there": (["show", "else/where"], "there is no run at 'else/where'"),
    "a run that is mistyped": (["show", "own-rum"], "no experiment is named 'own-rum'; did you mean own"),
    "a field that a run lacks": (["show", "runs/own-run", "step=5"], "step: no such field in Experiment"),
    "one to compare": (["diff", "own", "seed=1"], "expected 2 experiments or runs, or up to 26; found 1"),
    "a word without an equals sign": (["show", "own", "steps"], "'steps': expected FIELD=VALUE, such as steps=50k"),
    "an equals sign alone": (["show", "own", "="], "'=': expected FIELD=VALUE"),
    "a value given twice": (["show", "own", "seed=1", "seed=2"], "seed: given twice, as '1' and '2'"),
    "a field that is not there": (
        ["show", "own", "optimizer.lrr=1"],
        "optimizer.lrr: no such field in adam",
    ),
    "a field elsewhere": (["show", "own", "lr=1"], "lr: no such field in Experiment; did you mean optimizer.lr?"),
    "a field of another variant": (
        ["show", "own", "optimizer.momentum=0.5"],
        "optimizer.momentum: no such field in adam; there is optimizer.lr",
    ),
    "a variant that is not there": (["show", "own", "model=ncsnv3"], "model: expected one of ncsnv2, ncsnv2-deeper"),
    "a whole number that is not": (
        ["show", "own", "steps=1.5"],
        "steps: expected a whole number such as 500, 50k or 1.5M",
    ),
    "five thousand digits": (["show", "own", "steps=" + "9" * 5000], "steps: expected a whole number"),
    "not a number": (["show", "own", "optimizer.lr=nan"], "optimizer.lr: expected a finite number such as 0.8 or 1e-4"),
    "steps below zero": (["show", "own", "steps=-5"], "steps: must be between 1 and 1,000,000,000, not -5"),
    "yes for true": (["show", "own", "sampler.denoise=yes"], "sampler.denoise: expected true or false, found 'yes'"),
    "a swap that needs more": (
        ["show", "own", "data=lsun"],
        "add them:  data.category=… data.image_size=…",
    ),
    "a control character": (
        ["show", "own", "note=\x1b[2J"],
        "note: must be one line of printable text, not '\\x1b[2J'",
    ),
    "nothing to compare with": (
        ["diff", "own", "digitz"],
        "no experiment is named 'digitz'; did you mean digits, digits_edm?",
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
    if "twin" in arguments:
        write_file(here / "experiments" / "twin1.py", name="twin")
        write_file(here / "experiments" / "twin2.py", name="twin")
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
        (["diff", "digits"], "Missing argument 'B'"),
        (["show", "digits", "--jsn"], "No such option: --jsn"),
        (["list", "digits"], "Got unexpected extra argument"),
    ],
)
def test_a_command_line_that_can_not_be_read_shows_the_usage(arguments: list[str], message: str, here: Path) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("Usage: ")
    assert message in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "digits", "--threads", "0"], "--threads must be between 1 and 1,024, not 0"),
        (["train", "digits", "--workers", "x"], "--workers: must be a valid integer"),
        (["sample", "digits", "--seed", "1.5"], "--seed: "),
        (["data", "show", "digits", "--held-out", "x"], "--held-out: "),
    ],
)
def test_a_value_that_an_option_cant_have_is_one_line(arguments: list[str], message: str, here: Path) -> None:
    outcome = run(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"error: {message}")


def _config(change: Callable[[dict[str, object]], object]) -> bytes:
    saved = {**to_json(minimal()), "data_fingerprint": "f" * 64}
    return json.dumps(change(saved)).encode()


RUN_FILES: dict[str, tuple[str, bytes, str]] = {
    "no JSON": ("config.json", b"{", "config.json: expected JSON, but"),
    "another encoding": ("config.json", b'{"a": "\xe9"}', "config.json: expected JSON, but"),
    "deep nesting": ("config.json", b"[" * 100_000, "config.json: expected JSON, but"),
    "a list": ("config.json", b"[]", "config.json: expected an object, found list []"),
    "a newer version": (
        "config.json",
        _config(lambda saved: {**saved, "schema_version": 9, "lineage": []}),
        "config.json: schema_version: is 9, newer than this ncsnx reads (1).\n  update ncsnx",
    ),
    "an unknown key": (
        "config.json",
        _config(lambda saved: {**saved, "experiment": {**saved["experiment"], "bacth_size": 1}}),  # type: ignore[dict-item]
        "config.json: experiment.bacth_size: no such field in Experiment; did you mean 'batch_size'?",
    ),
    "no experiment": (
        "config.json",
        b'{"schema_version": 1}',
        "config.json: experiment: is required, but missing",
    ),
    "NaN": (
        "config.json",
        _config(lambda saved: {**saved, "experiment": {**saved["experiment"], "clip_norm": float("nan")}}),  # type: ignore[dict-item]
        "config.json: expected JSON, but NaN is not a JSON number",
    ),
    "origins that are no JSON": ("origins.json", b"{", "origins.json: expected JSON, but"),
    "origins that are no object": ("origins.json", b"3", "origins.json: expected an object, found integer 3"),
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


def test_a_folder_that_is_no_run_is_told_so(here: Path) -> None:
    (here / "runs" / "photos").mkdir(parents=True)
    outcome = run("show", "runs/photos")
    assert outcome.code == 1
    assert "runs/photos is not a run: it has no config.json" in outcome.err


def test_verbose_adds_the_traceback_and_keeps_the_line(here: Path) -> None:
    outcome = run("show", "digitz", "--verbose")
    assert outcome.code == 2
    assert outcome.err.startswith("error: no experiment is named 'digitz'")
    assert "Traceback" in outcome.err


def test_the_corpus_is_large() -> None:
    assert len(FILES) + len(TYPED) + len(RUN_FILES) >= 40


def test_a_real_process_ends_with_the_same_codes(here: Path) -> None:
    BAD.parent.mkdir()
    BAD.write_bytes(_after("1 / 0"))
    broken, typed = run_process(here, "show", str(BAD)), run_process(here, "show", "digitz")
    assert (broken.code, typed.code) == (1, 2)
    assert broken.err == "error: experiments/bad.py:15: ZeroDivisionError: division by zero\n"
    assert (broken.out, typed.out) == ("", "")


@pytest.mark.parametrize("typed", ["photos", "photos/"])
def test_a_folder_of_pictures_in_the_place_of_an_experiment_leads_to_new(typed: str, here: Path) -> None:
    Path("photos").mkdir()
    outcome = run("train", typed)
    assert outcome.code in (1, 2)
    assert outcome.err.endswith("make an experiment of them:  ncsnx new NAME --from ./photos\n")

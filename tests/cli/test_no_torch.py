"""Looking at experiments never imports torch: it is there at once, also where torch is broken."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ncsnx.commands.command import built_in_commands
from ncsnx.runs.folder import Run
from tests.config.examples import minimal, write_file
from tests.forked import REPOSITORY
from tests.spaces import space_of


@pytest.fixture
def without_torch(tmp_path: Path) -> Path:
    """A folder to import from, in which torch and what comes with it end the process."""
    folder = tmp_path / "blocked"
    folder.mkdir()
    for module in ("torch", "torchvision", "torchdiffeq", "sklearn", "matplotlib"):
        (folder / f"{module}.py").write_text(f"raise SystemExit('{module} was imported')\n")
    return folder


@pytest.fixture
def first(here: Path) -> Path:
    """The current folder, with the experiment `own` and a run `first` that has a checkpoint of step 500."""
    write_file(here / "experiments" / "own.py")
    run = Run.create(here / "runs", "first", minimal(), {}, None, "f" * 64, space_of(minimal().data))
    (run.checkpoints / "step-00000500").mkdir(parents=True)
    return here


LOOKS = [
    ["--help"],
    ["--version"],
    *([*one.name.split(), "--help"] for one in built_in_commands()),
    ["list"],
    ["show", "digits", "--origins"],
    ["show", "own", "optimizer=sgd", "--json"],
    ["show", "runs/first"],
    ["diff", "own", "runs/first"],
]
TYPOS = [
    (["sample", "frist"], "there is no run 'frist' in runs; did you mean first?"),
    (["restore", "photograph", "--denoise", "p.png"], "did you mean photographs, which comes with ncsnx"),
    (["sample", "first", "sampler.step_sise=1"], "did you mean sampler.step_size?"),
    (["sample", "first", "sampler=alb"], "sampler: expected one of ald,"),
    (["sample", "first", "sampler=fast"], "run 'first' has no fast sampler yet"),
    (["sample", "first", "--ckpt", "best"], "run 'first' has no best checkpoint"),
    (["sample", "first", "--n", "0"], "--n must be between 1 and"),
    (["sample", "first", "--interpolate", "3", "--between", "0"], "--between needs two different seeds"),
    (["train", "digits", "--device", "cuda:x"], "--device: expected auto, cpu, cuda, cuda:N or mps, found 'cuda:x'"),
    (["restore", "first"], "expected one task, found none: give --denoise, --jpeg,"),
    (["restore", "first", "--colorize", "p.png", "--ckpt", "70"], "no checkpoint of step 70"),
    (["fid", "first", "--range", "600:700"], "--range 600:700 holds no checkpoint"),
    (["loss", "first", "--range", "70"], "no checkpoint of step 70"),
    (["likelihood", "first", "--range", "2:1"], "--range 2:1: expected all, latest"),
    (["compare", "first", "--evaluations", "6,x"], "must be a whole number, such as 5000 or 5k, not 'x'"),
    (["compare", "first", "--evaluations", "6,0"], "--evaluations must be between 1 and 100,000, not 0"),
    (["compare", "first", "sampler=cas"], "sampler: only features.FIELD=VALUE can change here"),
    (["neighbors", "first", "--ckpt", "70"], "no checkpoint of step 70"),
    (["export", "first", "--out", "out", "--ckpt", "70"], "no checkpoint of step 70"),
]
RUN_ALL = """
import json, sys
from typer.testing import CliRunner
from ncsnx.cli import app
from ncsnx.cli.completion import complete_field
outcomes = [CliRunner().invoke(app, arguments) for arguments in json.load(sys.stdin)]
assert dict(complete_field("optimizer=")).keys() >= {"optimizer=sgd"}
assert "torch" not in sys.modules
print(json.dumps([[outcome.exit_code, outcome.stdout, outcome.stderr] for outcome in outcomes]))
"""


def test_looking_and_mistyping_import_no_torch(first: Path, without_torch: Path) -> None:
    """All in one process, whose first import of torch ends it."""
    finished = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        env={"PYTHONPATH": f"{without_torch}:{REPOSITORY}"},
        input=json.dumps([*LOOKS, *(arguments for arguments, _ in TYPOS)]),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    outcomes = json.loads(finished.stdout)
    for arguments, (code, out, err) in zip(LOOKS, outcomes[: len(LOOKS)], strict=True):
        assert (code, err, out == "") == (0, "", False), arguments
    for (arguments, told), (code, out, err) in zip(TYPOS, outcomes[len(LOOKS) :], strict=True):
        assert told in err, arguments
        assert code in (1, 2), arguments
        lines = err[err.index("error: ") :].splitlines()  # what a sampler is known for may come before
        assert [line for line in lines if not line.startswith("  ")] == lines[:1], arguments
        assert out == "", arguments


LEAST = """
import sys
from ncsnx.cli import app
def imported(*names):
    return {*names} & {*sys.modules}
app(["list"], standalone_mode=False)
assert not imported(
    "ncsnx.runs.folder", "ncsnx.exports.exported", "filelock", "ncsnx.commands.show", "ncsnx.planning", "pydantic",
    "rich",
)
import ncsnx, ncsnx.config, ncsnx.schedules.levels, ncsnx.errors
from ncsnx.config.discovery import discover
assert len([r for source in discover() for r in source.file.registered]) == 15
assert ncsnx.Experiment and ncsnx.register and ncsnx.__version__
assert not imported("torch", "numpy")
"""
HELP = """
import sys
from ncsnx.cli import app
assert app(["--help"], standalone_mode=False) == 0
assert not {"ncsnx.config", "ncsnx.planning"} & {*sys.modules}
"""


@pytest.mark.parametrize("code", [HELP, LEAST], ids=["help", "a list without runs, the language and the package"])
def test_what_is_not_needed_is_not_imported(code: str, here: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")

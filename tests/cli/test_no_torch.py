"""Looking at experiments never imports torch: it is there at once, also where torch is broken."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ncsnx.runs.folder import Run
from tests.cli.command import REPOSITORY, run_process
from tests.config.examples import minimal, write_file


@pytest.fixture
def without_torch(tmp_path: Path) -> Path:
    """A folder to import from, in which torch and what comes with it end the process."""
    folder = tmp_path / "blocked"
    folder.mkdir()
    for module in ("torch", "torchvision", "torchdiffeq", "sklearn", "matplotlib"):
        (folder / f"{module}.py").write_text(f"raise SystemExit('{module} was imported')\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["sample", "--help"],
        ["restore", "--help"],
        ["fid", "--help"],
        ["loss", "--help"],
        ["likelihood", "--help"],
        ["compare", "--help"],
        ["neighbors", "--help"],
        ["reference", "--help"],
        ["export", "--help"],
        ["doctor", "--help"],
        ["track", "--help"],
        ["plan", "--help"],
        ["import", "--help"],
        ["new", "--help"],
        ["data", "--help"],
        ["list"],
        ["list", "--json"],
        ["show", "digits", "--origins"],
        ["show", "own", "optimizer=sgd", "--json"],
        ["show", "runs/first"],
        ["doctor", "first", "--json", "--quiet"],
        ["diff", "own", "runs/first"],
        ["diff", "cifar10", "cifar10_ncsn", "--json"],
    ],
    ids=" ".join,
)
def test_a_command_that_only_looks_imports_no_torch(arguments: list[str], here: Path, without_torch: Path) -> None:
    write_file(here / "experiments" / "own.py")
    Run.create(here / "runs", "first", minimal(), {}, None, "f" * 64)
    outcome = run_process(here, *arguments, python_path=(without_torch,))
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out


def test_help_imports_no_experiments(here: Path) -> None:
    code = """
import sys
from typer.testing import CliRunner
from ncsnx.cli import app
assert CliRunner().invoke(app, ["--help"]).exit_code == 0
assert not {"ncsnx.config", "ncsnx.planning"} & set(sys.modules)
"""
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    finished = subprocess.run([sys.executable, "-c", code], cwd=here, env=environment, capture_output=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_a_list_without_runs_imports_only_what_it_needs(here: Path) -> None:
    code = """
import sys
from ncsnx.cli import app
app(["list"], standalone_mode=False)
readers = {"ncsnx.runs.folder", "ncsnx.runs.exported", "filelock"}
assert not {*readers, "ncsnx.commands.show", "pydantic", "rich"} & set(sys.modules)
"""
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    finished = subprocess.run([sys.executable, "-c", code], cwd=here, env=environment, capture_output=True, check=False)
    assert finished.returncode == 0, finished.stderr


TYPOS = [
    (["sample", "frist"], "there is no run 'frist' in runs; did you mean first?"),
    (
        ["sample", "first", "sampler.step_sise=1"],
        "did you mean sampler.step_size?",
    ),
    (["sample", "first", "sampler=alb"], "sampler: expected one of ald,"),
    (["sample", "first", "smapler.eta=1"], "smapler.eta: cannot change in a trained run"),
    (["sample", "first", "sampler=fast"], "run 'first' has no fast sampler yet"),
    (["sample", "first", "--ckpt", "70"], "run 'first' has no checkpoint of step 70; nearest: 500"),
    (["sample", "first", "--ckpt", "lastest"], "'lastest' is not a step"),
    (["sample", "first", "--ckpt", "best"], "run 'first' has no best checkpoint"),
    (["sample", "first", "--n", "0"], "--n must be between 1 and"),
    (["sample", "first", "--seed", "-1"], "--seed must be between 0 and"),
    (["sample", "first", "--interpolate", "3", "--between", "0"], "--between needs two different seeds"),
    (["sample", "first", "--interpolate", "1"], "--interpolate must be between 2 and"),
    (["sample", "first", "--frames", "1"], "--frames must be between 2 and"),
    (["sample", "first", "--device", "abacus"], "--device: expected auto, cpu, cuda, cuda:N or mps, found 'abacus'"),
    (["train", "digits", "--device", "cuda:x"], "--device: expected auto, cpu, cuda, cuda:N or mps, found 'cuda:x'"),
    (["restore", "first"], "expected one task, found none: give --inpaint, --outpaint,"),
    (["restore", "first", "--mask", "m.png"], "--mask goes with --inpaint, which is not given"),
    (["restore", "first", "--inpaint", "p.png"], "--inpaint needs --mask, which is not given"),
    (["restore", "first", "--outpaint", "p.png", "--at", "x"], "--at: expected two whole numbers"),
    (["restore", "first", "--colorize", "p.png", "--ckpt", "70"], "no checkpoint of step 70"),
    (["fid", "frist"], "did you mean first?"),
    (["fid", "first", "sampler.step_sise=1"], "sampler.step_sise: no such field"),
    (["fid", "first", "--range", "600:700"], "--range 600:700 holds no checkpoint"),
    (["fid", "first", "--n", "0"], "--n must be between 10 and"),
    (["loss", "first", "--range", "70"], "no checkpoint of step 70"),
    (["likelihood", "first", "--range", "2:1"], "--range 2:1: expected all, latest"),
    (["compare", "first", "--ckpt", "70"], "no checkpoint of step 70"),
    (["compare", "first", "--evaluations", "6,x"], "expected whole numbers with commas"),
    (["neighbors", "first", "--ckpt", "70"], "no checkpoint of step 70"),
    (["neighbors", "first", "sampler.step_sise=1"], "sampler.step_sise: no such field"),
    (["export", "first", "--out", "out", "--ckpt", "70"], "no checkpoint of step 70"),
]


RUN_ALL = """
import json, sys
from typer.testing import CliRunner
from ncsnx.cli import app
outcomes = [CliRunner().invoke(app, arguments) for arguments in json.load(sys.stdin)]
assert "torch" not in sys.modules
print(json.dumps([[outcome.exit_code, outcome.stdout, outcome.stderr] for outcome in outcomes]))
"""


def test_a_typo_is_refused_before_torch_is_imported(here: Path, without_torch: Path) -> None:
    """All in one process, whose first import of torch ends it."""
    run = Run.create(here / "runs", "first", minimal(), {}, None, "f" * 64)
    (run.checkpoints / "step-00000500").mkdir(parents=True)
    finished = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        cwd=here,
        env={"PYTHONPATH": f"{without_torch}:{REPOSITORY}"},
        input=json.dumps([arguments for arguments, _ in TYPOS]),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    for (arguments, told), (code, out, err) in zip(TYPOS, json.loads(finished.stdout), strict=True):
        assert told in err, arguments
        assert code in (1, 2), arguments
        lines = err[err.index("error: ") :].splitlines()  # what a sampler is known for may come before
        assert [line for line in lines if not line.startswith("  ")] == lines[:1], arguments
        assert out == "", arguments


def test_the_language_and_the_package_import_no_torch(without_torch: Path) -> None:
    code = """
import sys, ncsnx, ncsnx.config, ncsnx.noise.levels, ncsnx.cli, ncsnx.errors
from ncsnx.config.discovery import discover
assert len([r for source in discover() for r in source.file.registered]) == 11
assert ncsnx.Experiment and ncsnx.register and ncsnx.__version__
assert "torch" not in sys.modules and "numpy" not in sys.modules
"""
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=without_torch,
        env={"PYTHONPATH": f"{without_torch}:{REPOSITORY}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")

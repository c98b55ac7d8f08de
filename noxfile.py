"""Nox sessions. `nox` runs lint, types and tests; `nox --list` shows all sessions."""

import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "types", "tests"]

SOURCES = ("ncsnx", "experiments", "tests", "docs", "noxfile.py", "hatch_build.py")
PYTEST = ("pytest", "--numprocesses", "auto", "--maxprocesses", "4")
QUICK = (
    *(f"tests/{folder}" for folder in ("config", "console", "metrics", "networks", "noise", "samplers", "storage")),
    *(f"tests/cli/test_{name}.py" for name in ("list_show_diff", "train")),
    *(f"tests/data/test_{name}.py" for name in ("data_sets", "download")),
    *(f"tests/evaluation/test_{name}.py" for name in ("plots", "probability_flow")),
    "tests/test_installed.py",
)
"""Tests that use every dependency, in a few minutes."""
PROJECT = nox.project.load_toml("pyproject.toml")["project"]
TRACKERS = ("mlflow", "trackio", "wandb")
"""Extras that only the session of this name installs."""
GROUPS = nox.project.load_toml("pyproject.toml")["dependency-groups"]


@nox.session
def lint(session: nox.Session) -> None:
    """Style, wording and errors that show without running the code."""
    session.install(*GROUPS["lint"])
    session.run("ruff", "check", *SOURCES)
    session.run("ruff", "format", "--check", *SOURCES)
    session.run("python", "-m", "tests.wording")


@nox.session
def types(session: nox.Session) -> None:
    """Strict type checks."""
    session.install("-e", ".", *GROUPS["types"])
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The tests; arguments go to pytest. They import the sources, except tests/test_installed.py."""
    session.install(".", *GROUPS["tests"])
    session.run(*PYTEST, *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Tests that take minutes and rarely fail: trained models, kills, compilation."""
    session.install(".", *GROUPS["tests"])
    session.run(*PYTEST, "-m", "slow", *session.posargs)


@nox.session
def ranks(session: nox.Session) -> None:
    """Commands in several processes: equal results, kills, stops, full disks, two hosts; arguments go to pytest."""
    session.install(".", *GROUPS["tests"])
    session.run("pytest", "-m", "ranks", "tests/ranks", *session.posargs)


@nox.session
def trackers(session: nox.Session) -> None:
    """Experiment trackers as they are, offline: resumed, killed, without a login; arguments go to pytest."""
    session.install(f".[{','.join(TRACKERS)}]", *GROUPS["tests"])
    session.run("pytest", "tests/tracking/packages.py", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """The main job on real data: trains on the digits and samples (minutes on two cores)."""
    session.install(".")
    folder = Path(session.create_tmp())
    session.run("ncsnx", "train", "experiments/digits.py", "--runs", str(folder))
    session.run("ncsnx", "sample", "digits", "--ckpt", "latest", "--n", "64", "--runs", str(folder))
    session.run("ncsnx", "sample", "digits", "--n", "4", "--interpolate", "8", "--film", "--runs", str(folder))


@nox.session
def docs(session: nox.Session) -> None:
    """The site, its links, and the code blocks of site and README; arguments go to pytest."""
    session.install("-e", ".", *GROUPS["docs"], *GROUPS["tests"])
    site = Path("docs", "_build", "html")
    shutil.rmtree(site.parent, ignore_errors=True)
    session.run("sphinx-build", "--fail-on-warning", "--keep-going", "--quiet", "docs", str(site))
    session.run("python", "-m", "tests.docs.links", str(site))
    session.run(*PYTEST, "--dist", "worksteal", "tests/docs/execution.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks, as ratios: executions of a network (arguments say which), start-up, console, distances, reading."""
    session.install("-e", ".")
    session.run("python", "-m", "tests.benchmarks.executions", *(session.posargs or ("digits", "--batch-size", "128")))
    session.run("python", "-m", "tests.benchmarks")


@nox.session
def chaos(session: nox.Session) -> None:
    """Fault-injection tests: kills, full disks, damaged files, second writers; arguments are names and --seed N."""
    session.install("-e", ".", *GROUPS["tests"])
    session.run("python", "-m", "tests.chaos", *session.posargs)


@nox.session(python=PROJECT["requires-python"].removeprefix(">="))
def oldest(session: nox.Session) -> None:
    """A quick part of the tests with the oldest supported Python and dependencies; arguments go to pytest."""
    extras = [one for name, extra in PROJECT["optional-dependencies"].items() if name not in TRACKERS for one in extra]
    admitted = [*PROJECT["dependencies"], *extras, *GROUPS["tests"]]
    session.install(".", *(requirement.replace(">=", "==") for requirement in admitted))
    # old packages use features that newer dependencies deprecate; the deselected test turns these warnings into errors
    strict = "tests/evaluation/test_plots.py::test_matplotlib_is_loaded_by_the_first_plot_and_pyplot_never"
    calm = ("-W", "ignore::DeprecationWarning", "--deselect", strict)
    session.run(*PYTEST, *calm, *(session.posargs or QUICK))


@nox.session
def dist(session: nox.Session) -> None:
    """Builds dist/, checks it, and runs a small job with the wheel in a fresh environment without the checkout."""
    session.install("build>=1.2", "twine>=6.1")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", *map(str, Path("dist").iterdir()))
    (wheel,) = Path("dist").resolve().glob("*.whl")
    session.chdir(session.create_tmp())
    for left in ("fresh", "runs"):
        shutil.rmtree(left, ignore_errors=True)
    session.run("python", "-m", "venv", "fresh")
    session.run("fresh/bin/pip", "install", str(wheel), external=True)
    small = ("steps=40", "checkpoint_every=20", "model.width=8", "batch_size=32")
    session.run("fresh/bin/ncsnx", "train", "digits", *small, external=True)
    session.run("fresh/bin/ncsnx", "sample", "digits", "--ckpt", "latest", "--n", "4", external=True)

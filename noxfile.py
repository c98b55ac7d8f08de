"""Nox sessions. `nox` runs lint, types and tests; `nox --list` shows all sessions."""

import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "types", "tests"]

SOURCES = ("ncsnx", "experiments", "tests", "docs", "noxfile.py", "hatch_build.py")
PYTEST = ("pytest", "--numprocesses", "auto", "--maxprocesses", "4")
PROJECT = nox.project.load_toml("pyproject.toml")["project"]
TRACKERS = ("mlflow", "trackio", "wandb")
"""Extras that only the slow tests need."""
GROUPS = nox.project.load_toml("pyproject.toml")["dependency-groups"]


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and errors that show without running the code."""
    session.install(*GROUPS["lint"])
    session.run("ruff", "check", *SOURCES)
    session.run("ruff", "format", "--check", *SOURCES)


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
    """Tests that take long and rarely fail: trained models, compilation, the packages of trackers, offline."""
    session.install(f".[{','.join(TRACKERS)}]", *GROUPS["tests"])
    session.run(*PYTEST, "-m", "slow", *session.posargs)


@nox.session
def ranks(session: nox.Session) -> None:
    """Commands in several processes: equal results, kills, stops, full disks, two hosts; arguments go to pytest."""
    session.install(".", *GROUPS["tests"])
    session.run("pytest", "-m", "ranks", "tests/ranks", *session.posargs)


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
    """Speed, as ratios: executions of a network (arguments say which), operations of steps, start-up, console."""
    session.install("-e", ".")
    session.run("python", "-m", "tests.benchmarks.executions", *(session.posargs or ("digits", "--batch-size", "128")))
    session.run("python", "-m", "tests.benchmarks.operations")
    session.run("python", "-m", "tests.benchmarks")


@nox.session
def chaos(session: nox.Session) -> None:
    """Kills, full disks, signals, vanishing data; arguments go to pytest, --seed N with them."""
    session.install(".", *GROUPS["tests"])
    session.run(*PYTEST, "-m", "chaos", "tests/chaos", *session.posargs)


@nox.session
def page(session: nox.Session) -> None:
    """The page of `ncsnx page` in Chromium, which must be installed (Debian: chromium); arguments go to pytest."""
    if shutil.which("chromium") is None:
        session.error("chromium isn't here; install it: apt-get install chromium")
    session.install(".", "axe-core-python>=0.1", "playwright>=1.50", *GROUPS["tests"])
    session.run("pytest", "-m", "page", "tests/page", *session.posargs)


@nox.session(python=PROJECT["requires-python"].removeprefix(">="))
def dist(session: nox.Session) -> None:
    """Builds dist/, checks it, and does the README's job with the wheel alone, with the oldest dependencies."""
    session.install("build>=1.2", "twine>=6.1")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", *map(str, Path("dist").iterdir()))
    (wheel,) = Path("dist").resolve().glob("*.whl")
    oldest = [requirement.replace(">=", "==") for requirement in PROJECT["dependencies"]]
    session.chdir(session.create_tmp())
    for left in ("fresh", "runs"):
        shutil.rmtree(left, ignore_errors=True)
    session.run("python", "-m", "venv", "fresh")
    session.run("fresh/bin/pip", "install", str(wheel), *oldest, external=True)
    session.run("fresh/bin/ncsnx", "train", "digits", external=True)
    session.run("fresh/bin/ncsnx", "sample", "digits", "--ckpt", "latest", "--n", "64", external=True)
    session.run("fresh/bin/ncsnx", "sample", "digits", "--n", "4", "--interpolate", "8", "--film", external=True)
    session.run("fresh/bin/ncsnx", "fid", "digits", "--range", "latest", "--n", "500", external=True)

"""One thread for torch, here and in the processes that tests start; small runs, and real processes to work on them."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ncsnx.config import Experiment
from ncsnx.config.variants import load_plugins
from ncsnx.runs.folder import Run
from tests.runs.kept import SMALL

TOY_PACKAGE = Path(__file__).parent / "toy_package"

StartPython = Callable[..., "subprocess.Popen[str]"]

# a background job of a script, and nohup, ignore these, and the processes that tests start would too
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; threads that wait for a busy core cost seconds

for group in ("ncsnx.config", "ncsnx.runtime"):  # tests over registries go over what installed packages bring as well
    load_plugins(group)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of feature networks and references that all tests share, and that isn't the user's own."""
    before = os.environ.get("NCSNX_CACHE")
    folder = tmp_path_factory.mktemp("cache")
    os.environ["NCSNX_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["NCSNX_CACHE"]
    else:
        os.environ["NCSNX_CACHE"] = before


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished run of `tiny.training()` in runs/digits. Not to be changed: see `workplace`."""
    from tests.training.tiny import command, training

    folder = tmp_path_factory.mktemp("trained")
    assert command(*training(), folder=folder).code == 0
    return folder


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip has installed tests/toy_package in, to be put on the path of processes."""
    folder = tmp_path_factory.mktemp("toy")
    sources = shutil.copytree(TOY_PACKAGE, folder / "sources")  # a copy: setuptools writes beside what it builds
    pip = [sys.executable, "-m", "pip", "--isolated", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--no-build-isolation", "--target", folder / "site", sources], check=True)
    return folder / "site"


@pytest.fixture
def workplace(trained: Path, tmp_path: Path) -> Path:
    """A copy of `trained` to work in."""
    return Path(shutil.copytree(trained, tmp_path / "work"))


@pytest.fixture
def experiment() -> Experiment:
    return SMALL


@pytest.fixture
def run(tmp_path: Path, experiment: Experiment) -> Run:
    return Run.create(tmp_path / "runs", "small", experiment, {"steps": "small.py:9"}, "# source\n", "f" * 64)


@pytest.fixture
def start_python() -> Iterator[StartPython]:
    """Starts `python -c CODE ARGUMENTS` with pipes; whatever still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()

"""Fixtures: one thread for torch, here and in child processes; small runs, and processes that work on them."""

import importlib
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
from tests.spaces import space_of

TOY_PACKAGE = Path(__file__).parent / "toy_package"

StartPython = Callable[..., "subprocess.Popen[str]"]

# background jobs of scripts, and nohup, ignore these signals, and child processes would inherit that
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)
for name in ("NCSNX_RUNS", "NCSNX_DATA"):  # folders of the one who runs the tests
    os.environ.pop(name, None)
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; threads waiting for a busy core cost seconds

for group in ("ncsnx.config", "ncsnx.runtime"):  # tests over registries include installed packages
    load_plugins(group)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of feature networks and references that all tests share, separate from the user's."""
    before = os.environ.get("NCSNX_CACHE")
    folder = tmp_path_factory.mktemp("cache")
    os.environ["NCSNX_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["NCSNX_CACHE"]
    else:
        os.environ["NCSNX_CACHE"] = before


@pytest.fixture(scope="session")
def mounting() -> None:
    """Skips the test where this process may not mount a disk."""
    from tests.chaos.mounts import can_mount

    if not can_mount():
        pytest.skip("mounting a small disk needs a superuser")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished run of `tiny.training()` in runs/digits. Don't change it; see `workplace`."""
    from tests.training.tiny import command, training

    folder = tmp_path_factory.mktemp("trained")
    assert command(*training("--report"), folder=folder).code == 0
    return folder


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which pip installed tests/toy_package, for the import path of child processes."""
    folder = tmp_path_factory.mktemp("toy")
    sources = shutil.copytree(TOY_PACKAGE, folder / "sources")  # a copy, since setuptools writes beside the sources
    pip = [sys.executable, "-m", "pip", "--isolated", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--no-build-isolation", "--target", folder / "site", sources], check=True)
    return folder / "site"


@pytest.fixture
def workplace(trained: Path, tmp_path: Path) -> Path:
    """A copy of `trained` to work in."""
    return Path(shutil.copytree(trained, tmp_path / "work"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has optimizers built as for parameters on CUDA, on torch's meta device too."""
    monkeypatch.setattr("ncsnx.training.optimizers._execution_of", lambda parameters: {"fused": True})
    for module in map(importlib.import_module, ("torch.optim.adam", "torch.optim.sgd")):
        monkeypatch.setattr(module, "_device_dtype_check_for_fused", lambda *_, **__: None, raising=False)


@pytest.fixture
def experiment() -> Experiment:
    return SMALL


@pytest.fixture
def run(tmp_path: Path, experiment: Experiment) -> Run:
    return Run.create(
        tmp_path / "runs",
        "small",
        experiment,
        {"steps": "small.py:9"},
        "# source\n",
        "f" * 64,
        space_of(experiment.data),
    )


@pytest.fixture
def start_python() -> Iterator[StartPython]:
    """Starts `python -c CODE ARGUMENTS` with pipes; processes still running at the end of the test are killed."""
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

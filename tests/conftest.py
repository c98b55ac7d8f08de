"""One thread for torch, here and in the processes that tests start, and one small trained run for all who read one."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# a background job of a script, and nohup, ignore these, and the processes that tests start would too
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; threads that wait for a busy core cost seconds


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


@pytest.fixture
def workplace(trained: Path, tmp_path: Path) -> Path:
    """A copy of `trained` to work in."""
    return Path(shutil.copytree(trained, tmp_path / "work"))

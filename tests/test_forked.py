"""Forked processes: what they have imported, and how they end."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.config.examples import FILE
from tests.forked import PRELOADED, fork

LATE = """
import pathlib, threading, time
threading.Thread(target=lambda: (time.sleep(1), pathlib.Path("late").touch())).start()
"""


@pytest.mark.parametrize("name", PRELOADED)
def test_what_is_imported_before_forking_exists(name: str) -> None:
    """A server without a module starts all the same, and each fork imports it."""
    assert find_spec(name) is not None


def test_a_forked_process_waits_for_its_threads(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FILE.replace("NAME", "mine") + LATE)
    with fork("show", "mine.py", folder=tmp_path) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "mine" in out
    assert (tmp_path / "late").exists()

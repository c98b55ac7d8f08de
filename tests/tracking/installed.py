"""Trackers of a package as pip would install it, and a kill of a process that sends."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.conftest import TOY_PACKAGE
from tests.training.tiny import PATIENCE_S, wait_until

FAULTY = '''\
"""Trackers that do what the environment's trackers may do one day."""

import time

from ncsnx.tracking.tracker import Tracker, tracker


class Faulty(Tracker):
    def __init__(self, run):
        pass

    def numbers(self, step, values):
        pass

    def image(self, step, name, file):
        pass

    def close(self):
        pass


@tracker("raising")
class Raising(Faulty):
    def numbers(self, step, values):
        raise ConnectionError("example.org has gone\\nand so on")


@tracker("hanging")
class Hanging(Faulty):
    def close(self):
        time.sleep(600)
'''


def install_trackers(site: Path) -> Path:
    """A folder for the import path with the trackers of tests/toy_package/ and those of FAULTY."""
    info = site / "ncsnx_trackers-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(TOY_PACKAGE / "src" / "json_lines_tracker.py", site)
    (site / "faulty_trackers.py").write_text(FAULTY)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ncsnx-trackers\nVersion: 1.0\n")
    entries = "[ncsnx.trackers]\njson_lines = json_lines_tracker\nfaulty = faulty_trackers\n"
    (info / "entry_points.txt").write_text(entries)
    return site


def kill_while_sending(folder: Path, tag: str, has_begun: Callable[[], bool]) -> None:
    """Runs `ncsnx track` on the run digits, and kills it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ncsnx", "track", "digits", "--to", tag],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stderr=subprocess.PIPE,
    )
    wait_until(has_begun, process, poll_s=0.01)
    process.kill()
    process.communicate(timeout=PATIENCE_S)

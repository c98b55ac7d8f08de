"""Trackers of a package as pip would install it, and kills of the processes that send."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.conftest import TOY_PACKAGE
from tests.training.tiny import PATIENCE_S, wait_until

FAULTY = '''\
"""Trackers that do what the environment's trackers may do one day."""

import os
import time

from ncsnx.tracking.tracker import Tracker, tracker


class Faulty(Tracker):
    def __init__(self, run):
        print(f"opened {run.name} with {os.environ.get('SOME_API_KEY')}", flush=True)

    def numbers(self, step, values):
        pass

    def image(self, step, name, file):
        pass

    def close(self):
        pass


@tracker("raising", startup_s=0)
class Raising(Faulty):
    def numbers(self, step, values):
        raise ConnectionError(f"https://me:{os.environ['SOME_API_KEY']}@example.org has gone\\nand so on")


@tracker("hanging", startup_s=0)
class Hanging(Faulty):
    def close(self):
        time.sleep(600)


@tracker("flooding", startup_s=0)
class Flooding(Faulty):
    def numbers(self, step, values):
        for _ in range(400):
            os.write(1, b"much to say\\n" * 1_000)


@tracker("crashing", startup_s=0)
class Crashing(Faulty):
    def numbers(self, step, values):
        os._exit(3)


@tracker("forgetting", startup_s=0)
class Forgetting(Faulty):
    def steps(self, name):
        return ()
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
    """Runs `ncsnx track` on the run digits, and kills the tracker's process and those that it started."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ncsnx", "track", "digits", "--to", tag],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(has_begun, process, poll_s=0.01)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.killpg(int(child), signal.SIGKILL)
    _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, told
    assert "its process ended with signal 9" in told

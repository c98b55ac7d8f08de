"""`ncsnx page` as a process, and requests to it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, cast

import attrs

LIMIT_S = 120


@attrs.frozen
class Served:
    """A page that is served."""

    process: "subprocess.Popen[str]"
    address: str

    def request(self, path: str = "", body: bytes | None = None, **headers: str) -> HTTPResponse:
        """The answer, also of a refusal. path: below the address, or a whole one."""
        address = path if path.startswith("http") else self.address + path
        try:
            return cast(
                HTTPResponse, urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=60)
            )
        except urllib.error.HTTPError as refusal:
            return cast(HTTPResponse, refusal)

    def json(self, path: str, body: bytes | None = None) -> Any:
        """The answer as JSON values."""
        return json.loads(self.request(path, body).read())

    def begin(self, picture: str, task: str, **asked: Any) -> str:
        """Starts a restoration by photographs; returns its id."""
        asked = {"picture": picture, "model": "photographs", "task": task, **asked}
        return str(self.json("jobs", json.dumps(asked).encode())["id"])

    def ended(self, id: str) -> Any:
        """The state of a restoration once it has ended."""
        return self.until(id, "done", "failed", "stopped")

    def until(self, id: str, *states: str) -> Any:
        """The restoration once it is in one of the states."""
        end = time.monotonic() + LIMIT_S
        while (job := self.json(f"jobs/{id}"))["state"] not in states:
            assert time.monotonic() < end, job
            time.sleep(0.1)
        return job

    def workers(self) -> list[int]:
        """Ids of its processes."""
        listing = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(id) for file in listing for id in file.read_text().split()]

    def interrupted(self) -> int:
        """The exit code after Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


@contextmanager
def served(folder: Path, *options: str) -> Iterator[Served]:
    """The page of `ncsnx page OPTIONS` in a folder, with its temporary files in `temporary`, until the block ends."""
    (folder / "temporary").mkdir(exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-m", "ncsnx", "page", *options, "--no-browser"],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder / "temporary")},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield Served(process, process.stdout.readline().strip())
        finally:
            process.terminate()
            process.wait(30)

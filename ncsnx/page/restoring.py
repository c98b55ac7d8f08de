"""The server's side of restorations: worker processes, which are ended to stop them, and one job at a time."""

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import attrs

from ncsnx.errors import NcsnxError
from ncsnx.page.asked import WHOLE, Asked

Event = dict[str, Any]
_LAST = ("ready", "seen", "shown", "done", "failed")
"""Events that end a request."""
_LONGEST_EVENT = 2**20
_NO_MEMORY = (
    "The process was ended from outside, probably because memory ran out; close other programs or take a smaller "
    "photograph"
)
_LARGE = 8 * 10**6
"""Pixels from which on the process that looked at a picture is ended, so that its memory is free."""


class WorkerProcess:
    """A process of `ncsnx.page.worker`, which is started when it is needed first."""

    def __init__(self, runs: Path, scratch: Path) -> None:
        """scratch: folder of temporary files, which a process that is ended leaves."""
        self._runs, self._scratch = runs, scratch
        self._process: Process | None = None

    async def events(self, **request: Any) -> AsyncIterator[Event]:
        """The events of a request, up to the last. A process that ends without one counts as `failed`."""
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ncsnx.page.worker", str(self._runs)),
                stdin=PIPE,
                stdout=PIPE,
                limit=_LONGEST_EVENT,
                env={**os.environ, "TMPDIR": str(self._scratch)},
                start_new_session=True,  # Ctrl-C is for the server
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
        except ConnectionError:
            pass  # it has ended, which the next line says
        while line := await process.stdout.readline():
            event: Event = json.loads(line)
            yield event
            if event["event"] in _LAST:
                return
        code = await process.wait()
        crashed = f"The process ended unexpectedly (exit code {code}); the terminal has the details"
        yield {"event": "failed", "error": _NO_MEMORY if code == -signal.SIGKILL else crashed}

    async def answer(self, **request: Any) -> Event:
        """The last event of a request. Raises NcsnxError for one that failed."""
        last: Event = {}
        async for event in self.events(**request):
            last = event
        if last["event"] == "failed":
            raise NcsnxError(last["error"])
        return last

    async def end(self) -> None:
        """Ends the process, wherever it is, so that its memory is free."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._process = None


@attrs.define(eq=False, kw_only=True)
class Picture:
    """An uploaded picture."""

    id: str
    """What the page calls it."""
    folder: Path
    """Has its file, and shown.png."""
    facts: Event
    """What the worker said of it: `seen`."""

    @property
    def path(self) -> Path:
        """The picture as it was uploaded."""
        return self.folder / str(self.facts["file"])

    def as_json(self) -> Event:
        """What the page shows."""
        return {"id": self.id, **self.facts}


@attrs.define(eq=False, kw_only=True)
class Job:
    """A restoration from its request to its files."""

    picture: Picture
    model: str
    asked: Asked
    folder: Path
    state: Literal["waiting", "running", "done", "stopped", "failed"] = "waiting"
    stage: str = "starting"
    done: int = 0
    total: int = 0
    error: str = ""
    warnings: list[str] = attrs.Factory(list)
    result: Event = attrs.Factory(dict)
    """`done` of the worker: files, size, spread."""
    running: "asyncio.Task[None] | None" = None
    _began: float = 0.0
    _paces: list[tuple[float, int]] = attrs.Factory(list)

    def hear(self, event: Event) -> None:
        """Takes an event of the worker into account."""
        match event["event"]:
            case "progress":
                if event["done"] == 0:
                    self._paces.clear()
                self.stage, self.done, self.total = event["stage"], event["done"], event["total"]
                self._paces.append((time.monotonic(), self.done))
            case "warning":
                self.warnings.append(event["text"])
            case "failed":
                self.state, self.error = "failed", event["error"]
            case "done":
                self.state, self.result = "done", event

    def start(self) -> None:
        """Counts the time from now."""
        self.state, self._began = "running", time.monotonic()

    @property
    def left_s(self) -> float | None:
        """Seconds that are left of the stage by the pace since its first unit; None before two are done."""
        units = [one for one in self._paces if one[1] > 0]
        if len(units) < 2 or units[-1][1] == units[0][1]:
            return None
        (first_s, first), (last_s, last) = units[0], units[-1]
        left = (self.total - last) * (last_s - first_s) / (last - first)
        return max(0.0, left - (time.monotonic() - last_s))

    def file(self, name: str) -> Path | None:
        """A file that the page may have: the mean as soon as it is there, the others once all are."""
        if self.state == "done" and name in self.result["files"]:
            return self.folder / str(self.result["files"][name])
        mean = self.folder / "out" / "mean.png"
        return mean if name == "mean.png" and mean.exists() else None

    def as_json(self, runs: str | None) -> Event:
        """What the page shows. runs: as in `Asked.command`."""
        return {
            "model": self.model,
            "asked": attrs.asdict(self.asked),
            "state": self.state,
            "stage": self.stage,
            "done": self.done,
            "total": self.total,
            "left": self.left_s,
            "elapsed": time.monotonic() - self._began if self.state == "running" else None,
            "error": self.error,
            "warnings": self.warnings,
            "has_mean": self.file("mean.png") is not None,
            "files": list(self.result.get("files", ())),
            "size": self.result.get("size"),
            "spread": self.result.get("spread"),
            "command": self.asked.command(self.model, runs),
            "picture": self.picture.as_json(),
        }


class Restorer:
    """Looks at pictures at once, and restores them one after the other."""

    def __init__(self, runs: Path, scratch: Path) -> None:
        """scratch: as in `WorkerProcess`."""
        self._looking, self._restoring = WorkerProcess(runs, scratch), WorkerProcess(runs, scratch)
        self._looks, self._turn = asyncio.Lock(), asyncio.Lock()
        self._timings: dict[str, Event] = {}
        self._warming: asyncio.Task[None] | None = None

    def warm(self, model: str) -> None:
        """Starts to load a model, so that the next job need not wait for it."""
        self._warming = asyncio.create_task(self._load(model))

    async def _load(self, model: str) -> None:
        async with self._turn:
            try:
                self._timings[model] = await self._restoring.answer(do="load", model=model)
            except NcsnxError as error:
                self._timings[model] = {"error": str(error)}

    async def timing(self, model: str) -> Event | None:
        """Seconds per pixel of an evaluation, `pace`, and the usual numbers of steps, or an `error`; None while another
        job runs."""
        if model not in self._timings and not self._turn.locked():
            await self._load(model)
        return self._timings.get(model)

    async def look(self, folder: Path, model: str) -> Event:
        """What is to be said of the picture in a folder. Raises NcsnxError."""
        async with self._looks:
            seen = await self._looking.answer(do="look", model=model, folder=str(folder))
            if seen["size"][0] * seen["size"][1] > _LARGE:
                await self._looking.end()
            return seen

    async def show(self, picture: Picture) -> Path:
        """The whole picture as a browser shows it. Raises NcsnxError."""
        async with self._looks:
            if not (picture.folder / WHOLE).exists():
                await self._looking.answer(do="show", picture=str(picture.path))
        return picture.folder / WHOLE

    def begin(self, job: Job) -> None:
        """Starts a job, or lets it wait for its turn."""
        job.running = asyncio.create_task(self._run(job))

    async def stop(self, job: Job) -> None:
        """Ends a job that runs or waits."""
        if job.state in ("waiting", "running") and job.running is not None:
            job.state = "stopped"
            job.running.cancel()
            await asyncio.gather(job.running, return_exceptions=True)

    async def _run(self, job: Job) -> None:
        async with self._turn:
            job.start()
            request = {"model": job.model, "picture": str(job.picture.path), "folder": str(job.folder)}
            try:
                job.folder.mkdir()
                async for event in self._restoring.events(do="restore", asked=attrs.asdict(job.asked), **request):
                    job.hear(event)
            except (OSError, ValueError) as error:
                job.hear({"event": "failed", "error": f"The restoration failed: {error}"})
            finally:
                await self._restoring.end()  # so that its memory is free
                if job.state != "done":
                    shutil.rmtree(job.folder, ignore_errors=True)
                self.warm(job.model)

    async def end(self) -> None:
        """Ends all processes."""
        if self._warming is not None:
            self._warming.cancel()
        await self._looking.end()
        await self._restoring.end()

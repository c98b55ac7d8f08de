"""The page's server: what a browser may ask, on this machine alone.

The address has a token, which other users of the machine don't know. Requests for another host (DNS rebinding) or from
another site are refused. The content security policy allows the page's own script and style, by their hashes, and
requests to this server: the browser refuses everything else. No path and no file name is taken from the browser.
"""

import asyncio
import base64
import hashlib
import json
import re
import secrets
import shutil
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ncsnx.errors import NcsnxError
from ncsnx.page.asked import PICTURE, Asked
from ncsnx.page.restoring import Job, Picture, Restorer
from ncsnx.quantities import byte_size
from ncsnx.runs.summaries import RunSummary, summaries

HOST = "127.0.0.1"
MOST_BYTES, MOST_JSON = 2**28, 2**23
"""Largest picture and largest request."""
_OFFERED = ("photographs",)
"""Models that come with ncsnx."""
_KEPT = 8
"""Pictures, and results, that are kept for the browser."""
_PAGE = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")


def _hash_of(element: str) -> str:
    (text,) = re.findall(rf"<{element}>(.*?)</{element}>", _PAGE, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_LOCKED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
PAGE_POLICY = (
    f"{_LOCKED}img-src 'self' data:; connect-src 'self'; script-src {_hash_of('script')}; style-src {_hash_of('style')}"
)
REPORT_POLICY = f"{_LOCKED}img-src data:; style-src 'unsafe-inline'"
_HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class OwnOrigin:
    """Refuses requests that another site makes, and adds the headers that keep the page to itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        app = self._app
        if headers.get("origin", f"http://{headers['host']}") != f"http://{headers['host']}":
            app = PlainTextResponse("Another site asked, which isn't allowed.", 403)
        await app(scope, receive, send_with_headers)


@attrs.define(eq=False, kw_only=True)
class PageServer:
    """What the page serves: pictures, jobs, models and runs."""

    model: str
    """The model that is chosen first."""
    runs: Path
    runs_typed: str | None
    """The folder of the runs, if it isn't the default."""
    uploads: Path
    """Folder of the uploaded pictures and other temporary files, which exists."""
    results: Path
    """Folder of the restored pictures, which exists."""
    keeps: bool
    """Whether results stay when newer ones come."""
    token: str = attrs.Factory(lambda: secrets.token_urlsafe(24))
    _restorer: Restorer = attrs.field(init=False)
    _pictures: dict[str, Picture] = attrs.Factory(dict)
    _jobs: dict[str, Job] = attrs.Factory(dict)
    _packing: asyncio.Lock = attrs.Factory(asyncio.Lock)

    def app(self) -> Starlette:
        """The application of a server at `HOST`."""
        routes = [
            Route("/", self.page),
            Route("/models", self.models),
            Route("/timing", self.timing),
            Route("/pictures", self.upload, methods=["POST"]),
            Route("/pictures/{id}", self.look, methods=["POST"]),
            Route("/pictures/{id}/shown.png", self.shown),
            Route("/pictures/{id}/whole.png", self.whole),
            Route("/jobs", self.restore, methods=["POST"]),
            Route("/jobs", self.jobs),
            Route("/jobs/{id}", self.job),
            Route("/jobs/{id}/stop", self.stop, methods=["POST"]),
            Route("/jobs/{id}/{file}", self.file),
            Route("/runs/{name}", self.report),
        ]
        return Starlette(
            routes=[Mount(f"/{self.token}", routes=routes)],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"]), Middleware(OwnOrigin)],
            exception_handlers=dict.fromkeys((HTTPException, NcsnxError, OSError), _error_response),
            lifespan=self._living,
        )

    @asynccontextmanager
    async def _living(self, app: Starlette) -> AsyncIterator[None]:
        self._restorer = Restorer(self.runs, self.uploads)
        self._restorer.warm(self.model)
        yield
        for job in self._jobs.values():
            await self._restorer.stop(job)
        await self._restorer.end()

    async def page(self, request: Request) -> Response:
        return HTMLResponse(_PAGE)

    def _listed(self) -> list[RunSummary]:
        """Runs and exported models that images can be restored by."""
        return [one for one in summaries(self.runs) if one.step] if self.runs.is_dir() else []

    async def _known_model(self, name: str) -> str:
        """The name itself. Raises HTTPException for a model that the page doesn't offer."""
        if name in (self.model, *_OFFERED):  # most often, and without reading all runs
            return name
        if name not in {one.name for one in await asyncio.to_thread(self._listed)}:
            raise HTTPException(404, "This model isn't there any more.")
        return name

    async def models(self, request: Request) -> Response:
        found = await asyncio.to_thread(self._listed)
        reported = [one for one in found if one.state != "exported model"]
        runs = [{"name": one.name, "state": one.state, "step": one.step} for one in reported]
        models = list(dict.fromkeys([self.model, *_OFFERED, *(one.name for one in found)]))
        return JSONResponse({"models": models, "runs": runs})

    async def upload(self, request: Request) -> Response:
        """Stores the picture in the body, and says what it is."""
        model, id = await self._model(request), secrets.token_hex(8)
        folder = self.uploads / id
        folder.mkdir()
        try:
            with (folder / PICTURE).open("wb") as file:
                async for chunk in _body(request, MOST_BYTES, f"This file is larger than {byte_size(MOST_BYTES)}."):
                    file.write(chunk)
            picture = Picture(id=id, folder=folder, facts=await self._restorer.look(folder, model))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._pictures[id] = picture
        used = {job.picture.id for job in self._jobs.values()}
        for old in [one for one in self._pictures if one not in used][:-_KEPT]:
            shutil.rmtree(self._pictures.pop(old).folder, ignore_errors=True)
        return JSONResponse(picture.as_json())

    async def look(self, request: Request) -> Response:
        """Says again what a picture is, for another model."""
        picture, model = self._picture(request.path_params["id"]), await self._model(request)
        picture.facts = await self._restorer.look(picture.folder, model)
        return JSONResponse(picture.as_json())

    async def timing(self, request: Request) -> Response:
        """How fast the model is here; null while another restoration runs."""
        return JSONResponse(await self._restorer.timing(await self._model(request)))

    async def shown(self, request: Request) -> Response:
        return FileResponse(self._picture(request.path_params["id"]).folder / "shown.png")

    async def whole(self, request: Request) -> Response:
        return FileResponse(await self._restorer.show(self._picture(request.path_params["id"])))

    async def jobs(self, request: Request) -> Response:
        """The restorations that run or wait."""
        unfinished = {id: job for id, job in self._jobs.items() if job.state in ("running", "waiting")}
        return JSONResponse([{"id": id, "state": job.state, "task": job.asked.task} for id, job in unfinished.items()])

    async def restore(self, request: Request) -> Response:
        """Begins a job."""
        values = await _json(request)
        picture_id, model = str(values.pop("picture", "")), await self._known_model(str(values.pop("model", "")))
        picture, asked = self._picture(picture_id), Asked.of(values)
        id = secrets.token_hex(8)
        folder = self.results / f"{asked.task.replace('_', '-')}-{id}"
        job = Job(picture=picture, model=model, asked=asked, folder=folder)
        self._jobs[id] = job
        self._restorer.begin(job)
        ended = [one for one, job in self._jobs.items() if job.state not in ("running", "waiting")]
        for old in [] if self.keeps else ended[:-_KEPT]:
            shutil.rmtree(self._jobs.pop(old).folder, ignore_errors=True)
        return JSONResponse({"id": id})

    async def job(self, request: Request) -> Response:
        job = self._job(request)
        is_behind = any(one.state == "running" for one in self._jobs.values() if one is not job)
        return JSONResponse({**job.as_json(self.runs_typed), "is_behind": is_behind})

    async def stop(self, request: Request) -> Response:
        await self._restorer.stop(self._job(request))
        return JSONResponse({})

    async def file(self, request: Request) -> Response:
        job, name = self._job(request), request.path_params["file"]
        if name == "all.zip" and job.state == "done":
            packed = self.uploads / f"{request.path_params['id']}.zip"
            async with self._packing:
                if not packed.exists():
                    await asyncio.to_thread(_zip, job, packed)
            return FileResponse(packed, filename="restored.zip")
        path = job.file(name)
        if path is None:
            raise HTTPException(404, "This file isn't there any more.")
        return FileResponse(path)

    async def report(self, request: Request) -> Response:
        """The report of a run, made now."""
        name = request.path_params["name"]
        found = {one.name: one for one in await asyncio.to_thread(self._listed) if one.state != "exported model"}
        if name not in found:
            raise HTTPException(404, "There is no such run.")
        content = await asyncio.to_thread(_report, found[name].path)
        return HTMLResponse(content, headers={"Content-Security-Policy": REPORT_POLICY})

    async def _model(self, request: Request) -> str:
        return await self._known_model(request.query_params.get("model", self.model))

    def _picture(self, id: str) -> Picture:
        if id not in self._pictures:
            raise HTTPException(404, "This picture isn't there any more; choose it again.")
        return self._pictures[id]

    def _job(self, request: Request) -> Job:
        if (job := self._jobs.get(request.path_params["id"])) is None:
            raise HTTPException(404, "This restoration isn't there any more.")
        return job


async def _error_response(request: Request, error: Exception) -> Response:
    """An error as a sentence."""
    if isinstance(error, HTTPException):
        is_lost = error.detail == "Not Found"  # Starlette's own words
        told = "Open the address that ncsnx page shows, with its token." if is_lost else error.detail
        return JSONResponse({"error": told}, error.status_code)
    if isinstance(error, OSError):
        return JSONResponse({"error": f"A file could not be read or written: {error.strerror or error}"}, 500)
    return JSONResponse({"error": str(error)}, 400)


async def _body(request: Request, most: int, too_large: str) -> AsyncIterator[bytes]:
    """The body in chunks, up to so many bytes. Raises HTTPException once a larger one is read: a browser that still
    sends hears no answer."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= most:
            yield chunk
    if size > most:
        raise HTTPException(413, too_large)


async def _json(request: Request) -> dict[str, Any]:
    """The JSON object in the body. Raises HTTPException."""
    too_large = "This is too much to paint; clear the mask and use larger brushes."
    content = b"".join([chunk async for chunk in _body(request, MOST_JSON, too_large)])
    try:
        values = json.loads(content)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise HTTPException(400, "Expected a JSON object.")
    return values


def _zip(job: Job, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:  # pictures don't become smaller
        for name in job.result["files"]:
            archive.write(job.folder / job.result["files"][name], name)


def _report(path: Path) -> bytes:
    from ncsnx.reporting.report import report_page  # imports torch
    from ncsnx.runs.folder import Run

    return report_page(Run(path))

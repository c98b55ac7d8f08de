"""A local server that speaks the part of the Hugging Face Hub's API that ncsnx uses, and can misbehave.

Large files (*.safetensors, *.png) are stored by Git LFS as on the Hub, so that `resolve` redirects to another host
without authorization; it sends the others itself.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs

from tests.serving import served

TOKEN = "hf_reader_secret"
"""The token of ada, who may read her repositories."""
_LARGE = (".safetensors", ".png", ".bin")


@attrs.define
class Repository:
    """A repository of a model or a data set."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = attrs.Factory(dict)
    """Files by name, by commit; the last is that of main."""
    tags: dict[str, str] = attrs.Factory(dict)
    """Commit by tag."""

    @property
    def head(self) -> str:
        """The newest commit."""
        return list(self.commits)[-1]

    def add(self, files: dict[str, bytes]) -> str:
        """Commits these files, and returns the commit's hash."""
        commit = hashlib.sha1(repr([len(self.commits), files]).encode()).hexdigest()
        self.commits[commit] = files
        return commit


@attrs.define
class LocalHub:
    """The server's repositories, and a record of its requests."""

    repositories: dict[str, Repository] = attrs.Factory(dict)
    objects: dict[str, bytes] = attrs.Factory(dict)
    """LFS objects by sha256."""
    change: Callable[[dict[str, Any]], Any] = lambda info: info
    """Changes what the API says of a repository."""
    refusals: dict[str, int] = attrs.Factory(dict)
    """Status with which the next request to a path that contains the key is refused."""
    requests: list[tuple[str, str, str | None]] = attrs.Factory(list)
    """(method, path, Authorization) of each request, with the host in front for files of LFS."""
    address: str = ""

    def repository(self, name: str, files: dict[str, bytes]) -> Repository:
        """A new repository with one commit."""
        made = self.repositories[name] = Repository()
        made.add({".gitattributes": b"*.safetensors filter=lfs\n", **files})
        return made

    def has_sent_weights(self) -> bool:
        """Whether a file of LFS was asked for."""
        return any("/cdn/" in path for _, path, _ in self.requests)


class _Refused(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def _answer(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        host = f"{self.headers['Host']} " if path.startswith("/cdn/") else ""
        self.hub.requests.append((method, host + path, self.headers.get("Authorization")))
        try:
            for part in [part for part in self.hub.refusals if part in path]:
                raise _Refused(self.hub.refusals.pop(part), message="said no")
            self._route(method, path.strip("/").split("/"))
        except _Refused as refused:
            self._send(refused.status, json.dumps({"error": refused.message}).encode(), code=refused.code)

    def _route(self, method: str, parts: list[str]) -> None:
        match method, parts:
            case "GET", ["api", "models" | "datasets", owner, name, *revision] if "tree" not in revision:
                repository = self._found(owner, name)
                commit = self._commit(repository, "/".join(revision[1:]) or "main")
                answer = json.dumps(self.hub.change(_described(f"{owner}/{name}", repository, commit)))
                self._send(200, answer.encode(), **{"Content-Type": "application/json"})
            case "GET", ["api", "datasets", owner, name, "tree", commit]:
                files = self._found(owner, name).commits[commit]
                rows = [{"type": "file", "path": path, **_stored(path, files[path])} for path in files]
                self._send(200, json.dumps(rows).encode(), **{"Content-Type": "application/json"})
            case "GET", ["cdn", oid]:
                self._send(200, self.hub.objects[oid], ETag=f'"{oid}"')
            case "GET" | "HEAD", [owner, name, "resolve", commit, *file] | [
                "datasets",
                owner,
                name,
                "resolve",
                commit,
                *file,
            ]:
                self._resolve(self._found(owner, name), commit, "/".join(file))
            case _:
                raise _Refused(404, "EntryNotFound")

    def _token(self) -> str | None:
        given = self.headers.get("Authorization")
        if given is None:
            return None
        token = given.removeprefix("Bearer ")
        if token != TOKEN:
            raise _Refused(401, message="Invalid credentials in Authorization header")
        return token

    def _found(self, owner: str, name: str) -> Repository:
        token, repository = self._token(), self.hub.repositories.get(f"{owner}/{name}")
        if repository is None or (repository.private and (token is None or owner != "ada")):
            raise _Refused(401 if token is None else 404, "RepoNotFound", "Repository not found")
        return repository

    def _commit(self, repository: Repository, revision: str) -> str:
        commit = repository.head if revision == "main" else repository.tags.get(revision, revision)
        if commit not in repository.commits:
            raise _Refused(404, "RevisionNotFound", "Invalid rev id")
        return commit

    def _resolve(self, repository: Repository, commit: str, file: str) -> None:
        content = repository.commits[self._commit(repository, commit)].get(file)
        if content is None:
            raise _Refused(404, "EntryNotFound")
        here = {"X-Repo-Commit": commit}
        if not file.endswith(_LARGE):
            return self._send(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', **here)
        oid = hashlib.sha256(content).hexdigest()
        self.hub.objects[oid] = content
        elsewhere = self.hub.address.replace("127.0.0.1", "localhost")
        here |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{oid}"', "ETag": f'"{oid}"'}
        return self._send(302, b"", Location=f"{elsewhere}/cdn/{oid}?signature=1", **here)

    def _send(self, status: int, content: bytes, *, code: str = "", **headers: str) -> None:
        self.send_response(status)
        if code:
            headers["X-Error-Code"] = code
        for name, value in {"Content-Type": "text/plain", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _described(name: str, repository: Repository, commit: str) -> dict[str, Any]:
    files = repository.commits[commit]
    return {
        "id": name,
        "sha": commit,
        "private": repository.private,
        "siblings": [_sibling(file, content) for file, content in files.items()],
    }


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    return {"rfilename": name, **_stored(name, content)}


def _stored(name: str, content: bytes) -> dict[str, Any]:
    """Facts about the stored content of a file."""
    found = {"size": len(content), "oid": hashlib.sha1(content).hexdigest()}
    if name.endswith(_LARGE):
        return {**found, "lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 9}}
    return found


@contextmanager
def serving_hub(hub: LocalHub) -> Iterator[LocalHub]:
    """The server in a thread, at `hub.address`."""
    with served(_Handler, hub=hub) as hub.address:
        yield hub

"""Downloads over HTTP: a file appears when it is complete and checked, or not at all."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import attrs

from ncsnx.errors import Hint, NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage import atomic, reading
from ncsnx.work import Work

_TIMEOUT_S = 60.0
_PIECE_BYTES = 2**20
_MEANINGS = {401: "; it requires a login", 403: "; it requires a login, or has a quota", 404: "; the file has moved"}


class DownloadError(NcsnxError):
    """A failed download: names the file, its address, the reason, and where to put the file."""


@attrs.frozen
class PublishedFile:
    """Address of a file, and the facts published with it."""

    address: str
    size: int | None = None
    """Number of bytes."""
    md5: str | None = None
    """Digest in hexadecimal."""
    check: Callable[[Path], str | None] = lambda path: None
    """Says what is wrong with a file; None if it is valid."""

    def contradicted(self, file: Path) -> str | None:
        """The difference of a local file from these facts, in words; None if there is none."""
        size = file.stat().st_size
        held = counted(size, "byte")
        if self.size not in (None, size):
            return f"has {held}, but the published file has {self.size:,}"
        if self.md5 is not None and (digest := _digest(file)) != self.md5:
            return f"({held}) has the md5 {digest}, not the published {self.md5}"
        return None if (reason := self.check(file)) is None else f"({held}) {reason}"


class _Failure(Exception):
    """The reason why a download failed."""


def download(source: PublishedFile, path: Path, work: Work, *, otherwise: str = "") -> None:
    """Downloads a file to `path` atomically. otherwise: other ways to get the file, for the error.

    If `path` already exists, it is only checked. Raises DownloadError.
    """
    if path.exists():
        if (wrong := source.contradicted(path)) is not None:
            raise DownloadError(f"{path} {wrong}; remove it, then repeat the command")
        return
    with atomic.reporting(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic.replacing(path) as temporary:
            with atomic.reporting(path):
                file = temporary.open("xb")
            with file:
                _receive(source, file, path, work)
            if (wrong := source.contradicted(temporary)) is not None:
                raise _Failure(f"the received file {wrong}")
    except _Failure as failure:
        raise DownloadError(
            f"cannot download {path.name} from {source.address}: {failure}",
            Hint("repeat the command"),
            Hint(f"or get the file elsewhere and put it into {path.parent}{otherwise}"),
        ) from failure


def _receive(source: PublishedFile, file: BinaryIO, path: Path, work: Work) -> None:
    """Writes the server's file. Raises _Failure if it can't be had."""
    size = source.size
    request = urllib.request.Request(source.address, headers={"User-Agent": "ncsnx", "Accept-Encoding": "identity"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            if answer.headers.get_content_type() == "text/html":
                raise _Failure("the server sent a web page instead of the file, such as a login")
            total = size if answer.length is None else answer.length
            if size is not None and total is not None and total != size:
                raise _Failure(f"the server's file has {counted(total, 'byte')}, so it is another file")
            received = 0
            with work.progress(f"downloading {path.name}", total=total or 0, unit="bytes") as advance:
                while piece := answer.read(_PIECE_BYTES):
                    work.check_stop()
                    with atomic.reporting(path, total):
                        file.write(piece)
                    received += len(piece)
                    advance(len(piece))
            if total is not None and received != total:
                raise _Failure(f"the connection ended after {received:,} of {counted(total, 'byte')}")
        with atomic.reporting(path, total):
            file.flush()
            os.fsync(file.fileno())
    except urllib.error.HTTPError as error:
        with error:  # the error is also the response, and holds the connection
            meaning = _MEANINGS.get(error.code, "")
            raise _Failure(f"the server answers {error.code} {error.reason}{meaning}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise _Failure(getattr(reason, "strerror", None) or str(reason) or type(error).__name__) from error


def _digest(path: Path) -> str:
    with reading.opened(path) as file:
        return hashlib.file_digest(file, "md5").hexdigest()

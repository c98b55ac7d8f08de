"""Resumable downloads over HTTP.

The bytes received so far are in `NAME.part`. `NAME.part.json` records the address and the server's validator for this
version of the file (ETag or Last-Modified). The rest is requested with Range and If-Range (RFC 9110, sections 13 and
14), so that a server whose file has changed, or that doesn't support ranges, sends the whole file. Without a validator
a download can't be resumed, and nothing is kept.
"""

import fcntl
import hashlib
import http.client
import math
import os
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, BinaryIO

import attrs

from ncsnx.errors import Hint, NcsnxError, Stopped
from ncsnx.quantities import counted
from ncsnx.storage import atomic
from ncsnx.storage.documents.document import document
from ncsnx.storage.documents.document_files import find_document, write_document
from ncsnx.work import Work

MIB = 2**20
_Check = Callable[[Path], str | None]
"""File → what is wrong with it; None if it is valid."""
_TIMEOUT_S = 60.0
_AUTHORIZATION = "Authorization"
_HINTS = {
    401: ": it requires a login",
    403: ": it requires a login, or has a quota",
    404: ": the file has moved",
    410: ": the file is gone",
    429: ": too many requests; try later",
}


class DownloadError(NcsnxError):
    """A failed download: names the file, its address, the reason, and where to put the file."""


class _Failure(Exception):
    """The reason why a download failed."""


class _BrokeOff(_Failure):
    """The connection ended too early."""


class _Changed(Exception):
    """The server's file is no longer the one that the part belongs to."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects; the authorization stays with the server that it was given for."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        redirected = super().redirect_request(req, fp, code, msg, headers, newurl)
        authorization = req.unredirected_hdrs.get(_AUTHORIZATION)
        if redirected is not None and authorization is not None and _server(newurl) == _server(req.full_url):
            redirected.add_unredirected_header(_AUTHORIZATION, authorization)
        return redirected


@document("a note of what a part belongs to")
@attrs.frozen(kw_only=True)
class PartNote:
    """NAME.part.json."""

    address: str
    mark: str
    """The server's validator for this version of the file (ETag or Last-Modified)."""


@attrs.frozen
class _Part:
    """A file being downloaded."""

    target: Path
    address: str
    authorization: str | None = attrs.field(default=None, repr=False)
    """The Authorization header for the address's server, which is written nowhere."""

    @property
    def path(self) -> Path:
        """The bytes received so far."""
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def note(self) -> Path:
        """The note beside it."""
        return self.target.with_name(f"{self.target.name}.part.json")

    def mark(self) -> str | None:
        """The server's validator for the file that the part belongs to; None if the part can't be resumed."""
        note = find_document(self.note, PartNote)
        return note.mark if note is not None and note.address == self.address else None

    def remember(self, mark: str | None) -> None:
        """Records the validator of the file about to be received."""
        if mark is None:
            self.note.unlink(missing_ok=True)
        else:
            write_document(self.note, PartNote(address=self.address, mark=mark))

    def discard(self) -> None:
        """Removes the part and its note."""
        self.note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


@attrs.frozen
class _Known:
    """Published properties of a file, against which a download is checked."""

    size: int | None
    digests: Mapping[str, str | None]
    check: _Check

    def contradiction(self, path: Path, work: Work) -> str | None:
        """Describes what is wrong with a file; None if it is valid."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"has {counted(size, 'byte')}, but the published file has {self.size:,}"
        for name, published in self.digests.items():
            if published is not None and (found := _digest(path, name, work)) != published:
                return f"has {counted(size, 'byte')} and the {name} {found}, not the published {published}"
        reason = self.check(path)
        return None if reason is None else f"has {counted(size, 'byte')} and {reason}"


def download(
    address: str,
    path: Path,
    work: Work,
    *,
    size: int | None = None,
    sha256: str | None = None,
    md5: str | None = None,
    check: _Check = lambda path: None,
    otherwise: str = "",
    authorization: str | None = None,
) -> None:
    """Downloads the file at `address` to `path` atomically; resumes where an earlier call stopped.

    size, sha256, md5: the published ones, where known. check: says what is wrong with a file, None if it is valid.
    otherwise: other ways to get the file, for the error. authorization: value of the Authorization header, which only
    the server in `address` gets, also after redirects. If `path` already exists, it is only checked. Raises
    DownloadError.
    """
    known = _Known(size, {"sha256": sha256, "md5": md5}, check)
    if path.exists():
        wrong = known.contradiction(path, work)
        if wrong is not None:
            raise DownloadError(f"{path} {wrong}; remove it, then repeat the command")
        return
    part = _Part(path, address, authorization)
    with atomic.reporting(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _receiving(part) as file:
            _transfer(part, file, work, size)
            _accept(part, known, work)
    except Stopped as stopped:
        kept = part.path.stat().st_size if part.path.exists() else 0
        name = path.name
        stopped.then = (
            f"{counted(kept, 'byte')} of {name} are kept, and the same command resumes there"
            if kept
            else f"nothing of {name} is kept, and the same command starts over"
        )
        raise
    except _Failure as failure:
        known_size = "" if size is None else f" ({counted(size, 'byte')})"
        resumes = ", which resumes where it stopped" if part.path.exists() else ""
        raise DownloadError(
            f"cannot download {path.name}{known_size} from {address}: {failure}",
            Hint(f"repeat the command{resumes}"),
            Hint(f"or get the file elsewhere and put it into {path.parent}{otherwise}"),
        ) from failure


def _accept(part: _Part, known: _Known, work: Work) -> None:
    """Moves the finished part to its final place. Raises _Failure and removes the part if it isn't the right file."""
    wrong = known.contradiction(part.path, work)
    if wrong is not None:
        part.discard()
        raise _Failure(f"the received file {wrong}")
    with atomic.reporting(part.target):
        part.path.replace(part.target)
        part.note.unlink(missing_ok=True)
        atomic.sync_folder(part.target.parent)


@contextmanager
def _receiving(part: _Part) -> Iterator[BinaryIO]:
    """The part, open for appending and locked by this process; removed afterwards if it can't be resumed."""
    with _held(part) as file:
        try:
            yield file
        finally:
            if part.path.exists() and (part.mark() is None or part.path.stat().st_size == 0):
                part.discard()


@contextmanager
def _held(part: _Part) -> Iterator[BinaryIO]:
    while True:
        with atomic.reporting(part.path):
            file = part.path.open("ab")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise NcsnxError(f"{part.target} is being downloaded by another process; wait for it") from None
            except OSError:
                pass  # some network file systems have no locks
            # another process may have finished meanwhile; then the file open here is the finished one
            if part.path.exists() and os.path.samestat(os.fstat(file.fileno()), part.path.stat()):
                yield file
                return


def _transfer(part: _Part, file: BinaryIO, work: Work, size: int | None) -> None:
    """Downloads the part; after a broken connection it asks for the rest, if that connection made progress."""
    furthest = _length(file)
    while True:
        try:
            return _attempt(part, file, work, size)
        except _Changed:
            file.truncate(0)
            part.remember(None)
        except _BrokeOff as broken:
            if part.mark() is None or _length(file) <= furthest:
                raise
            furthest = _length(file)
            work.info(f"{part.target.name}: {broken}; asking for the rest")


def _attempt(part: _Part, file: BinaryIO, work: Work, size: int | None) -> None:
    have = _length(file)
    mark = part.mark() if have else None
    headers = {"User-Agent": "ncsnx", "Accept-Encoding": "identity"}
    if mark is not None:
        headers |= {"Range": f"bytes={have}-", "If-Range": mark}
    request = urllib.request.Request(part.address, headers=headers)
    if part.authorization is not None:
        request.add_unredirected_header(_AUTHORIZATION, part.authorization)
    try:
        with urllib.request.build_opener(_Redirects).open(request, timeout=_TIMEOUT_S) as answer:
            if answer.headers.get_content_type() == "text/html":
                raise _Failure("the server sent a web page instead of the file, such as a login")
            have, total = _beginning(part, file, answer, mark)
            if total is not None and size is not None and total != size:
                raise _Failure(f"the server's file has {counted(total, 'byte')}, so it is another file")
            _receive(part, file, answer, have, size if total is None else total, work)
    except urllib.error.HTTPError as error:
        with error:  # the error is also the response, and holds the connection
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and mark is not None:
                if error.headers.get("Content-Range") == f"bytes */{have}":
                    return  # the part was already complete
                raise _Changed from error
            raise _Failure(f"the server answers {error.code} {error.reason}{_HINTS.get(error.code, '')}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Failure(_reason(error)) from error


def _beginning(
    part: _Part, file: BinaryIO, answer: http.client.HTTPResponse, mark: str | None
) -> tuple[int, int | None]:
    """(bytes of the part that the response continues, bytes of the whole file if the server says)."""
    if answer.status != http.client.PARTIAL_CONTENT:
        file.truncate(0)  # before the note is replaced: a killed process must not leave old bytes under a new note
        part.remember(_mark(answer))
        length = answer.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    have = _length(file)
    range_ = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if mark is None or range_ is None or int(range_[1]) != have:
        raise _Failure(f"the server sent another range of the file than the one from byte {have:,} on")
    if _mark(answer) not in (None, mark):
        raise _Changed
    return have, None if range_[2] == "*" else int(range_[2])


def _mark(answer: http.client.HTTPResponse) -> str | None:
    """The server's strong validator for this version of the file, if it has one."""
    tag = answer.headers.get("ETag")
    if tag is not None and not tag.startswith("W/"):
        return str(tag)
    modified = answer.headers.get("Last-Modified")
    return None if modified is None else str(modified)


def _room(part: _Part, have: int, total: int | None) -> int:
    """The most bytes that the part may get. Raises _Failure if the disk is too full."""
    room = have + shutil.disk_usage(part.path.parent).free
    if total is not None and total > room:
        raise _Failure(f"it has {counted(total, 'byte')}, and {part.path.parent} has room for {room:,}")
    return room if total is None else total


def _receive(
    part: _Part, file: BinaryIO, answer: http.client.HTTPResponse, have: int, total: int | None, work: Work
) -> None:
    """Appends the received bytes, up to `total` or as many as the disk has room for."""
    most = _room(part, have, total)
    name = f"downloading {part.target.name}"
    with work.progress(name, total=math.ceil((total or 0) / MIB), unit="MiB") as advance:
        advance(have // MIB)
        while chunk := _next(answer, have, total):
            work.check_stop()
            if have + len(chunk) > most:
                part.discard()
                raise _Failure(f"the server sent more than {counted(most, 'byte')}")
            with atomic.reporting(part.target, total):
                file.write(chunk)
                file.flush()
            advance((have + len(chunk)) // MIB - have // MIB)
            have += len(chunk)
    with atomic.reporting(part.target, total):
        os.fsync(file.fileno())
    if total is not None and have < total:
        raise _broke_off(have, total)


def _next(answer: http.client.HTTPResponse, have: int, total: int | None) -> bytes:
    try:
        return answer.read1(MIB)
    except (OSError, http.client.HTTPException) as error:
        raise _broke_off(have, total, f" ({_reason(error)})") from error


def _broke_off(have: int, total: int | None, why: str = "") -> _BrokeOff:
    whole = "an unknown number of bytes" if total is None else counted(total, "byte")
    return _BrokeOff(f"the connection ended after {have:,} of {whole}{why}")


def _server(address: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(address)
    return parts.scheme, parts.netloc


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(reason) or type(error).__name__


def _digest(path: Path, name: str, work: Work) -> str:
    digest = hashlib.new(name, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            work.check_stop()
            digest.update(chunk)
    return digest.hexdigest()


def _length(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size

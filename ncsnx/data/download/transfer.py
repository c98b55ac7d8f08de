"""Getting a file by HTTP, so that what stopped half way goes on where it was.

What has come so far is in `NAME.part`, and `NAME.part.json` says what it is the beginning of: the address, and the
server's mark for this version of the file (ETag or Last-Modified). The rest is asked for with Range and If-Range (RFC
9110, sections 13 and 14), so that a server whose file has changed, or that knows no ranges, sends it all anew. Without
such a mark nothing can go on, and nothing is kept.
"""

import fcntl
import hashlib
import http.client
import math
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import attrs

from ncsnx.errors import NcsnxError, Stopped
from ncsnx.quantities import counted
from ncsnx.storage import atomic
from ncsnx.storage.documents.document import document
from ncsnx.storage.documents.document_files import find_document, write_document
from ncsnx.work import Work

MIB = 2**20
_Check = Callable[[Path], str | None]
"""What is wrong with a file; None where nothing is."""
_TIMEOUT_S = 60.0
_HINTS = {
    401: ": it asks for a login",
    403: ": it asks for a login, or has a quota",
    404: ": the file has moved",
    410: ": the file is gone",
    429: ": too many have asked; try later",
}


class DownloadError(NcsnxError):
    """A file that can't be had: which, from where, why, and where to put it."""


class _Failure(Exception):
    """Why a file can't be had."""


class _BrokeOff(_Failure):
    """The connection ended too early."""


class _Changed(Exception):
    """What has come isn't the beginning of what the server has now."""


@document("a note of what a part belongs to")
@attrs.frozen(kw_only=True)
class PartNote:
    """What NAME.part.json says."""

    address: str
    mark: str
    """What the server calls this version of the file."""


@attrs.frozen
class _Part:
    """A file that is on its way."""

    target: Path
    address: str

    @property
    def path(self) -> Path:
        """What has come so far."""
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def note(self) -> Path:
        """What it is the beginning of."""
        return self.target.with_name(f"{self.target.name}.part.json")

    def mark(self) -> str | None:
        """The server's mark for the file that the part belongs to; None where it can't go on."""
        note = find_document(self.note, PartNote)
        return note.mark if note is not None and note.address == self.address else None

    def remember(self, mark: str | None) -> None:
        """Notes the mark of what is about to come."""
        if mark is None:
            self.note.unlink(missing_ok=True)
        else:
            write_document(self.note, PartNote(address=self.address, mark=mark))

    def discard(self) -> None:
        """Removes what has come."""
        self.note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


@attrs.frozen
class _Known:
    """What is known of a file before it comes."""

    size: int | None
    digests: Mapping[str, str | None]
    check: _Check

    def contradiction(self, path: Path, work: Work) -> str | None:
        """What is wrong with a file; None where nothing is."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"{counted(size, 'byte')}, is not the published file, which has {self.size:,}"
        for name, published in self.digests.items():
            if published is not None and (found := _digest(path, name, work)) != published:
                return f"{counted(size, 'byte')}, has the {name} {found}, not the published {published}"
        reason = self.check(path)
        return None if reason is None else f"{counted(size, 'byte')}, {reason}"


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
) -> None:
    """Gets the file at `address` into `path`, which is there whole or not at all; goes on where an earlier call ended.

    size, sha256, md5: what it must have, as far as that is published. check: says what is wrong with a file, None where
    nothing is. otherwise: other ways to have the file, for the error. A file that is there already is checked in the
    same way, and taken. Raises DownloadError.
    """
    known = _Known(size, {"sha256": sha256, "md5": md5}, check)
    if path.exists():
        wrong = known.contradiction(path, work)
        if wrong is not None:
            raise DownloadError(f"{path}, {wrong}; remove it, then repeat the command")
        return
    part = _Part(path, address)
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
            else f"nothing of {name} is kept, and the same command begins anew"
        )
        raise
    except _Failure as failure:
        known_size = "" if size is None else f" ({counted(size, 'byte')})"
        going_on = ", which resumes where it stopped" if part.path.exists() else ""
        raise DownloadError(
            f"cannot download {path.name}{known_size} from {address}: {failure}; repeat the command{going_on}, or get "
            f"the file elsewhere and put it into {path.parent}{otherwise}"
        ) from failure


def _accept(part: _Part, known: _Known, work: Work) -> None:
    """Puts what came into its place. Raises _Failure if it isn't what it should be, and removes it then."""
    wrong = known.contradiction(part.path, work)
    if wrong is not None:
        part.discard()
        raise _Failure(f"what came, {wrong}")
    with atomic.reporting(part.target):
        part.path.replace(part.target)
        part.note.unlink(missing_ok=True)
        atomic.sync_folder(part.target.parent)


@contextmanager
def _receiving(part: _Part) -> Iterator[BinaryIO]:
    """The part, open for appending and held by this process alone; removed if it is of no use afterwards."""
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
                raise NcsnxError(f"{part.target} is being downloaded by another process; wait until it ends") from None
            except OSError:
                pass  # some network file systems have no locks
            # whoever held it may have finished meanwhile; then what is open here is the finished file
            if part.path.exists() and os.path.samestat(os.fstat(file.fileno()), part.path.stat()):
                yield file
                return


def _transfer(part: _Part, file: BinaryIO, work: Work, size: int | None) -> None:
    """Fills the part; asks again as long as a connection that breaks off has brought something."""
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
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            if answer.headers.get_content_type() == "text/html":
                raise _Failure("a web page came in place of the file, such as a login")
            have, total = _beginning(part, file, answer, mark)
            if total is not None and size is not None and total != size:
                raise _Failure(f"the server has {counted(total, 'byte')}, which is another file")
            _receive(part, file, answer, have, size if total is None else total, work)
    except urllib.error.HTTPError as error:
        with error:  # it is the answer too, and holds the connection
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and mark is not None:
                if error.headers.get("Content-Range") == f"bytes */{have}":
                    return  # all had come before
                raise _Changed from error
            raise _Failure(f"the server answers {error.code} {error.reason}{_HINTS.get(error.code, '')}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Failure(_reason(error)) from error


def _beginning(
    part: _Part, file: BinaryIO, answer: http.client.HTTPResponse, mark: str | None
) -> tuple[int, int | None]:
    """The bytes of the part that the answer continues, and those of the whole file, if the server says."""
    if answer.status != http.client.PARTIAL_CONTENT:
        file.truncate(0)  # before the note is replaced: a killed process must not leave old bytes under a new mark
        part.remember(_mark(answer))
        length = answer.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    have = _length(file)
    range_ = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if mark is None or range_ is None or int(range_[1]) != have:
        raise _Failure(f"the server answers with another part of the file than that from byte {have:,} on")
    if _mark(answer) not in (None, mark):
        raise _Changed
    return have, None if range_[2] == "*" else int(range_[2])


def _mark(answer: http.client.HTTPResponse) -> str | None:
    """What the server calls this version of the file, if it is exact to the byte."""
    tag = answer.headers.get("ETag")
    if tag is not None and not tag.startswith("W/"):
        return str(tag)
    modified = answer.headers.get("Last-Modified")
    return None if modified is None else str(modified)


def _room(part: _Part, have: int, total: int | None) -> int:
    """The bytes that the part may come to have. Raises _Failure where the disk is too full."""
    room = have + shutil.disk_usage(part.path.parent).free
    if total is not None and total > room:
        raise _Failure(f"it has {counted(total, 'byte')}, and there is room for {room:,} in {part.path.parent}")
    return room if total is None else total


def _receive(
    part: _Part, file: BinaryIO, answer: http.client.HTTPResponse, have: int, total: int | None, work: Work
) -> None:
    """Appends what comes, up to `total` bytes or as many as the disk has room for."""
    most = _room(part, have, total)
    name = f"downloading {part.target.name}"
    with work.progress(name, total=math.ceil((total or 0) / MIB), unit="MiB") as advance:
        advance(have // MIB)
        while chunk := _next(answer, have, total):
            work.check_stop()
            if have + len(chunk) > most:
                part.discard()
                raise _Failure(f"more than {counted(most, 'byte')} came")
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
    return _BrokeOff(f"it broke off after {have:,} of {whole}{why}")


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

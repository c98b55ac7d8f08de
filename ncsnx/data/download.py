"""Downloads over HTTP: a file appears when it is complete and checked, or not at all."""

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import attrs

from ncsnx import bounded_reads
from ncsnx.errors import Hint, NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage import atomic
from ncsnx.work import Work

_TIMEOUT_S = 60.0
_PIECE_BYTES = 2**20


class DownloadError(NcsnxError):
    """A failed download: names the file, its address, the reason, and where to put the file."""


@attrs.frozen
class PublishedFile:
    """Address of a file, and the facts published with it."""

    address: str
    md5: str | None = None
    """Digest in hexadecimal."""
    check: Callable[[Path], str | None] = lambda path: None
    """Says what is wrong with a file; None if it is valid."""

    def contradicted(self, file: Path) -> str | None:
        """The difference of a local file from these facts, in words; None if there is none."""
        if self.md5 is not None:
            with bounded_reads.opened(file) as content:
                digest = hashlib.file_digest(content, "md5").hexdigest()
            if digest != self.md5:
                return f"({counted(file.stat().st_size, 'byte')}) has the md5 {digest}, not the published {self.md5}"
        return self.check(file)


def download(source: PublishedFile, path: Path, work: Work, *, otherwise: str = "") -> None:
    """Downloads a file to `path` atomically. otherwise: other ways to get the file, for the error.

    If `path` already exists, it is only checked. Raises DownloadError.
    """
    if path.exists():
        if (wrong := source.contradicted(path)) is not None:
            raise DownloadError(f"{path} {wrong}; remove it, then repeat the command")
        return
    atomic.make_folder(path.parent)
    try:
        with atomic.replacing(path) as temporary:
            _receive(source.address, temporary, path.name, work)
            if (wrong := source.contradicted(temporary)) is not None:
                raise OSError(f"the received file {wrong}")
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is also the response, and holds the connection
        raise DownloadError(
            f"cannot download {path.name} from {source.address}: {error}",
            Hint("repeat the command"),
            Hint(f"or get the file elsewhere and put it into {path.parent}{otherwise}"),
        ) from error


def _receive(address: str, file: Path, name: str, work: Work) -> None:
    """Writes what the server sends. Raises OSError and HTTPException."""
    request = urllib.request.Request(address, headers={"User-Agent": "ncsnx", "Accept-Encoding": "identity"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer, file.open("xb") as received:
        total = answer.length
        with work.progress(f"downloading {name}", total=total or 0, unit="bytes") as advance:
            while piece := answer.read(_PIECE_BYTES):
                work.check_stop()
                received.write(piece)
                advance(len(piece))
        if total not in (None, received.tell()):
            raise OSError(f"the connection ended after {received.tell():,} of {counted(total, 'byte')}")

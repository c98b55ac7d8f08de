"""LMDB folders, as LSUN and FFHQ come: encoded pictures by key in a file `data.mdb`, read here and written.

LMDB maps the file into memory, and reading a page beyond its end ends the process. So a file that is shorter than it
says is refused when it is opened. LMDB also forbids to have a file open twice in one process, and to use what was
opened before a fork: environments are shared within a process and opened anew in each.
"""

import os
import shutil
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

import attrs
import lmdb

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage import atomic

DATA = "data.mdb"
_LISTED_AT_ONCE = 10_000
_WRITTEN_AT_ONCE = 256
_LARGEST_BYTES = 1 << 40  # addresses that a growing file may come to need; no space is taken

_opening = threading.Lock()
_opened: "weakref.WeakValueDictionary[tuple[int, int], lmdb.Environment]" = weakref.WeakValueDictionary()


def _forget() -> None:
    """In a process that was just forked: what its parent has open isn't its own."""
    for environment in list(_opened.values()):
        environment.close()
    _opened.clear()
    _opening.release()


os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_forget)


@attrs.define(eq=False)
class LmdbStore:
    """An LMDB folder that is read. It is opened when it is first asked for something, once in every process."""

    folder: Path
    _environment: tuple[int, lmdb.Environment] | None = attrs.field(default=None, init=False)

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / DATA

    def __len__(self) -> int:
        """The number of entries."""
        with self._reporting():
            return int(self._open().stat()["entries"])

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; None where there is no such key. Raises NcsnxError for a damaged file."""
        with self._reporting(), self._open().begin() as transaction:
            value = transaction.get(key)
            return None if value is None else bytes(value)

    def keys(self, start: bytes = b"") -> Iterator[bytes]:
        """The keys from `start` on, in LMDB's order: that of their bytes."""
        with self._reporting(), self._open().begin() as transaction, transaction.cursor() as cursor:
            if cursor.set_range(start) if start else cursor.first():
                for key in cursor.iternext(keys=True, values=False):
                    yield bytes(key)

    def keys_in_batches(self) -> Iterator[list[bytes]]:
        """All keys in LMDB's order, some thousands at once."""
        keys = self.keys()
        while batch := list(islice(keys, _LISTED_AT_ONCE)):
            yield batch

    def _open(self) -> lmdb.Environment:
        if self._environment is None or self._environment[0] != os.getpid():
            self._environment = os.getpid(), _shared(self.folder)
        return self._environment[1]

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except lmdb.Error as error:
            raise damaged(self.path, str(error)) from error
        except OSError as error:
            raise NcsnxError(f"{self.path}: cannot be read: {error.strerror or error}") from error

    def __getstate__(self) -> Path:
        return self.folder

    def __setstate__(self, folder: Path) -> None:
        self.folder, self._environment = folder, None


def damaged(path: Path, found: str) -> NcsnxError:
    """The error for a file that isn't what it should be."""
    return NcsnxError(f"{path}: expected a sound LMDB file, found: {found}; get it again")


def _shared(folder: Path) -> lmdb.Environment:
    """The environment that this process has of the file."""
    status = (folder / DATA).stat()
    identity = status.st_dev, status.st_ino
    with _opening:
        environment = _opened.get(identity)
        if environment is None:
            environment = _opened[identity] = _environment(folder, status.st_size)
    return environment


def _environment(folder: Path, size: int) -> lmdb.Environment:
    if size == 0:
        raise damaged(folder / DATA, "an empty file")
    environment = lmdb.open(
        str(folder), readonly=True, create=False, lock=False, readahead=False, meminit=False, map_size=size
    )
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if size < needed:
        environment.close()
        raise damaged(folder / DATA, f"{size:,} of {counted(needed, 'byte')}")
    return environment


@contextmanager
def new_lmdb(folder: Path) -> "Iterator[Writer]":
    """Yields a writer into a new LMDB, whose file is in `folder` when the block ends well; else nothing is left.

    `folder` may hold other files. Raises NcsnxError where it can't be written, or has an LMDB already.
    """
    check_new(folder)
    is_new = not folder.exists()
    temporary = atomic.temporary_sibling(folder / DATA)
    try:
        with atomic.reporting(folder):
            temporary.mkdir(parents=True)
        with _reporting_writes(folder):
            # without a lock file, since no other process knows of the folder
            environment = lmdb.open(str(temporary), map_size=_LARGEST_BYTES, lock=False, sync=False, mode=0o644)
        try:
            yield Writer(folder, environment)
            with _reporting_writes(folder):
                environment.sync(True)
        finally:
            environment.close()
        with atomic.reporting(folder / DATA):
            (temporary / DATA).rename(folder / DATA)
            atomic.sync_folder(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise
    shutil.rmtree(temporary, ignore_errors=True)


def check_new(folder: Path) -> None:
    """Raises NcsnxError if there is an LMDB in `folder`."""
    if (folder / DATA).exists():
        raise NcsnxError(f"{folder / DATA} is there already; name another folder, or remove it")


@attrs.frozen(eq=False)
class Writer:
    """Puts entries into an LMDB that is being made."""

    folder: Path
    _environment: lmdb.Environment

    def put(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Adds (key, value) pairs. Raises NcsnxError for a key that is there already, or that LMDB can't hold."""
        entries = iter(entries)
        while batch := list(islice(entries, _WRITTEN_AT_ONCE)):
            with _reporting_writes(self.folder), self._environment.begin(write=True) as transaction:
                for key, value in batch:
                    if not transaction.put(key, value, overwrite=False):
                        raise NcsnxError(f"{self.folder}: two entries have the key {key.decode(errors='replace')!r}")


@contextmanager
def _reporting_writes(folder: Path) -> Iterator[None]:
    try:
        yield
    except lmdb.Error as error:
        raise NcsnxError(f"cannot write {folder}: {error}") from error

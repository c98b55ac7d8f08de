"""Reading and writing of LMDB folders: encoded pictures by key in a file `data.mdb`, the format of LSUN and FFHQ.

LMDB maps the file into memory, and reading a page beyond its end kills the process. A file shorter than its header says
is therefore refused when it is opened. LMDB also forbids opening a file twice in one process, and using an environment
after a fork, so environments are shared within a process and each process opens its own.
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
_LARGEST_BYTES = 1 << 40  # address space reserved for a growing file; takes no disk space

_opening = threading.Lock()
_opened: "weakref.WeakValueDictionary[tuple[int, int], lmdb.Environment]" = weakref.WeakValueDictionary()


def _forget() -> None:
    """Closes the parent's environments in a forked process."""
    for environment in list(_opened.values()):
        environment.close()
    _opened.clear()
    _opening.release()


os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_forget)


@attrs.define(eq=False)
class LmdbStore:
    """An LMDB folder to read from, opened at the first access in each process."""

    folder: Path
    _environment: tuple[int, lmdb.Environment] | None = attrs.field(default=None, init=False)

    @property
    def path(self) -> Path:
        """Path of data.mdb."""
        return self.folder / DATA

    def __len__(self) -> int:
        """Number of entries."""
        with self._reporting():
            return int(self._open().stat()["entries"])

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; None if there is no such key. Raises NcsnxError for a damaged file."""
        with self._reporting(), self._open().begin() as transaction:
            value = transaction.get(key)
            return None if value is None else bytes(value)

    def keys(self, start: bytes = b"") -> Iterator[bytes]:
        """The keys from `start` on, in LMDB's (bytewise) order."""
        with self._reporting(), self._open().begin() as transaction, transaction.cursor() as cursor:
            if cursor.set_range(start) if start else cursor.first():
                for key in cursor.iternext(keys=True, values=False):
                    yield bytes(key)

    def keys_in_batches(self) -> Iterator[list[bytes]]:
        """All keys in LMDB's order, 10,000 at a time."""
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
    """The error for a damaged LMDB file."""
    return NcsnxError(f"{path}: expected a valid LMDB file, found {found}; get a complete copy")


def _shared(folder: Path) -> lmdb.Environment:
    """This process's environment of the file."""
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
        raise damaged(folder / DATA, f"only {size:,} of {counted(needed, 'byte')}")
    return environment


@contextmanager
def new_lmdb(folder: Path) -> "Iterator[Writer]":
    """Yields a writer of a new LMDB in `folder`. If the block fails, nothing is left behind.

    `folder` may hold other files. Raises NcsnxError if it can't be written or already has an LMDB.
    """
    check_new(folder)
    is_new = not folder.exists()
    temporary = atomic.temporary_sibling(folder / DATA)
    try:
        with atomic.reporting(folder):
            temporary.mkdir(parents=True)
        with _reporting_writes(folder):
            # no lock file is needed: no other process knows of the folder
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
    """Raises NcsnxError if `folder` already has an LMDB."""
    if (folder / DATA).exists():
        raise NcsnxError(f"{folder / DATA} already exists; choose another folder, or remove it")


@attrs.frozen(eq=False)
class Writer:
    """Writer of a new LMDB."""

    folder: Path
    _environment: lmdb.Environment

    def put(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Adds (key, value) pairs. Raises NcsnxError for a key that already exists or that LMDB can't store."""
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

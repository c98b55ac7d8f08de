"""Reading of LMDB folders: encoded pictures by key in a file `data.mdb`, the format of LSUN and FFHQ.

LMDB maps the file into memory, and reading a page beyond its end kills the process. A file shorter than its header says
is therefore refused when it is opened. LMDB also forbids opening a file twice in one process, and using an environment
after a fork, so each access opens the file and closes it again, which takes a tenth of a millisecond.
"""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

import attrs
import lmdb
import numpy as np
from numpy.typing import NDArray

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage import atomic
from ncsnx.storage.cache import cache_folder
from ncsnx.work import Work

DATA = "data.mdb"
_LISTED_AT_ONCE = 10_000
_OPENING = threading.RLock()
"""LMDB opens a folder once in a process."""


@attrs.frozen
class LmdbStore:
    """An LMDB folder to read from."""

    folder: Path

    @property
    def path(self) -> Path:
        """Path of data.mdb."""
        return self.folder / DATA

    def __len__(self) -> int:
        """Number of entries."""
        with self._opened() as environment:
            return int(environment.stat()["entries"])

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; None if there is no such key. Raises NcsnxError for a damaged file."""
        with self._opened() as environment, environment.begin() as transaction:
            value = transaction.get(key)
            return None if value is None else bytes(value)

    def keys(self) -> Iterator[bytes]:
        """The keys in LMDB's (bytewise) order."""
        with self._opened() as environment, environment.begin() as transaction, transaction.cursor() as cursor:
            for key in cursor.iternext(keys=True, values=False):
                yield bytes(key)

    @contextmanager
    def _opened(self) -> Iterator[lmdb.Environment]:
        """The environment, open within the block. Raises NcsnxError, also for errors of LMDB in the block."""
        try:
            size = self.path.stat().st_size
            if size == 0:
                raise damaged(self.path, "an empty file")
            with (
                _OPENING,
                lmdb.open(
                    str(self.folder),
                    readonly=True,
                    create=False,
                    lock=False,
                    readahead=False,
                    meminit=False,
                    map_size=size,
                ) as environment,
            ):
                needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
                if size < needed:
                    raise damaged(self.path, f"only {size:,} of {counted(needed, 'byte')}")
                yield environment
        except lmdb.Error as error:
            raise damaged(self.path, str(error)) from error
        except OSError as error:
            raise NcsnxError(f"{self.path}: cannot be read: {error.strerror or error}") from error


def listed_keys(store: LmdbStore, fingerprint: str, work: Work) -> NDArray[np.bytes_]:
    """All keys of `store` in LMDB's order, which finds values by key but not by index; cached.

    They are one array: millions of Python objects would be copied into every worker. fingerprint: the LMDB's. Raises
    NcsnxError if the cache can't be written.
    """
    path, count = cache_folder() / "lmdb-keys" / f"{fingerprint}.npy", len(store)
    with suppress(OSError, ValueError, EOFError):
        keys: NDArray[np.bytes_] = np.load(path, allow_pickle=False)
        if keys.dtype.kind == "S" and keys.shape == (count,):
            return keys
    batches: list[NDArray[np.bytes_]] = []
    with work.progress(f"listing {store.folder.name}", total=count, unit="keys") as advance:
        listed = store.keys()
        while batch := list(islice(listed, _LISTED_AT_ONCE)):
            work.check_stop()
            batches.append(np.array(batch))
            advance(len(batch))
    keys, content = np.concatenate(batches), io.BytesIO()
    np.save(content, keys)
    atomic.make_folder(path.parent)
    atomic.write_bytes(path, content.getvalue())
    return keys


def damaged(path: Path, found: str) -> NcsnxError:
    """The error for a damaged LMDB file."""
    return NcsnxError(f"{path}: expected a valid LMDB file, found {found}; get a complete copy")

"""List of the keys of a large LMDB, which finds values by key but not by index.

The list is cached in a file named by the LMDB's fingerprint: MAGIC, the sha256 of the rest, the number of keys (8
bytes), the length of each (2 bytes), and the keys. Numbers are little-endian.
"""

import hashlib
from array import array
from collections.abc import Iterator
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from ncsnx.data.lmdb.lmdb_store import LmdbStore
from ncsnx.errors import NcsnxError
from ncsnx.storage import atomic, reading
from ncsnx.work import Work

_MAGIC = b"ncsnx keys 1\n"
_SHA256_BYTES, _COUNT_BYTES, _LENGTH_BYTES = 32, 8, 2


@attrs.frozen(eq=False)
class Keys:
    """Keys by index, in two blocks of memory: millions of Python objects would be copied into every worker."""

    _joined: bytes
    _ends: NDArray[np.int64]

    @classmethod
    def of(cls, joined: bytes, lengths: NDArray[np.uint16]) -> "Keys":
        """Keys from their concatenation and their lengths."""
        return cls(joined, np.cumsum(lengths, dtype=np.int64))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, place: int) -> bytes:
        return self._joined[0 if place == 0 else self._ends[place - 1] : self._ends[place]]

    def __iter__(self) -> Iterator[bytes]:
        return (self[place] for place in range(len(self)))


def listed_keys(store: LmdbStore, fingerprint: str, cache: Path, work: Work) -> Keys:
    """All keys of `store` in LMDB's order: from the cache, else listed and cached.

    A damaged list in the cache is replaced. Warns if the cache can't be written.
    """
    path = cache / "lmdb-keys" / f"{fingerprint}.keys"
    count = len(store)
    kept = _read(path)
    if kept is not None and len(kept) == count:
        return kept
    lengths, joined = array("H"), bytearray()
    with work.progress(f"listing {store.folder.name}", total=count, unit="keys") as advance:
        for batch in store.keys_in_batches():
            work.check_stop()
            lengths.extend(map(len, batch))
            joined += b"".join(batch)
            advance(len(batch))
    keys = Keys.of(bytes(joined), np.asarray(lengths, dtype=np.uint16))
    try:
        _write(path, np.asarray(lengths, dtype="<u2"), bytes(joined))
    except NcsnxError as error:
        work.warning(f"the keys of {store.folder} will be listed again next time: {error}")
    return keys


def _read(path: Path) -> Keys | None:
    """The keys in a cached file; None if it is missing or damaged."""
    try:
        content = memoryview(reading.read_bytes(path))
    except OSError:
        return None
    begin = len(_MAGIC) + _SHA256_BYTES
    body = content[begin:]
    if content[:begin] != _MAGIC + hashlib.sha256(body).digest() or len(body) < _COUNT_BYTES:
        return None
    count = int.from_bytes(body[:_COUNT_BYTES], "little")
    end = _COUNT_BYTES + _LENGTH_BYTES * count
    return Keys.of(bytes(body[end:]), np.frombuffer(body[_COUNT_BYTES:end], dtype="<u2"))


def _write(path: Path, lengths: "NDArray[np.uint16]", joined: bytes) -> None:
    body = len(lengths).to_bytes(_COUNT_BYTES, "little") + lengths.tobytes() + joined
    with atomic.reporting(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(path, _MAGIC + hashlib.sha256(body).digest() + body)

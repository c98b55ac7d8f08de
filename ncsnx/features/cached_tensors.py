"""Tensors that are computed once and cached with a record of what they are; damage is detected.

    FOLDER/NAME.safetensors  NAME.json

The record holds the sha256 of the tensors and a digest of itself.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs
from safetensors.torch import load, save
from torch import Tensor

from ncsnx.storage import atomic
from ncsnx.storage.cache import cache_lock
from ncsnx.storage.documents import document_bytes, find_document
from ncsnx.work import Work

Record = TypeVar("Record", bound=Any)


@attrs.frozen
class CachedTensors(Generic[Record]):
    """One kind of cached tensors."""

    what: str
    """Name in messages: 'the classifier'."""
    tensors: str
    record: str
    """Names of both files."""
    kind: type[Record]
    """Class of the record, a document with a field `sha256`."""

    def read(self, folder: Path) -> tuple[Record, dict[str, Tensor]] | None:
        """The record and the tensors by name; None if they are missing or damaged."""
        record = find_document(folder / self.record, self.kind)
        with suppress(OSError):
            content = (folder / self.tensors).read_bytes()
            if record is not None and record.sha256 == hashlib.sha256(content).hexdigest():
                return record, load(content)
        return None

    def opened(
        self, folder: Path, make: Callable[[], tuple[Record, dict[str, Tensor]]], work: Work
    ) -> tuple[Record, dict[str, Tensor]]:
        """The record and the tensors in `folder`, else those that `make` returns, which are then cached.

        Of two processes one makes them, and the other waits. Raises NcsnxError.
        """
        if (cached := self.read(folder)) is not None:
            return cached
        with cache_lock(folder.parent / f".{folder.name}", self.what, work):
            if (cached := self.read(folder)) is not None:
                return cached
            if folder.exists():
                work.warning(f"{folder} is damaged; {self.what} is made again")
                with atomic.reporting(folder):
                    atomic.remove_tree(folder)
            record, tensors = make()
            content = save({name: tensor.contiguous() for name, tensor in tensors.items()})
            record = attrs.evolve(record, sha256=hashlib.sha256(content).hexdigest())
            with atomic.new_folder(folder) as draft:
                atomic.write_new(draft / self.tensors, content, shown=folder / self.tensors)
                atomic.write_new(draft / self.record, document_bytes(record), shown=folder / self.record)
            return record, tensors

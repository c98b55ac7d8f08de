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

from ncsnx.errors import NcsnxError
from ncsnx.storage import atomic
from ncsnx.storage.cache import cache_lock
from ncsnx.storage.documents import document_bytes, read_document
from ncsnx.work import Work

Record = TypeVar("Record", bound=Any)


class DamagedError(NcsnxError):
    """A file of cached tensors is missing or was changed."""


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

    def read(self, folder: Path) -> tuple[Record, dict[str, Tensor]]:
        """The record and the tensors by name.

        Raises FileNotFoundError if the folder doesn't exist, DamagedError for anything wrong in it.
        """
        if not folder.exists():
            raise FileNotFoundError(folder)
        try:
            record = read_document(folder / self.record, self.kind)
            content = (folder / self.tensors).read_bytes()
        except OSError as error:
            raise DamagedError(f"{error.filename}: cannot be read: {error.strerror}") from error
        except NcsnxError as error:
            raise DamagedError(str(error)) from error
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise DamagedError(f"{folder / self.tensors}: it was changed since it was written")
        return record, load(content)

    def opened(
        self, folder: Path, make: Callable[[], tuple[Record, dict[str, Tensor]]], work: Work
    ) -> tuple[Record, dict[str, Tensor]]:
        """The record and the tensors in `folder`, else those that `make` returns, which are then cached.

        Of two processes one makes them, and the other waits. Raises NcsnxError.
        """
        with suppress(FileNotFoundError, DamagedError):
            return self.read(folder)
        with cache_lock(folder.parent / f".{folder.name}", self.what, work):
            try:
                return self.read(folder)
            except FileNotFoundError:
                pass
            except DamagedError as error:
                work.warning(f"{error}; {self.what} is made again")
                with atomic.reporting(folder):
                    atomic.remove_tree(folder)
            self._write(folder, *make())
            return self.read(folder)

    def _write(self, folder: Path, record: Record, tensors: dict[str, Tensor]) -> None:
        content = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        record = attrs.evolve(record, sha256=hashlib.sha256(content).hexdigest())
        with atomic.new_folder(folder) as draft:
            atomic.write_new(draft / self.tensors, content, shown=folder / self.tensors)
            atomic.write_new(draft / self.record, document_bytes(record), shown=folder / self.record)

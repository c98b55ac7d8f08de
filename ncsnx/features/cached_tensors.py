"""Tensors that are computed once and cached with a record of what they are; damage is detected.

    FOLDER/NAME.safetensors  NAME.json

The record holds the sha256 of the tensors and a digest of itself. FOLDER is named by a digest that contains `files`,
the number of this layout, so that caches of another one are left alone.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import attrs
from safetensors.torch import load, save
from torch import Tensor

from ncsnx.storage import atomic
from ncsnx.storage.cache import cache_lock
from ncsnx.storage.documents import document_bytes, find_document
from ncsnx.work import Work

Record = TypeVar("Record", bound=Any)


def cached_tensors(
    folder: Path, name: str, kind: type[Record], make: Callable[[], tuple[Record, dict[str, Tensor]]], work: Work
) -> tuple[Record, dict[str, Tensor]]:
    """The record and the tensors in `folder`, else those that `make` returns, which are then cached.

    Of two processes one makes them, and the other waits. name: of both files, and in messages. kind: class of the
    record, a document with a field `sha256`. Raises NcsnxError.
    """
    files = folder / f"{name}.safetensors", folder / f"{name}.json"

    def read() -> tuple[Record, dict[str, Tensor]] | None:
        record = find_document(files[1], kind)
        with suppress(OSError):
            content = files[0].read_bytes()
            if record is not None and record.sha256 == hashlib.sha256(content).hexdigest():
                return record, load(content)
        return None

    if (cached := read()) is not None:
        return cached
    with cache_lock(folder.parent / f".{folder.name}", f"the {name}", work):
        if (cached := read()) is not None:
            return cached
        if folder.exists():
            work.warning(f"{folder} is damaged; the {name} is made again")
            with atomic.reporting(folder):
                atomic.remove_tree(folder)
        record, tensors = make()
        content = save({key: tensor.contiguous() for key, tensor in tensors.items()})
        record = attrs.evolve(record, sha256=hashlib.sha256(content).hexdigest())
        with atomic.new_folder(folder) as draft:
            for path, written in zip(files, (content, document_bytes(record)), strict=True):
                atomic.write_new(draft / path.name, written, shown=path)
        return record, tensors

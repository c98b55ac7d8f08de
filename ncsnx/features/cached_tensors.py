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
from ncsnx.storage.cache import cached
from ncsnx.work import Work

Record = TypeVar("Record", bound=Any)


def cached_tensors(
    folder: Path, name: str, kind: type[Record], make: Callable[[], tuple[Record, dict[str, Tensor]]], work: Work
) -> tuple[Record, dict[str, Tensor]]:
    """The record and the tensors in `folder`, else those that `make` returns, which are then cached.

    name: of both files, and in messages. kind: class of the record, a document with a field `sha256`. Raises
    NcsnxError.
    """
    file, path, tensors = folder / f"{name}.safetensors", folder / f"{name}.json", dict[str, Tensor]()

    def still_true(record: Record) -> bool:
        with suppress(OSError):
            content = file.read_bytes()
            if record.sha256 == hashlib.sha256(content).hexdigest():
                tensors.update(load(content))
        return bool(tensors)

    def find() -> Record:
        if file.exists() or path.exists():
            work.warning(f"{folder} is damaged; the {name} is made again")
        record, made = make()
        tensors.update(made)
        content = save({key: tensor.contiguous() for key, tensor in made.items()})
        atomic.write_bytes(file, content)
        return attrs.evolve(record, sha256=hashlib.sha256(content).hexdigest())

    return cached(path, kind, find, f"the {name}", work, still_true), tensors

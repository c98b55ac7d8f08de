"""Reads files of torch, old and zipped ones, without executing anything in them.

torch's own restricted reader (`weights_only`) reads them, once stand-ins have read what they declare: alone it takes
whatever memory a small file asks for.
"""

import re
import warnings
import zipfile
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import attrs
import torch

from ncsnx import bounded_reads
from ncsnx.config.checks import is_whole
from ncsnx.errors import NcsnxError, printable, quoted
from ncsnx.exchange.model_source import MOST_BYTES
from ncsnx.exchange.pickle_reader import (
    Allowance,
    Function,
    Held,
    Reader,
    RefusedError,
    require_inside,
    require_known_instructions,
)
from ncsnx.quantities import byte_size

_PICKLES_OF_OLD_FORMAT = 5
_MOST_NUMBERS = 10_000
"""Keys that are numbers, which optimizers have: more could be made to take for ever to hash."""
_ITEM_BYTES = {"Double": 8, "Long": 8, "Float": 4, "Int": 4, "Half": 2, "BFloat16": 2, "Short": 2}
_ITEM_BYTES |= {"Char": 1, "Byte": 1, "Bool": 1}
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def read_torch_file(path: Path, kind: str) -> tuple[Any, str, int]:
    """Content, sha256 and size of an untrusted file, on the CPU; nothing in it is executed.

    Links are followed. Tensors of a file in torch's zip format are memory-mapped. kind: what was expected, in words.
    Raises NcsnxError for a damaged file, and for one that asks for code or for more memory than its size.
    """
    with bounded_reads.reading(path), bounded_reads.opened(path) as file:
        size = file.seek(0, 2)
        if size > MOST_BYTES:
            raise NcsnxError(f"{path} has {byte_size(size)}, and at most {byte_size(MOST_BYTES)} are read")
        file.seek(0)
        content = _unpickled(path, file, size, kind)
        file.seek(0)
        return content, bounded_reads.sha256(file), size


def _unpickled(path: Path, file: BufferedReader, size: int, kind: str) -> Any:
    try:
        if is_zip := file.peek(4)[:4] == b"PK\x03\x04":
            _require_harmless_zip(path, file, size, kind)
        else:
            require_harmless_old_format(file, size)
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path if is_zip else file, map_location="cpu", weights_only=True, mmap=is_zip)
    except (NcsnxError, OSError):
        raise
    except Exception as error:  # an untrusted file may raise anything
        asked = _GLOBAL.search(str(error))
        if asked or isinstance(error, RefusedError):
            raise NcsnxError(
                f"{path} is not imported: it asks for {quoted(asked[1] if asked else str(error))}, and only tensors, "
                "numbers and text of its own size are accepted; nothing in it was executed"
            ) from error
        if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
            raise NcsnxError(f"{path} declares more data than fits in memory, or is damaged") from error
        text = str(error).partition("WeightsUnpickler error:")[2].strip() or str(error).strip() or type(error).__name__
        reason = printable(text)[:160]
        raise NcsnxError(f"{path} is damaged or not {kind}: {reason}; nothing in it was executed") from error


def _require_harmless_zip(path: Path, file: BufferedReader, size: int, kind: str) -> None:
    with bounded_reads.open_zip(file, bounded_reads.FEW_MEMBERS) as archive:
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        if not stored or sum(entry.file_size for entry in archive.infolist()) > size:
            raise NcsnxError(f"{path} is a compressed zip, which torch.save does not write; expected {kind}")
        if (damaged := archive.testzip()) is not None:
            raise NcsnxError(f"{path} is damaged: the checksum of {quoted(damaged)} is wrong; get it again")
        for entry in archive.infolist():
            if entry.filename.endswith("data.pkl"):
                with archive.open(entry) as content:
                    _require_harmless(content, 1, size)


def require_harmless_old_format(file: IO[bytes], size: int, most: int | None = None) -> None:
    """Raises RefusedError for a file that asks for more than tensors, numbers and text of its own size.

    most: limit of its instructions, else that of a network.
    """
    _require_harmless(file, _PICKLES_OF_OLD_FORMAT, size, most)


def _require_harmless(file: IO[bytes], pickles: int, size: int, most: int | None = None) -> None:
    begin = file.tell()
    for _ in range(pickles):
        require_known_instructions(file, *([] if most is None else [most]))
    file.seek(begin)
    reader = _Declarations(file, size)
    for _ in range(pickles):
        reader.load()


@attrs.frozen(eq=False)
class _Storage:
    """A declared storage."""

    count: int
    item_bytes: int


class _Declarations(Reader):
    """Reads what a file declares; the sums of its storages and of its tensors are each bounded by its size."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        known = {
            "collections.OrderedDict": type("OrderedDict", (Held,), {}),
            "torch._utils._rebuild_parameter": Function(lambda data, *_: data),
            "torch._utils._rebuild_tensor_v2": Function(self._tensor),
            **{f"{module}.{name}Storage": n for module in ("torch", "torch.cuda") for name, n in _ITEM_BYTES.items()},
        }
        super().__init__(file, known, most_numbers=_MOST_NUMBERS)
        self._storages: dict[str, _Storage] = {}
        self._stored, self._seen = Allowance(size), Allowance(size)

    def persistent_load(self, pid: Any) -> _Storage:
        _, item_bytes, key, _, count, *_ = pid
        if not isinstance(key, str) or not is_whole(item_bytes) or not is_whole(count) or min(count, item_bytes) < 0:
            raise RefusedError("a storage of another form")
        if key not in self._storages:
            self._stored.take(count * item_bytes)
            self._storages[key] = _Storage(count, item_bytes)
        return self._storages[key]

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: object) -> object:
        if not isinstance(storage, _Storage):
            raise RefusedError("a tensor without a storage")
        self._seen.take(require_inside(offset, shape, strides, storage.count) * storage.item_bytes)
        return object()

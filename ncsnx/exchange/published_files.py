"""Reads checkpoint files of the published implementation without executing anything in them.

github.com/ermongroup/ncsnv2 saves `checkpoint_{step}.pth` as a pickled list: the network's state with names that begin
with `module.`, the optimizer's state (not used here), the epoch, the step and, if the model has one, the moving average
of the weights. torch's restricted reader (`weights_only`) reads it, which knows tensors, numbers, text and their
containers and calls nothing that the file names; the result is checked.
"""

import re
import warnings
import zipfile
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

import attrs
import torch
from torch import Tensor

from ncsnx import bounded_reads
from ncsnx.config.experiment import MOST_STEPS
from ncsnx.errors import NcsnxError, UsageError, quoted
from ncsnx.exchange.model_source import MOST_BYTES
from ncsnx.quantities import byte_size, listed

PREFIX = "module."
"""Prefix that torch's DataParallel adds to each name."""
_FORMAT = "expected a checkpoint of the published code: a list of network, optimizer, epoch, step and optionally EMA"
_NUMBERED = re.compile(r"checkpoint_([0-9]{1,12})\.pth")
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


@attrs.frozen(eq=False)
class PublishedCheckpoint:
    """Content of a file: tensors of float or integer types on the CPU, without the prefix `module.`."""

    path: Path
    sha256: str
    """sha256 of the file (hexadecimal)."""
    size: int
    """Size of the file in bytes."""
    network: dict[str, Tensor]
    """Parameters and buffers by their published names."""
    epoch: int
    step: int
    ema: dict[str, Tensor] | None
    """Averaged parameters; None if the file has none."""


def published_files(place: Path) -> list[Path]:
    """The file itself, or all `checkpoint_*.pth` of a folder, sorted by the number in the name. Raises UsageError."""
    try:
        if not place.is_dir():
            if not place.exists():
                raise UsageError(f"{place}: no such file or folder; expected a published checkpoint_….pth")
            return [place]
        found = sorted(place.glob("checkpoint_*.pth"), key=lambda path: (number_in(path) is None, number_in(path) or 0))
        others = sorted(path.name for path in place.glob("*.pth"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {str(place)!a}: {error}") from error
    if not found and others:
        raise UsageError(f"{place} holds no checkpoint_*.pth, but {listed(others, 4)}; give one of these files")
    if not found:
        raise UsageError(f"{place} holds no checkpoint_*.pth; give a file, or the folder of the files")
    return found


def number_in(path: Path) -> int | None:
    """The step in a file's name, or None."""
    match = _NUMBERED.fullmatch(path.name)
    return int(match[1]) if match else None


def read_published(path: Path) -> PublishedCheckpoint:
    """Reads an untrusted file; nothing in it is executed.

    Links are followed. Tensors of a file in torch's zip format are memory-mapped. Raises NcsnxError for any other
    structure than the published one, for a damaged file, and for a file that asks for code.
    """
    with bounded_reads.reading(path), bounded_reads.opened(path) as file:
        size = file.seek(0, 2)
        if size > MOST_BYTES:
            raise NcsnxError(f"{path} has {byte_size(size)}, and at most {byte_size(MOST_BYTES)} are read")
        file.seek(0)
        content = _unpickled(path, file, size)
        file.seek(0)
        return _checked(path, bounded_reads.sha256(file), size, content)


def _unpickled(path: Path, file: BufferedReader, size: int) -> Any:
    try:
        is_zip = file.peek(4)[:4] == b"PK\x03\x04"
        if is_zip:
            with bounded_reads.open_zip(file, bounded_reads.FEW_MEMBERS) as archive:
                stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
                if not stored or sum(entry.file_size for entry in archive.infolist()) > size:
                    raise NcsnxError(f"{path} is a compressed zip, which torch.save does not write; {_FORMAT}")
                if (damaged := archive.testzip()) is not None:
                    raise NcsnxError(f"{path} is damaged: the checksum of {quoted(damaged)} is wrong; get it again")
            file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path if is_zip else file, map_location="cpu", weights_only=True, mmap=is_zip)
    except (NcsnxError, OSError):
        raise
    except Exception as error:  # an untrusted file may raise anything
        if asked := _GLOBAL.search(str(error)):
            raise NcsnxError(
                f"{path} is not imported: it asks for {quoted(asked[1])}, but only tensors, numbers and text are "
                "accepted; nothing in it was executed"
            ) from error
        if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
            raise NcsnxError(f"{path} declares more data than fits in memory, or is damaged") from error
        text = str(error).partition("WeightsUnpickler error:")[2].strip() or str(error).strip() or type(error).__name__
        reason = text.splitlines()[0][:160]
        raise NcsnxError(
            f"{path} is damaged or not a published checkpoint: {reason}; nothing in it was executed"
        ) from error


def _checked(path: Path, sha256: str, size: int, content: object) -> PublishedCheckpoint:
    if not isinstance(content, list) or len(content) not in (4, 5):
        raise NcsnxError(f"{path} holds {_kind(content)}; {_FORMAT}")
    network, _, epoch, step, *rest = content
    return PublishedCheckpoint(
        path=path,
        sha256=sha256,
        size=size,
        network=_tensors(path, "network", network),
        epoch=_count(path, "epoch", epoch),
        step=_count(path, "step", step),
        ema=_tensors(path, "EMA", rest[0]) if rest and rest[0] is not None else None,
    )


def _refuse(path: Path, where: str, expected: str, found: object) -> NoReturn:
    raise NcsnxError(f"{path}: {where}: expected {expected}, found {_kind(found)}")


def _tensors(path: Path, part: str, found: object) -> dict[str, Tensor]:
    """Tensors by name, without the prefix `module.` if all names have it."""
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found):
        _refuse(path, part, "tensors by name", found)
    tensors = {name: _tensor(path, f"{part}, {quoted(name)}", value) for name, value in found.items()}
    with_prefix = [name.startswith(PREFIX) for name in tensors]
    if any(with_prefix) and not all(with_prefix):
        _refuse(path, part, f"all names or none to begin with {PREFIX!r}", found)
    return {name.removeprefix(PREFIX): value for name, value in tensors.items()}


def _tensor(path: Path, where: str, value: object) -> Tensor:
    if not isinstance(value, Tensor) or type(value) not in (Tensor, torch.nn.Parameter):
        _refuse(path, where, "a tensor", value)
    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_complex():
        raise NcsnxError(f"{path}: {where}: expected plain numbers, found a tensor of {value.dtype}, {value.layout}")
    return value.detach()


def _count(path: Path, what: str, found: object) -> int:
    if isinstance(found, Tensor) and found.dim() == 0 and found.dtype == torch.int64:
        found = int(found)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= MOST_STEPS:
        _refuse(path, what, f"a whole number from 0 to {MOST_STEPS:,}", found)
    return found


def _kind(value: object) -> str:
    """A short description of a value, whatever it holds."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape[:6])}"
    if isinstance(value, dict | list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{quoted(value)}" if isinstance(value, str | int | float) else f"a value of type {type(value).__name__}"

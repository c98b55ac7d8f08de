"""Reads checkpoint files of the published implementation without executing anything in them.

github.com/ermongroup/ncsnv2 saves `checkpoint_{step}.pth` as a pickled list: the network's state with names that begin
with `module.`, the optimizer's state, the epoch, the step and, if the model has one, the moving average of the weights.
This is the only module that reads pickled files. It uses torch's restricted reader (`weights_only`), which knows
tensors, numbers, text and their containers and calls nothing that the file names. Its result is checked here, item by
item, before it is used.
"""

import os
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import attrs
import torch
from torch import Tensor

from ncsnx.config.checks import is_whole, quoted
from ncsnx.config.experiment import MOST_STEPS
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.quantities import counted
from ncsnx.storage import reading
from ncsnx.storage.zips import FEW, open_zip

PREFIX = "module."
"""Prefix that torch's DataParallel adds to each name."""
_FORMAT = "expected a checkpoint of the published code: a list of network, optimizer, epoch, step and optionally EMA"
_ZIP = b"PK\x03\x04"
# the pickled number 0x1950a86a20f9469cfc6c: the beginning of files of torch.save before 1.6, like the published ones
_LEGACY = re.compile(rb"\x80[\x02-\x05](?:\x95.{8})?\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19\.", re.DOTALL)
_NUMBERED = re.compile(r"checkpoint_([0-9]{1,12})\.pth")
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_CHUNK = 1 << 20
_LEGACY_PICKLES = 5  # magic number, version, system, the object, and the names of its storages
_MOST_REPEATED_TUPLES = 20


@attrs.frozen(eq=False)
class PublishedOptimizer:
    """The optimizer's state, in the order of the parameters in the file's network state."""

    states: tuple[dict[str, Tensor], ...]
    """State tensors by name, one dict per parameter; a number is a tensor without dimensions."""
    settings: dict[str, Any]
    """Settings such as the learning rate, under torch's names; only numbers, None and tuples of these."""


@attrs.frozen(eq=False)
class PublishedCheckpoint:
    """Content of a file: tensors of float or integer types on the CPU, without the prefix `module.`."""

    path: Path
    sha256: str
    """sha256 of the file (hexadecimal)."""
    size: int
    """Size of the file in bytes."""
    network: dict[str, Tensor]
    """Parameters and buffers by their published names, in the file's order."""
    optimizer: PublishedOptimizer
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
        shown = ", ".join(others[:4]) + (", …" if len(others) > 4 else "")
        raise UsageError(f"{place} holds no checkpoint_*.pth, but {shown}; give one of these files")
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
    with _reading(path), reading.opened(path) as file:
        head = file.peek(64)[:64]
        is_zip = head.startswith(_ZIP)
        if not is_zip and not _LEGACY.match(head):
            raise NcsnxError(f"{path} was not written by torch.save; {_FORMAT}")
        size = os.fstat(file.fileno()).st_size
        if is_zip:
            _check_archive(path, file, size)
        else:
            _check_pickles(path, file, _LEGACY_PICKLES)
        file.seek(0)
        sha256 = reading.sha256(file)
        file.seek(0)
        content = _unpickled(path, file, is_zip)
    return _checked(path, sha256, size, content)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NcsnxError(f"cannot read {path}: {error.strerror or error}") from error


def _check_archive(path: Path, file: BufferedReader, size: int) -> None:
    """Refuses a zip that torch didn't write, that would expand in memory, or that is damaged."""
    try:
        with open_zip(file, FEW) as archive:
            entries = archive.infolist()
            names = {entry.filename.partition("/")[2] for entry in entries}
            if "constants.pkl" in names or any(name.startswith("code/") for name in names):
                raise NcsnxError(f"{path} is a TorchScript archive, which holds code and is not loaded; {_FORMAT}")
            if "data.pkl" not in names:
                raise NcsnxError(f"{path} is a zip that torch.save did not write; {_FORMAT}")
            grown = sum(entry.file_size for entry in entries)
            if grown > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise NcsnxError(f"{path} is a compressed zip, which torch.save does not write; {_FORMAT}")
            for entry in entries:
                if entry.filename.endswith("/data.pkl"):
                    with archive.open(entry) as data:
                        _check_pickles(path, data, 1)
                with archive.open(entry) as data:  # reading to the end verifies the checksum
                    while data.read(_CHUNK):
                        pass
    except (NcsnxError, OSError):
        raise
    # for a damaged file, zipfile may raise anything
    except Exception as error:
        raise _damaged(path, error) from error


def _check_pickles(path: Path, stream: IO[bytes], count: int) -> None:
    """Refuses nested tuples that repeat a tuple: a hundred bytes can expand to so many items that hashing never ends.

    torch.save repeats no tuples.
    """
    try:
        for _ in range(count):
            tuples: set[Any] = set()
            repeated, before = 0, ""
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name in ("BINPUT", "LONG_BINPUT") and "TUPLE" in before:
                    tuples.add(argument)
                repeated += opcode.name in ("BINGET", "LONG_BINGET") and argument in tuples
                before = opcode.name
            if repeated > _MOST_REPEATED_TUPLES:
                raise NcsnxError(f"{path} is not imported: it repeats tuples, which torch.save does not; {_FORMAT}")
    except (NcsnxError, OSError):
        raise
    # for a damaged file, pickletools may raise anything
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> NcsnxError:
    return NcsnxError(f"{path} is damaged: {_first_line(error)}", Hint("get it again"))


def _unpickled(path: Path, file: BufferedReader, is_zip: bool) -> Any:
    # memory-mapping needs a path: this one is the opened file, even if the original path was replaced
    handle = Path(f"/proc/self/fd/{file.fileno()}")
    name = str(handle if handle.exists() else path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(name if is_zip else file, map_location="cpu", weights_only=True, mmap=is_zip)
    except MemoryError as error:
        raise _too_large(path) from error
    # an untrusted file may raise anything
    except Exception as error:
        text = str(error)
        if asked := _GLOBAL.search(text):
            raise NcsnxError(
                f"{path} is not imported: it asks for {quoted(asked[1])}, but only tensors, numbers and text are "
                "accepted; nothing in it was executed"
            ) from error
        if "DefaultCPUAllocator" in text:
            raise _too_large(path) from error
        raise NcsnxError(
            f"{path} is damaged or not a published checkpoint: {_first_line(error)}; nothing in it was executed"
        ) from error


def _too_large(path: Path) -> NcsnxError:
    return NcsnxError(f"{path} declares more data than fits in memory, or is damaged; nothing in it was executed")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    # before the reason, torch advises loading without these checks
    reason = next((line for line in lines if line.strip().startswith("WeightsUnpickler error:")), lines[0])
    text = reason.strip().removeprefix("WeightsUnpickler error:").strip()
    shown = text if len(text) <= 160 else f"{text[:150]}…"
    return shown or type(error).__name__


# ---------------------------------------------------------------------------------------- checks of the content


def _checked(path: Path, sha256: str, size: int, content: object) -> PublishedCheckpoint:
    if type(content) is not list or len(content) not in (4, 5):
        found = f"a list of {len(content)}" if type(content) is list else _kind(content)
        raise NcsnxError(f"{path} holds {found}; {_FORMAT}")
    network = _without_prefix(path, "network", _tensors(path, "network", content[0]))
    ema = content[4] if len(content) == 5 else None
    return PublishedCheckpoint(
        path=path,
        sha256=sha256,
        size=size,
        network=network,
        optimizer=_optimizer(path, content[1]),
        epoch=_count(path, "epoch", content[2]),
        step=_count(path, "step", content[3]),
        ema=None if ema is None else _without_prefix(path, "EMA", _tensors(path, "EMA", ema)),
    )


def _tensors(path: Path, part: str, found: object) -> dict[str, Tensor]:
    if not isinstance(found, dict) or not found:
        raise NcsnxError(f"{path}: expected the {part} as tensors by name, found {_kind(found)}")
    tensors = {}
    for name, value in found.items():
        if not isinstance(name, str):
            raise NcsnxError(f"{path}: expected names in the {part}, found {_kind(name)}")
        tensors[name] = _tensor(path, f"{part}, {quoted(name)}", value)
    return tensors


def _tensor(path: Path, where: str, value: object) -> Tensor:
    if not isinstance(value, Tensor) or type(value) not in (Tensor, torch.nn.Parameter):
        raise NcsnxError(f"{path}: {where}: expected a tensor, found {_kind(value)}")
    plain = value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized
    if not plain or value.is_complex():
        raise NcsnxError(
            f"{path}: {where}: expected plain numbers, found a tensor of {value.dtype}, {value.layout}, {value.device}"
        )
    return value.detach()


def _without_prefix(path: Path, part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    count = sum(name.startswith(PREFIX) for name in tensors)
    if count == 0:
        return tensors
    if count < len(tensors):
        odd = next(name for name in tensors if not name.startswith(PREFIX))
        raise NcsnxError(
            f"{path}: {count} of the {part}'s {counted(len(tensors), 'name')} begin with {PREFIX!r}, but others such "
            f"as {quoted(odd)} do not; expected all of them or none"
        )
    return {name.removeprefix(PREFIX): value for name, value in tensors.items()}


def _optimizer(path: Path, found: object) -> PublishedOptimizer:
    match found:
        case {"state": dict(state), "param_groups": [dict(group)]}:
            numbers = group.get("params")
            if type(numbers) is list and all(map(is_whole, numbers)) and len(set(numbers)) == len(numbers):
                return _by_position(path, state, numbers, group)
        case {"state": dict(), "param_groups": list(groups)}:
            raise NcsnxError(f"{path}: expected one group of parameters in the optimizer, found {len(groups)}")
    raise NcsnxError(
        f"{path}: expected the state of torch's optimizer (state, param_groups with params), found {_kind(found)}"
    )


def _by_position(path: Path, state: Mapping[Any, Any], numbers: list[int], group: dict[Any, Any]) -> PublishedOptimizer:
    """The states in the order of `numbers`: 0, 1, 2 … in current torch, memory addresses in torch 1.5."""
    if strangers := [key for key in state if key not in set(numbers)]:
        raise NcsnxError(
            f"{path}: the optimizer has states for {counted(len(strangers), 'parameter')} that it does not list"
        )
    states = tuple(_parameter_state(path, place, state.get(number, {})) for place, number in enumerate(numbers))
    settings = {key: value for key, value in group.items() if isinstance(key, str) and _is_setting(value)}
    return PublishedOptimizer(states, settings)


def _parameter_state(path: Path, place: int, found: object) -> dict[str, Tensor]:
    where = f"optimizer, parameter {place}"
    if not isinstance(found, dict):
        raise NcsnxError(f"{path}: {where}: expected tensors by name, found {_kind(found)}")
    kept: dict[str, Tensor] = {}
    for key, value in found.items():
        if not isinstance(key, str) or "/" in key:
            shown = quoted(key) if isinstance(key, str) else _kind(key)
            raise NcsnxError(f"{path}: {where}: expected a name such as exp_avg, found {shown}")
        if value is None:  # SGD without momentum
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST_STEPS
        kept[key] = torch.tensor(float(value)) if number else _tensor(path, f"{where}, {quoted(key)}", value)
    return kept


def _is_setting(value: object) -> bool:
    if isinstance(value, tuple):
        return len(value) <= 8 and all(map(_is_setting, value))
    return value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) <= MOST_STEPS)


def _count(path: Path, what: str, found: object) -> int:
    if isinstance(found, Tensor) and type(found) is Tensor and found.dim() == 0 and found.dtype == torch.int64:
        found = int(found)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= MOST_STEPS:
        shown = quoted(found) if isinstance(found, int | float | str) else _kind(found)
        raise NcsnxError(f"{path}: expected a whole number from 0 to {MOST_STEPS:,} as the {what}, found {shown}")
    return found


def _kind(value: object) -> str:
    """A short description of a value, whatever it holds."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape[:6])}"
    if isinstance(value, dict | list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a value of type {type(value).__name__}"

"""Reads checkpoint files of the published implementation without executing anything in them.

github.com/ermongroup/ncsnv2 saves `checkpoint_{step}.pth` as a pickled list: the network's state with names that begin
with `module.`, the optimizer's state (not used here), the epoch, the step and, if the model has one, the moving average
of the weights. torch's restricted reader (`weights_only`) reads it, which knows tensors, numbers, text and their
containers and calls nothing that the file names; the result is checked.
"""

import re
from pathlib import Path
from typing import NoReturn

import attrs
import torch
from torch import Tensor

from ncsnx.config.experiment import MOST_STEPS
from ncsnx.errors import NcsnxError, UsageError, quoted
from ncsnx.exchange.torch_files import read_torch_file
from ncsnx.quantities import listed

PREFIX = "module."
"""Prefix that torch's DataParallel adds to each name."""
_FORMAT = "expected a checkpoint of the published code: a list of network, optimizer, epoch, step and optionally EMA"
_NUMBERED = re.compile(r"checkpoint_([0-9]{1,12})\.pth")


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

    Raises NcsnxError for any other structure than the published one, and as `read_torch_file`.
    """
    content, sha256, size = read_torch_file(path, "a published checkpoint")
    return _checked(path, sha256, size, content)


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

"""Reads network pickles of NVIDIA's published code without executing anything in them.

Such a file (`torch_utils.persistence`) holds for each module the text of the Python file that defines it, which the
published reader executes. Here it is thrown away: see `pickle_reader`.
"""

import io
import mmap
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ncsnx import bounded_reads
from ncsnx.errors import NcsnxError, quoted
from ncsnx.exchange.model_source import MOST_BYTES
from ncsnx.exchange.pickle_reader import (
    Allowance,
    Function,
    Held,
    Ignored,
    Reader,
    RefusedError,
    require_inside,
    require_known_instructions,
)
from ncsnx.exchange.torch_files import require_harmless_old_format
from ncsnx.quantities import byte_size

_MOST_IN_STORAGE = 200
"""Instructions in the pickles of a storage, which are 56 in a published network."""
_MOST_DEPTH = 12


@attrs.frozen(eq=False)
class NetworkPickle:
    """Content of a file."""

    sha256: str
    size: int
    class_name: str
    """Name of the outermost class, such as 'EDMPrecond'."""
    arguments: dict[str, Any]
    """Keywords of its constructor that are numbers, text, None and short lists of them."""
    tensors: dict[str, Tensor]
    """Parameters and buffers by name."""


@attrs.frozen(eq=False)
class _Module:
    """A module of the published code, by the name of its class and its state."""

    name: object
    state: object


def _module(meta: object) -> _Module:
    if not isinstance(meta, dict):
        raise RefusedError("an object without a description")
    return _Module(meta.get("class_name"), meta.get("state"))


def _storage(content: object, loaded: Allowance) -> Any:
    """The storage of a tensor, which torch saved in its old format inside the pickle."""
    if not isinstance(content, bytes) or content[:2] == b"PK":
        raise RefusedError("a storage in another form than torch's old one")
    loaded.take(len(content))
    require_harmless_old_format(io.BytesIO(content), len(content), _MOST_IN_STORAGE)
    storage: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.storage.TypedStorage):
        raise RefusedError("a storage that is none")
    return storage


def _tensor(seen: Allowance, storage: Any, offset: Any, shape: Any, strides: Any, *_: object) -> Tensor:
    if not isinstance(storage, torch.storage.TypedStorage):
        raise RefusedError("a tensor without a storage")
    count = require_inside(offset, shape, strides, len(storage))
    seen.take(count * storage.element_size())  # type: ignore[no-untyped-call]
    whole: Any = storage
    found: Tensor = torch.empty(0, dtype=storage.dtype).set_(whole.untyped(), offset, shape, strides)
    return found


def _stand_ins(size: int) -> dict[str, object]:
    """Names that a file of this size may use, with new stand-ins for each, so that none can change that of the next."""
    held, ignored = (type(base.__name__, (base,), {}) for base in (Held, Ignored))
    numpy = ("dtype", "core.multiarray.scalar", "core.multiarray._reconstruct", "ndarray")
    return {
        "torch_utils.persistence._reconstruct_persistent_obj": Function(_module),
        "torch.nn.modules.container.ModuleDict": held,
        "torch.nn.modules.container.ModuleList": held,
        "collections.OrderedDict": held,
        "dnnlib.util.EasyDict": held,
        "torch._utils._rebuild_parameter": Function(lambda data, *_: data),
        "torch._utils._rebuild_tensor_v2": Function(partial(_tensor, Allowance(size))),
        "torch.storage._load_from_bytes": Function(partial(_storage, loaded=Allowance(size))),
        **{f"numpy.{name}": ignored for name in numpy},
        **{f"numpy._{name}": ignored for name in numpy if name.startswith("core.")},
    }


def read_network_pickle(path: Path) -> NetworkPickle:
    """Reads the averaged network of an untrusted file; nothing in it is executed. Raises NcsnxError."""
    with bounded_reads.reading(path), bounded_reads.opened(path) as file:
        size = file.seek(0, 2)
        if not 0 < size <= MOST_BYTES:
            raise NcsnxError(f"{path} has {byte_size(size)}; expected a network of at most {byte_size(MOST_BYTES)}")
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
            network = _unpickled(path, content)
        file.seek(0)
        sha256 = bounded_reads.sha256(file)
    network = network.get("ema") if isinstance(network, dict) else None
    if not isinstance(network, _Module) or not isinstance(network.name, str) or not isinstance(network.state, dict):
        raise NcsnxError(f"{path} holds no averaged network; expected a pickled dictionary with 'ema'")
    arguments = network.state.get("_init_kwargs")
    return NetworkPickle(
        sha256=sha256,
        size=size,
        class_name=network.name[:80],
        arguments={k: v for k, v in arguments.items() if _is_plain(v)} if isinstance(arguments, dict) else {},
        tensors=dict(_tensors(path, network, "", set())),
    )


def _unpickled(path: Path, content: mmap.mmap) -> Any:
    try:
        require_known_instructions(content)
        content.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # typed storages are deprecated, and what the files hold
            return Reader(content, _stand_ins(len(content))).load()
    except RefusedError as error:
        raise NcsnxError(
            f"{path} is not imported: it asks for {quoted(str(error))}, which no published network needs; nothing in "
            "it was executed"
        ) from error
    except OSError:
        raise
    except Exception as error:  # an untrusted file may raise anything
        raise NcsnxError(f"{path} is damaged or no published network; nothing in it was executed") from error


def _tensors(path: Path, found: object, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers of a module and its parts, by name.

    seen: modules so far, none of which may be a part again: a file could hold a cycle.
    """
    state = getattr(found, "state", None) if isinstance(found, _Module | Held) else None
    if not isinstance(state, dict) or id(found) in seen or prefix.count(".") > _MOST_DEPTH:
        raise NcsnxError(f"{path}: {quoted(prefix)} is no module")
    seen.add(id(found))
    for kind in ("_parameters", "_buffers", "_modules"):
        entries = state.get(kind, {})
        if not isinstance(entries, Mapping) or not all(isinstance(name, str) for name in entries):
            raise NcsnxError(f"{path}: the {kind} of {quoted(prefix)} are no parts by name")
        for name, entry in entries.items():
            if isinstance(entry, Tensor) and kind != "_modules":
                yield prefix + name, entry
            elif entry is not None:
                yield from _tensors(path, entry, f"{prefix}{name}.", seen)


def _is_plain(value: object) -> bool:
    values = value if isinstance(value, list | tuple) else [value]
    return len(values) <= 32 and all(one is None or isinstance(one, bool | int | float | str) for one in values)

"""Reads network pickles of NVIDIA's published code without executing anything in them.

Such a file (`torch_utils.persistence`) holds for each module the text of the Python file that defines it, which the
published reader executes. Here each object that a file may name is replaced by one that only holds what it is given,
and any other name is refused; the text is thrown away. First every instruction of the pickle is looked at: few kinds
are needed, and these can't ask for more memory than the file has bytes.
"""

import io
import itertools
import mmap
import pickle
import pickletools
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import attrs
import torch
from torch import Tensor

from ncsnx import bounded_reads
from ncsnx.config.checks import is_whole
from ncsnx.errors import NcsnxError, quoted
from ncsnx.exchange.model_source import MOST_BYTES
from ncsnx.quantities import byte_size

_MOST_INSTRUCTIONS = 1_000_000
"""A network of 56 million parameters has some 40,000."""
_PICKLES_OF_STORAGE = 5
_MOST_IN_STORAGE = 200
"""Instructions in the pickles of a storage, which are 56 in a published network."""
_MOST_DEPTH = 12
_LONGEST_TUPLE = 64
_INSTRUCTIONS = frozenset(
    re.findall(
        r"\w+",
        """PROTO FRAME STOP MARK MEMOIZE BINGET LONG_BINGET BINPUT LONG_BINPUT NONE NEWTRUE NEWFALSE BININT BININT1
        BININT2 LONG1 BINFLOAT SHORT_BINUNICODE BINUNICODE SHORT_BINBYTES BINBYTES BINBYTES8 EMPTY_DICT EMPTY_LIST
        EMPTY_TUPLE EMPTY_SET TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS ADDITEMS GLOBAL STACK_GLOBAL
        REDUCE BUILD NEWOBJ""",
    )
)
"""Instructions of published networks."""


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


class _RefusedError(Exception):
    """A file asks for what isn't read."""


class _Held(dict[Any, Any]):
    """A container, or an object by its state."""

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Ignored:
    """An object whose content doesn't matter."""

    def __init__(self, *ignored: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


@attrs.frozen(eq=False)
class _Module:
    """A module of the published code, by the name of its class and its state."""

    name: object
    state: object

    def __setstate__(self, state: object) -> NoReturn:
        raise _RefusedError("a state for a finished object")


@attrs.frozen(eq=False)
class _Function:
    """A function of ours in place of one that the file names."""

    function: Callable[..., object]

    def __call__(self, *arguments: object) -> object:
        return self.function(*arguments)

    def __setstate__(self, state: object) -> NoReturn:
        raise _RefusedError("a state for a function")


def _module(meta: object) -> _Module:
    if not isinstance(meta, dict):
        raise _RefusedError("an object without a description")
    return _Module(meta.get("class_name"), meta.get("state"))


def _storage(content: object) -> Any:
    """The storage of a tensor, which torch saved in its old format inside the pickle."""
    if not isinstance(content, bytes) or content[:2] == b"PK":
        raise _RefusedError("a storage in another form than torch's old one")
    header = io.BytesIO(content)
    instructions = itertools.chain.from_iterable(pickletools.genops(header) for _ in range(_PICKLES_OF_STORAGE))
    if any(number > _MOST_IN_STORAGE for number, _ in enumerate(instructions)):
        raise _RefusedError(f"more than {_MOST_IN_STORAGE} instructions for a storage")
    storage: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.storage.TypedStorage) or storage.nbytes() > len(content):  # type: ignore[no-untyped-call]
        raise _RefusedError("a storage that is none")
    return storage


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: object) -> Tensor:
    if not isinstance(storage, torch.storage.TypedStorage) or not all(isinstance(o, tuple) for o in (shape, strides)):
        raise _RefusedError("a tensor without a storage")
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(is_whole(number) and 0 <= number < 2**62 for number in numbers):
        raise _RefusedError("a tensor of another form")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 not in shape and last >= len(storage):  # torch would enlarge the storage
        raise _RefusedError("a tensor beyond its storage")
    whole: Any = storage
    found: Tensor = torch.empty(0, dtype=storage.dtype).set_(whole.untyped(), offset, shape, strides)
    return found


def _stand_ins() -> dict[str, object]:
    """Names that a file may use, with new stand-ins for each file, so that none can change that of the next."""
    held, ignored = (type(base.__name__, (base,), {}) for base in (_Held, _Ignored))
    numpy = ("dtype", "core.multiarray.scalar", "core.multiarray._reconstruct", "ndarray")
    return {
        "torch_utils.persistence._reconstruct_persistent_obj": _Function(_module),
        "torch.nn.modules.container.ModuleDict": held,
        "torch.nn.modules.container.ModuleList": held,
        "collections.OrderedDict": held,
        "dnnlib.util.EasyDict": held,
        "torch._utils._rebuild_parameter": _Function(lambda data, *_: data),
        "torch._utils._rebuild_tensor_v2": _Function(_tensor),
        "torch.storage._load_from_bytes": _Function(_storage),
        **{f"numpy.{name}": ignored for name in numpy},
        **{f"numpy._{name}": ignored for name in numpy if name.startswith("core.")},
    }


class _Reader(pickle._Unpickler):  # in Python, so that it can be stopped and looked into
    """An unpickler that knows the stand-ins and nothing else.

    Keys are text, and tuples are short and flat: to hash others could take for ever.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self._known = _stand_ins()

    def find_class(self, module: str, name: str, /) -> Any:
        if (found := self._known.get(f"{module}.{name}")) is None:
            raise _RefusedError(f"{module}.{name}")
        return found

    def persistent_load(self, pid: object) -> NoReturn:
        raise _RefusedError("an object outside the file")


def _with_flat_tuple(load: Callable[[Any], None]) -> Callable[[Any], None]:
    def checked(reader: Any) -> None:
        load(reader)
        made = reader.stack[-1]
        inner = [one for one in made if isinstance(one, tuple)]
        if len(made) > _LONGEST_TUPLE or any(isinstance(one, tuple) for each in inner for one in each):
            raise _RefusedError("a tuple that is long or deep")

    return checked


def _with_text_keys(load: Callable[[Any], None], keys: slice) -> Callable[[Any], None]:
    """keys: their places on the stack."""

    def checked(reader: Any) -> None:
        if not all(isinstance(key, str) for key in reader.stack[keys]):
            raise _RefusedError("a key that is no text")
        load(reader)

    return checked


for _code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
    _Reader.dispatch[_code[0]] = _with_flat_tuple(_Reader.dispatch[_code[0]])
_Reader.dispatch[pickle.SETITEM[0]] = _with_text_keys(_Reader.dispatch[pickle.SETITEM[0]], slice(-2, -1))
_Reader.dispatch[pickle.SETITEMS[0]] = _with_text_keys(_Reader.dispatch[pickle.SETITEMS[0]], slice(0, None, 2))
_Reader.dispatch[pickle.ADDITEMS[0]] = lambda reader: reader.pop_mark()  # no set is read


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
        _require_harmless(content)
        content.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # typed storages are deprecated, and what the files hold
            return _Reader(content).load()
    except _RefusedError as error:
        raise NcsnxError(
            f"{path} is not imported: it asks for {quoted(str(error))}, which no published network needs; nothing in "
            "it was executed"
        ) from error
    except OSError:
        raise
    except Exception as error:  # an untrusted file may raise anything
        raise NcsnxError(f"{path} is damaged or no published network; nothing in it was executed") from error


def _require_harmless(content: mmap.mmap) -> None:
    """Raises _RefusedError for instructions that no published network has, and for an index that takes much memory."""
    for number, (instruction, argument, _) in enumerate(pickletools.genops(content)):  # type: ignore[arg-type]
        if instruction.name not in _INSTRUCTIONS:
            raise _RefusedError(f"the instruction {instruction.name}")
        index = argument if instruction.name.endswith("BINPUT") else 0
        if max(number, int(index or 0)) > _MOST_INSTRUCTIONS:
            raise _RefusedError(f"more than {_MOST_INSTRUCTIONS:,} instructions")


def _tensors(path: Path, found: object, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers of a module and its parts, by name.

    seen: modules so far, none of which may be a part again: a file could hold a cycle.
    """
    state = getattr(found, "state", None) if isinstance(found, _Module | _Held) else None
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

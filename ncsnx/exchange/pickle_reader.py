"""Reads strangers' pickles by stand-ins, so that nothing in them is executed and they take about their size in memory.

First every instruction is looked at: few kinds are needed, and these can't ask for more memory than the file has bytes.
Then each object that a file may name is replaced by one that only holds what it is given, and any other name is
refused. What storages and tensors declare is counted: a network isn't larger than its file.
"""

import math
import pickle
import pickletools
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import attrs

from ncsnx.config.checks import is_whole

_MOST_INSTRUCTIONS = 250_000
"""A network of 56 million parameters has some 40,000; 300,000 names of tensors would take many seconds."""
_LONGEST_TUPLE = 64
_INSTRUCTIONS = frozenset(
    re.findall(
        r"\w+",
        """PROTO FRAME STOP MARK MEMOIZE BINGET LONG_BINGET BINPUT LONG_BINPUT NONE NEWTRUE NEWFALSE BININT BININT1
        BININT2 LONG1 BINFLOAT SHORT_BINUNICODE BINUNICODE SHORT_BINBYTES BINBYTES BINBYTES8 EMPTY_DICT EMPTY_LIST
        EMPTY_TUPLE EMPTY_SET TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS ADDITEMS GLOBAL STACK_GLOBAL
        REDUCE BUILD NEWOBJ BINPERSID""",
    )
)
"""Instructions of published networks and of torch's files."""


class RefusedError(Exception):
    """A file asks for what isn't read."""


class Held(dict[Any, Any]):
    """A container, or an object by its state. It begins empty: a file could have one list copied again and again."""

    def __init__(self, *contents: object) -> None:
        if contents:
            raise RefusedError("a container with contents")
        super().__init__()

    def __setstate__(self, state: object) -> None:
        self.state = state


class Ignored:
    """An object whose content doesn't matter."""

    def __init__(self, *ignored: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


@attrs.frozen(eq=False)
class Function:
    """A function of ours in place of one that the file names."""

    function: Callable[..., object]

    def __call__(self, *arguments: object) -> object:
        return self.function(*arguments)


@attrs.define
class Allowance:
    """Bytes that a file may still declare."""

    left: int

    def take(self, count: int) -> None:
        """Raises ValueError beyond the file's size, as of a truncated file."""
        self.left -= count
        if self.left < 0:
            raise ValueError("it declares more numbers than it has bytes")


class Reader(pickle._Unpickler):  # in Python, so that it can be stopped and looked into
    """An unpickler that knows the stand-ins and nothing else.

    Keys are text, or a few numbers, and tuples are short and flat: to hash others could take for ever.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: Any, known: Mapping[str, object], *, most_numbers: int = 0) -> None:
        super().__init__(file)
        self._known, self.numbers_left = known, most_numbers

    def find_class(self, module: str, name: str, /) -> Any:
        if (found := self._known.get(f"{module}.{name}")) is None:
            raise RefusedError(f"{module}.{name}")
        return found

    def persistent_load(self, pid: object) -> Any:
        raise RefusedError("an object outside the file")


def _with_flat_tuple(load: Callable[[Any], None]) -> Callable[[Any], None]:
    def checked(reader: Any) -> None:
        load(reader)
        made = reader.stack[-1]
        inner = [one for one in made if isinstance(one, tuple)]
        if len(made) > _LONGEST_TUPLE or any(isinstance(one, tuple) for each in inner for one in each):
            raise RefusedError("a tuple that is long or deep")

    return checked


def _with_plain_keys(load: Callable[[Any], None], keys: slice) -> Callable[[Any], None]:
    """keys: their places on the stack."""

    def checked(reader: Any) -> None:
        others = [key for key in reader.stack[keys] if not isinstance(key, str)]
        reader.numbers_left -= len(others)
        if reader.numbers_left < 0 or not all(map(is_whole, others)):
            raise RefusedError("a key that is no text")
        load(reader)

    return checked


def _with_stand_in(load: Callable[[Any], None]) -> Callable[[Any], None]:
    def checked(reader: Any) -> None:
        if not isinstance(reader.stack[-2], Held | Ignored):
            raise RefusedError("a state for a finished object")
        load(reader)

    return checked


for _code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
    Reader.dispatch[_code[0]] = _with_flat_tuple(Reader.dispatch[_code[0]])
Reader.dispatch[pickle.SETITEM[0]] = _with_plain_keys(Reader.dispatch[pickle.SETITEM[0]], slice(-2, -1))
Reader.dispatch[pickle.SETITEMS[0]] = _with_plain_keys(Reader.dispatch[pickle.SETITEMS[0]], slice(0, None, 2))
Reader.dispatch[pickle.BUILD[0]] = _with_stand_in(Reader.dispatch[pickle.BUILD[0]])
Reader.dispatch[pickle.ADDITEMS[0]] = lambda reader: reader.pop_mark()  # no set is read


def require_known_instructions(content: Any, most: int = _MOST_INSTRUCTIONS) -> None:
    """Raises RefusedError for instructions that no published file has, and for an index that takes much memory.

    content: a file at the beginning of a pickle; afterwards it is at its end.
    """
    for number, (instruction, argument, _) in enumerate(pickletools.genops(content)):
        if instruction.name not in _INSTRUCTIONS:
            raise RefusedError(f"the instruction {instruction.name}")
        index = argument if instruction.name.endswith("BINPUT") else 0
        if max(number, int(index or 0)) > most:
            raise RefusedError(f"more than {most:,} instructions")


def require_inside(offset: Any, shape: Any, strides: Any, count: int) -> int:
    """The number of values of a tensor. Raises RefusedError unless it lies inside its storage of `count` numbers."""
    if not isinstance(shape, tuple) or not isinstance(strides, tuple) or len(shape) != len(strides):
        raise RefusedError("a tensor of another form")
    if not all(is_whole(number) and 0 <= number < 2**62 for number in (offset, *shape, *strides)):
        raise RefusedError("a tensor of another form")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 not in shape and last >= count:  # torch would enlarge the storage
        raise RefusedError("a tensor beyond its storage")
    return math.prod(shape)

"""Commands as classes, whose fields are the parameters on the command line and in Python.

    @command("steps")
    @attrs.frozen(slots=False, kw_only=True)
    class Steps(OfRun, Command[Lines]):
        '''List the steps of a run's checkpoints, one per line.'''

        def carry_out(self, work: Work) -> Lines: ...

    steps = as_function(Steps)

The class's docstring is the help. A field that the command line has is declared by `option` or `argument`, and the
string under it is its help; other fields are Python's alone. Groups of fields that commands share are base classes: see
`ncsnx.commands.groups`. In help texts, `name` in backticks is a parameter, which the command line shows as its option.

A package names the module of its command by an entry point of the group `ncsnx.commands`. Such a module is imported
when a command is typed that ncsnx doesn't have, and for the help.
"""

import inspect
import re
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, wraps
from importlib import import_module
from keyword import iskeyword
from numbers import Integral
from pathlib import Path
from pkgutil import iter_modules
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    ForwardRef,
    Generic,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)

import attrs

from ncsnx.docstrings import field_docstring
from ncsnx.errors import UsageError, quoted, require_between
from ncsnx.registering import entry_points_of, import_modules_of
from ncsnx.spelling import parameter
from ncsnx.stopping import stopped_by

if TYPE_CHECKING:
    from ncsnx.work import Work


class Panel:
    """Panels of help texts: of `ncsnx --help`, then those that several commands have."""

    TRAIN = "Train and sample"
    EVALUATE = "Evaluate"
    DATA = "Data"
    RUNS = "Experiments, runs and models"
    PACKAGES = "Installed packages"
    IMAGES = "Checkpoints and images"
    MEASUREMENT = "Noise and truth"
    FOLDERS = "Folders"
    EXECUTION = "Execution"
    OUTPUT = "Output"
    FILMS = "Frames and films"
    TASK = "Picture (give one)"
    SCIENCE = "Scientific measurements"
    RARE = "Rarely needed"


GROUPS = {"data": "Inspect, check, pack and download data sets."}
"""Word of a group of commands → its help."""
LAST = 1_000
"""Place of commands that don't name one: after the commands of ncsnx."""
PLUGINS = "ncsnx.commands"
"""Group of entry points."""
FROM_THE_START = "the same command starts from the beginning"
BATCHES = "finished batches are kept, and the same command resumes after them"

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
C = TypeVar("C", bound="type[Command[Any]]")
Parse = Callable[[str], object]


@attrs.frozen(kw_only=True)
class Declaration:
    """How the command line takes a parameter."""

    is_argument: bool = False
    panel: str | None = None
    """Panel of the help."""
    metavar: str | None = None
    names: tuple[str, ...] = ()
    """Options; by default the field's name, with --no-NAME for a bool whose default isn't False."""
    default: str | None = None
    """Default in words, where None stands for it."""
    parse: Parse | None = None
    """Checks and converts what was typed; raises UsageError. None: Typer converts it to the field's type."""
    complete: str | None = None
    """The kind of words that the shell completes, as `ncsnx.cli.completion` names them."""
    roots: tuple[str, ...] = ()
    """First parts of the fields that are completed; none: all of an experiment."""
    between: tuple[int, int] | None = None
    """Least and greatest value, checked in Python too."""
    is_list: bool = False
    """Whether it takes several words."""
    is_common: bool = False
    """Whether `ncsnx help options` explains it instead of each command's help."""


def option(
    panel: str,
    metavar: str | None = None,
    *names: str,
    default: str | None = None,
    parse: Parse | None = None,
    **others: Any,
) -> Declaration:
    """A field as an option: `n: Annotated[int, option(Panel.IMAGES, "N")] = 64`. others: fields of Declaration."""
    return Declaration(panel=panel, metavar=metavar, names=names, default=default, parse=parse, **others)


def argument(metavar: str, **others: Any) -> Declaration:
    """A field as an argument without a name. others: fields of Declaration."""
    return Declaration(is_argument=True, metavar=metavar, **others)


@attrs.frozen(kw_only=True)
class Parameter:
    """A field of a command that the command line takes."""

    name: str
    type: Any
    default: Any
    declaration: Declaration
    text: str
    """Docstring of the field."""

    @property
    def options(self) -> tuple[str, ...]:
        """Names on the command line, the one for messages first; none for an argument."""
        if self.declaration.is_argument:
            return ()
        if self.declaration.names:
            return self.declaration.names
        name = self.name.replace("_", "-")
        is_flag = self.type is bool or self.type == bool | None
        return (f"--{name}/--no-{name}",) if is_flag and self.default is not False else (f"--{name}",)


def parameters_of(kind: type) -> list[Parameter]:
    """The fields that the command line takes: arguments, then options by panel, the class's own first."""
    own = vars(kind).get("__annotations__", {})
    found = [
        Parameter(
            name=field.name,
            type=field.type.__origin__,
            default=... if field.default is attrs.NOTHING else field.default,
            declaration=declared[0],
            text=field_docstring(kind, field.name),
        )
        for field in attrs.fields(kind)
        if (declared := [one for one in getattr(field.type, "__metadata__", ()) if isinstance(one, Declaration)])
    ]
    last = (Panel.SCIENCE, Panel.FILMS, Panel.EXECUTION, Panel.FOLDERS, Panel.OUTPUT, Panel.RARE)
    has_task = any(one.declaration.panel == Panel.TASK for one in found)
    first = (Panel.TASK,) if has_task else (Panel.IMAGES, Panel.MEASUREMENT)

    def place(one: Parameter) -> tuple[bool, int, bool]:
        if one.declaration.is_argument:
            return False, 0, False
        panel = one.declaration.panel
        return True, last.index(panel) + 1 if panel in last else -(panel in first), one.name not in own

    return sorted(found, key=place)


@attrs.frozen(slots=False, kw_only=True, eq=False)
class Command(Generic[R]):
    """A command with the values of its parameters."""

    registered: "ClassVar[Registration]"

    progress: bool | None = None
    """Whether to show messages and progress; default: in terminals and notebooks."""
    work: "Work | None" = None
    """Progress, messages and stop of the call, in place of the console and of signals."""

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(type(self)):
            value, declared = getattr(self, field.name), field.type
            if isinstance(value, Integral) and not isinstance(value, int):  # of NumPy
                value = int(value)
                object.__setattr__(self, field.name, value)
            if value is not field.default:
                _require_type(field.name, value, _plain(declared))
            for one in getattr(declared, "__metadata__", ()):
                if isinstance(one, Declaration) and one.between is not None and value is not None:
                    require_between(field.name, value, *one.between)

    def carry_out(self, work: "Work") -> R:
        """Does the work and returns its result, on rank 0; see `RankGroup.end_others`. Raises NcsnxError, Stopped."""
        raise NotImplementedError


@attrs.define(kw_only=True)
class Registration:
    """A command as it is declared: its place in `ncsnx --help`, and how it is run. It is the decorator `command`, which
    registers the class.

    The first line of the class's docstring stands in the help. The decorator raises ValueError for a name that is
    taken.
    """

    name: str = attrs.field(kw_only=False)
    """Words that are typed: 'fid', 'data pack'."""
    panel: str = Panel.PACKAGES
    order: int = LAST
    """Orders the help, ascending; a panel stands where its first command does."""
    then: str = FROM_THE_START
    """Clause on the same command after a stop by a signal, unless the work itself says it more precisely."""
    is_shared: bool = False
    """Whether several ranks can share the work; otherwise it runs on rank 0."""
    kind: type[Command[Any]] = attrs.field(init=False)

    def __call__(self, kind: C) -> C:
        """Registers the class, and returns it unchanged."""
        self.kind = kind
        if _commands.setdefault(self.name, self) != self:
            raise ValueError(f"the command {self.name!r} already exists")
        kind.registered = self
        return kind


command = Registration
_commands: dict[str, Registration] = {}


@cache
def built_in_commands() -> tuple[Registration, ...]:
    """The commands of ncsnx, in the order of the help."""
    import_modules_of("ncsnx.commands")
    return tuple(sorted(_commands.values(), key=lambda one: (one.order, one.name)))


def built_in_command(word: str) -> list[Registration]:
    """The command of ncsnx of this name, or those of this group; none where there is none. Imports no other's file."""
    file = f"{word}_" if iskeyword(word) else word
    if file not in {module.name for module in iter_modules(import_module("ncsnx.commands").__path__)}:
        return []
    import_module(f"ncsnx.commands.{file}")
    return [one for one in _commands.values() if one.name.partition(" ")[0] == word]


def plugin_commands() -> tuple[list[Registration], list[str]]:
    """The commands of installed packages, and a line for each package whose module can't be imported."""
    if not entry_points_of(PLUGINS):
        return [], []
    from ncsnx.config.variants import plugin_errors

    built_in = built_in_commands()
    errors = plugin_errors(PLUGINS)
    found = [one for one in _commands.values() if one not in built_in]
    return sorted(found, key=lambda one: (one.order, one.name)), errors


def as_function(kind: Callable[P, Command[R]]) -> Callable[P, R]:
    """The command as a Python function of its parameters.

    Ctrl-C raises KeyboardInterrupt once the work that is done is saved; the same call then resumes.
    """
    signature, fields = inspect.signature(kind), ordered_fields(kind)
    order = [field.name for field in fields]
    parameters = sorted(signature.parameters.values(), key=lambda one: order.index(one.name))
    plain = [one.replace(annotation=_shown(_plain(one.annotation))) for one in parameters]

    @wraps(kind, updated=())
    def call(*args: P.args, **given: P.kwargs) -> R:
        from ncsnx.console.python_call import python_call

        try:
            signature.bind(*args, **given)
        except TypeError as error:
            hint = "; changes are one text or a list, such as 'steps=50 seed=1'" if "changes" in order else ""
            raise TypeError(f"ncsnx.{call.__name__}: {error}{hint}") from None
        asked = kind(*args, **given)
        surroundings = python_call(asked.progress) if asked.work is None else nullcontext(asked.work)
        with surroundings as work:
            with stopped_by(work.check_stop):
                result = asked.carry_out(work)
            if problem := getattr(result, "problem", bool)():
                work.warning(str(problem))
            return result

    call.__name__ = call.__qualname__ = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()
    texts = [f"{field.name}: {' '.join(field_docstring(cast(type, kind), field.name).split())}" for field in fields]
    call.__doc__ = "\n\n".join([inspect.cleandoc(kind.__doc__ or ""), "\n".join(texts)])
    call.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=plain, return_annotation=_shown(_result_of(kind))
    )
    return call


def ordered_fields(kind: Any) -> "list[attrs.Attribute[Any]]":
    """The fields in the order of their explanation: those without a name, those of the help, those of Python alone."""
    order = [one.name for one in parameters_of(kind)]
    fields = attrs.fields(kind)
    places = {field.name: place for place, field in enumerate(fields)}

    def place(field: "attrs.Attribute[Any]") -> tuple[bool, bool, int]:
        index = order.index(field.name) if field.name in order else len(order) + places[field.name]
        return bool(field.kw_only), field.name == "progress", places[field.name] if not field.kw_only else index

    return sorted(fields, key=place)


def _plain(annotation: Any) -> Any:
    """The type without its declaration."""
    return annotation.__origin__ if hasattr(annotation, "__metadata__") else annotation


def _shown(annotation: Any) -> Any:
    """The type as it is written."""
    return annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else annotation


def _result_of(kind: Any) -> Any:
    """The class of a command's result."""
    bases = [base for base in kind.__orig_bases__ if get_origin(base) is Command]
    return get_args(bases[0])[0]


_IN_WORDS = {int: "an int", float: "a number", bool: "True or False", str: "text", Path: "a path", NoneType: "None"}


def _require_type(name: str, value: object, declared: Any) -> None:
    """Raises UsageError for a value of another type, which Python may give. Types that are names aren't checked."""
    kinds = get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)
    words = []
    for kind in kinds:
        if get_origin(kind) is Literal:
            words += [repr(word) for word in get_args(kind)]
            matches = value in get_args(kind)
        elif kind == tuple[int, int]:
            words.append("two ints")
            matches = isinstance(value, tuple | list) and [type(one) for one in value] == [int, int]
        elif kind in _IN_WORDS:
            words.append(_IN_WORDS[kind])
            accepted = (int, float) if kind is float else kind
            matches = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
        else:
            return
        if matches:
            return

    raise UsageError(f"{parameter(name)} must be {' or '.join(words)}, not {quoted(value)}")

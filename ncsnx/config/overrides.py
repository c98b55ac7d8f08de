"""Overrides of configuration values from the command line: `optimizer=sgd optimizer.momentum=0.8 steps=50k`.

The order doesn't matter: variants are applied first, then fields. Each text is parsed by the declared type of its
field. A new variant starts from its defaults; a value without a default that both variants have is kept, such as σ_1
when the spacing of the levels changes, and so are the classes that another sampler draws.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, get_args, get_origin

import attrs

from ncsnx.config.codec import ConfigError, flatten, shown
from ncsnx.config.converter import did_you_mean, optional_of, problems_in_words, structure, unstructure
from ncsnx.config.feature_networks import Features
from ncsnx.config.image_sizes import ImageSize, parsed_size
from ncsnx.config.origins import COMMAND_LINE, DEFAULT, is_default
from ncsnx.config.sampler import Sampler
from ncsnx.config.variants import (
    OUTSIDE_IDENTITY,
    TAG,
    Config,
    is_family,
    plugin_errors,
    saved_variant,
    tag_of,
    variants,
)
from ncsnx.errors import Hint, UsageError, quoted
from ncsnx.quantities import parsed_integer, them
from ncsnx.spelling import parameter

T = TypeVar("T", bound=Config)

_NUMBER = re.compile(r"[+-]?([0-9]+(_[0-9]+)*(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


class OverrideError(UsageError):
    """An override that can't be applied; the message names its path."""


@attrs.frozen
class Override:
    """One `path=text` word of the command line."""

    path: str
    text: str

    @property
    def parts(self) -> list[str]:
        return self.path.split(".")


def changed_words(changes: str | Sequence[str]) -> list[str]:
    """The words FIELD=VALUE of changes, which may be one text of words as they are typed. Raises UsageError."""
    if not isinstance(changes, Sequence):  # Python may give anything
        raise UsageError(f"changes must be text such as 'steps=50', or a list of it, not {quoted(changes)}")
    try:
        words = shlex.split(changes) if isinstance(changes, str) else list(changes)
    except ValueError as error:
        raise UsageError(f"changes {quoted(changes)}: {error}") from error
    for word in words:
        if not isinstance(word, str):
            raise UsageError(f"a change must be text such as 'steps=50', not {quoted(word)}")
    return words


def parse_overrides(arguments: list[str]) -> list[Override]:
    """Splits `path=text` words. Raises OverrideError for a word without `=` and for a path that is given twice."""
    overrides: dict[str, Override] = {}
    for argument in arguments:
        path, equals, text = argument.partition("=")
        if not equals or not path:
            raise OverrideError(f"{quoted(argument)}: expected FIELD=VALUE, such as steps=50k or optimizer.lr=1e-4")
        if path in overrides:
            raise OverrideError(
                f"{path}: given twice, as {quoted(overrides[path].text)} and {quoted(text)}; give it once"
            )
        overrides[path] = Override(path, text)
    return list(overrides.values())


def apply_overrides(config: T, overrides: list[Override]) -> T:
    """A configuration with the overrides applied. Raises OverrideError."""
    plugin_errors()  # loads plug-ins, whose variants the overrides may name
    _refuse_contradictions(overrides)
    root = type(config)
    values = unstructure(config)
    for override in sorted(overrides, key=lambda one: (one.path.count("."), one.path)):  # variants before their fields
        _apply(override, root, values)
    try:
        return structure(values, root)
    except ConfigError as error:
        adds = " ".join(f"{path}=…" for path in error.missing)
        hints = [Hint(f"add {them(len(error.missing))}", adds=adds)] if adds else []
        raise OverrideError(problems_in_words(error.problems), *hints) from error


def apply_with_origins(config: T, origins: Mapping[str, str], overrides: list[Override]) -> tuple[T, dict[str, str]]:
    """A configuration with the overrides applied, and the origins of its values. Raises OverrideError.

    origins: those of the values of `config`.
    """
    changed = apply_overrides(config, overrides)
    after = flatten(unstructure(changed))
    known = {path: origins.get(path, DEFAULT) for path, value in flatten(unstructure(config)) if (path, value) in after}
    known |= {override.path: COMMAND_LINE for override in overrides}
    return changed, {path: known.get(path, DEFAULT) for path, _ in after}


def split_overrides(overrides: list[Override], root: str) -> tuple[list[Override], list[Override]]:
    """The overrides whose path begins with `root`, and the others."""
    under = [override for override in overrides if override.parts[0] == root]
    return under, [override for override in overrides if override not in under]


@attrs.frozen
class _Sampling(Config):
    """The root of `sampler…` paths."""

    sampler: Sampler


def apply_sampler_overrides(sampler: Sampler, overrides: list[Override]) -> Sampler:
    """The sampler of a trained model, with other values, or another one. Raises OverrideError for other paths."""
    for override in overrides:
        if override.parts[0] != "sampler":
            is_field = override.path in {field.name for field in attrs.fields(type(sampler))}
            such = f"sampler.{override.path}={override.text}" if is_field else "sampler.denoise=false"
            raise OverrideError(
                f"{override.path}: cannot change in a trained run; only the sampler can, such as {such}"
            )
    return apply_overrides(_Sampling(sampler), overrides).sampler


@attrs.frozen(kw_only=True)
class Scoring(Config):
    """The root of `features…` paths, which commands that measure change beside the experiment."""

    features: Features = attrs.field(metadata=OUTSIDE_IDENTITY)
    """A network that maps images to feature vectors and optionally to logits."""


def chosen_features(given: Features | str | None, default: Features, settings: Sequence[Override] = ()) -> Features:
    """The features that are meant, with changes of their fields. given: TAG or TAG:FILE as text; None: the default.

    Raises OverrideError, which lists the valid ones.
    """
    if not isinstance(given, Features | str | None):
        raise UsageError(
            f"{parameter('features')} must be a configuration such as ncsnx.config.Classifier(), or text such as "
            f"'classifier', not {quoted(given)}"
        )
    base, overrides = given if isinstance(given, Features) else default, list[Override]()
    if isinstance(given, str):
        tag, colon, file = given.partition(":")
        field = getattr(variants(Features).get(tag), "typed", "file")
        overrides = [Override("features", tag), *([Override(f"features.{field}", file)] if colon else [])]
    return apply_overrides(Scoring(features=base), [*overrides, *settings]).features


_PARSERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    bool: ({"true": True, "false": False}.get, "true or false"),
    int: (parsed_integer, "a whole number such as 500, 50k or 1.5M"),
    ImageSize: (parsed_size, "a whole number such as 64, or height and width such as 8,12"),
    float: (lambda text: float(text) if _NUMBER.fullmatch(text) else None, "a finite number such as 0.8 or 1e-4"),
    str: (lambda text: text, "text"),
}
"""Type → the value of a text, None for one that isn't accepted; and what is accepted."""


def parse_text(text: str, declared: Any, path: str) -> Any:
    """Text of the command line as a value of the declared type. Raises OverrideError, which says what is accepted."""
    inner = optional_of(declared)
    if inner is not None:
        return None if text.lower() == "none" else parse_text(text, inner, path)
    if get_origin(declared) is Literal:
        return _one_of(text, [str(option) for option in get_args(declared)], path)
    if (known := _PARSERS.get(declared)) is not None:
        parsed, expected = known[0](text), known[1]
        if parsed is None:
            raise OverrideError(f"{path}: expected {expected}, found {quoted(text)}")
        return parsed
    if get_origin(declared) is tuple:
        (kind, *_) = get_args(declared)
        inside = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        return tuple(parse_text(item.strip(), kind, path) for item in inside.split(",")) if inside else ()
    raise OverrideError(f"{path}: cannot be set from the command line; set it in the experiment's file")


def _one_of(text: str, accepted: list[str], path: str, missing: str = "") -> str:
    """`text`, if it is accepted. missing: end of the message, about variants that couldn't be loaded."""
    if text in accepted:
        return text
    hint = did_you_mean(text, accepted)
    raise OverrideError(f"{path}: expected one of {', '.join(accepted)}, found {quoted(text)}{hint}{missing}")


# ------------------------------------------------------------------------------------------- finding the field


def _apply(override: Override, root: type[Config], values: dict[str, Any]) -> None:
    cls, parts, known = root, override.parts, [path for path, _ in flatten(values)]
    for depth, part in enumerate(parts, start=1):
        field = attrs.fields_dict(cls).get(part)
        if field is None:
            fields = [".".join([*parts[: depth - 1], one.name]) for one in attrs.fields(cls)]
            raise unknown_field(override.path, [*known, *fields], f" in {tag_of(cls) or cls.__name__}")
        optional = optional_of(field.type)
        declared: Any = optional or field.type
        if depth == len(parts):
            _set(override, field, declared, values, is_off=optional is not None and override.text.lower() == "none")
            return
        if not (isinstance(declared, type) and issubclass(declared, Config)):
            raise OverrideError(f"{override.path}: {'.'.join(parts[:depth])} is a single value without fields")
        _fill(values, field)
        if values.get(part) is None and is_family(declared):
            raise OverrideError(f"{override.path}: no such field, since {'.'.join(parts[:depth])} is none")
        values[part] = values.get(part) or {}  # a part that was turned off starts from its defaults
        values = values[part]
        cls = saved_variant(declared, values) or declared


def _set(
    override: Override, field: "attrs.Attribute[Any]", declared: Any, values: dict[str, Any], *, is_off: bool
) -> None:
    """Sets a field. declared: its type where it isn't none."""
    if is_off:
        values[field.name] = None
    elif is_family(declared):
        _fill(values, field)
        missing = "".join(f"; {error}" for error in plugin_errors())
        tag, held = _one_of(override.text, list(variants(declared)), override.path, missing), values.get(field.name)
        if held is None or variants(declared)[tag] is not saved_variant(declared, held):  # None: it was turned off
            values[field.name] = _swapped(declared, tag, held)
    elif isinstance(declared, type) and issubclass(declared, Config):
        accepted = ", ".join(f"{override.path}.{inner.name}=…" for inner in attrs.fields(declared))
        off = f", or {override.path}=none" if declared is not field.type else ""
        raise OverrideError(f"{override.path}: is a group of fields; set {accepted}{off}")
    else:
        values[field.name] = parse_text(override.text, field.type, override.path)


def _fill(values: dict[str, Any], field: "attrs.Attribute[Any]") -> None:
    """Writes out the default of a field that has no value yet, because its variant was just selected."""
    factory = getattr(field.default, "factory", None)
    if field.name not in values and factory is not None:
        default = factory()
        values[field.name] = unstructure(default) if isinstance(default, Config) else default


def _refuse_contradictions(overrides: list[Override]) -> None:
    off = {override.path for override in overrides if override.text.lower() == "none"}
    for override in overrides:
        parents = {".".join(override.parts[:depth]) for depth in range(1, len(override.parts))}
        for parent in parents & off:
            raise OverrideError(f"{override.path}: cannot be combined with {parent}=none; give only one of them")


def _swapped(family: type[Config], tag: str, before: dict[str, Any] | None) -> dict[str, Any]:
    if before is None:
        return {TAG: tag}
    old, new = saved_variant(family, before), variants(family)[tag]
    assert old is not None, "structured"
    kept = {
        field.name: before[field.name]
        for field in attrs.fields(new)
        if (field.default is attrs.NOTHING or "omitted" in field.metadata)
        and (same := attrs.fields_dict(old).get(field.name))
        and same.type == field.type
        and field.name in before
    }
    return {TAG: tag, **kept}


def as_words(sampler: Sampler) -> str:
    """The overrides that select a sampler: its tag, and every value that isn't its default."""
    return " ".join([f"sampler={tag_of(type(sampler))}", *_changed(sampler, "sampler")])


def _changed(config: Config, prefix: str) -> Iterator[str]:
    for field in attrs.fields(type(config)):
        path, value = f"{prefix}.{field.name}", getattr(config, field.name)
        if isinstance(value, Config):
            if type(value) is not type(field.default.factory()):
                yield f"{path}={tag_of(type(value))}"
            yield from _changed(value, path)
        elif not is_default(field, value):
            yield f"{path}={shown(value)}"


def unknown_field(path: str, known: Iterable[str], where: str = "") -> OverrideError:
    """The error for a path that isn't among the known ones: the name elsewhere, else similar paths, else siblings."""
    paths = list(dict.fromkeys(known))
    name, inner = path.rpartition(".")[2], [one for one in paths if not path.startswith(f"{one}.")]
    near = [one for one in inner if one.rpartition(".")[2] == name] or get_close_matches(path, inner, n=1, cutoff=0.8)
    parent = path.rpartition(".")[0]
    while parent and not any(one.startswith(f"{parent}.") for one in paths):
        parent = parent.rpartition(".")[0]
    siblings = [one for one in paths if one.rpartition(".")[0] == parent]
    if path == "epochs":
        near = ["steps"]  # trainings are counted in optimizer steps
    hint = f"did you mean {' or '.join(near)}?" if near else f"there is {', '.join(siblings)}"
    return OverrideError(f"{path}: no such field{where}; {hint}")

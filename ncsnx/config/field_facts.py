"""Facts about the fields of the configuration, from their declarations, and the answers to `FIELD=?`."""

import inspect
import re
import textwrap
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import attrs

from ncsnx.config.checks import Check
from ncsnx.config.codec import shown
from ncsnx.config.converter import optional_of
from ncsnx.config.experiment import Experiment
from ncsnx.config.overrides import Scoring, unknown_field
from ncsnx.config.variants import Config, is_family, plugin_errors, tag_of, variants
from ncsnx.docstrings import field_docstring

_TYPES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    tuple[int, int]: "HEIGHT,WIDTH",
    tuple[int, ...]: "whole numbers, joined by commas",
    tuple[float, ...]: "numbers, joined by commas",
    NoneType: "none",
}


@attrs.frozen(kw_only=True)
class FieldFact:
    """A field at one place of an experiment."""

    path: str
    """Dotted path, as in an override."""
    type: str
    """Type in words."""
    default: str | None
    """Default as text; None: the field is required."""
    accepted: str
    """Accepted values in words; empty where the type says all."""
    values: dict[str, str]
    """Word that may be typed after `=` → a line about it; empty where any value of the type may be."""
    text: str
    """Docstring."""
    identity: bool
    """Whether the field is part of the identity."""
    of: str
    """Tag of the variant that has the field; empty outside of variants."""


def alternatives(declared: Any) -> tuple[Any, ...]:
    """The types that a union joins; the declared type alone if it isn't a union."""
    return get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)


def facts_of(cls: type[Config], prefix: str = "", inside: bool = True) -> list[FieldFact]:
    """The facts of all fields of a class. prefix: the beginning of their paths. inside: in the identity?"""
    return [
        FieldFact(
            path=f"{prefix}{field.name}",
            type=_in_words(field.type),
            default=None if field.default is attrs.NOTHING else _default(field.default),
            accepted=accepted_by(field),
            values=_values(field.type),
            text=field_docstring(cls, field.name),
            identity=inside and field.metadata.get("identity", True) is True,
            of=tag_of(cls) or "",
        )
        for field in attrs.fields(cls)
    ]


def facts_below(cls: type[Config], prefix: str = "", inside: bool = True) -> Iterator[FieldFact]:
    """The facts of all fields of a class and of its parts, in every variant of them."""
    for field, fact in zip(attrs.fields(cls), facts_of(cls, prefix, inside), strict=True):
        yield fact
        declared = optional_of(field.type) or field.type
        for part in variants(declared).values() if is_family(declared) else _config(declared):
            yield from facts_below(part, f"{fact.path}.", fact.identity)


def first_sentence(text: str) -> str:
    """The first sentence of a docstring, in one line."""
    return re.split(r"(?<=\.)(?<!al\.)\s", " ".join(inspect.cleandoc(text).partition("\n\n")[0].split()))[0]


def accepted_by(field: Any) -> str:
    """Accepted values, in the words of the field's check; '' where the type says all."""
    for part in alternatives(field.type):
        if get_origin(part) is Literal or is_family(part):
            return ", ".join(_values(part))
    checks = getattr(field.validator, "_validators", (field.validator,))  # of attrs.validators.and_
    return next((check.accepted(field) for check in checks if isinstance(check, Check)), "")


def _config(declared: Any) -> tuple[type[Config], ...]:
    return (declared,) if isinstance(declared, type) and issubclass(declared, Config) else ()


def _values(declared: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in alternatives(declared):
        if get_origin(part) is Literal:
            found |= {str(value): "" for value in get_args(part)}
        elif is_family(part):
            found |= {tag: first_sentence(inspect.getdoc(one) or "") for tag, one in variants(part).items()}
        elif part is bool:
            found |= {"true": "", "false": ""}
        elif part is NoneType:
            found["none"] = "no value"
    return found


def _in_words(declared: Any) -> str:
    names: list[str] = []
    for part in alternatives(declared):
        if get_origin(part) is Literal or is_family(part):
            names.append("a word")
        elif _config(part):
            names.append("a group of fields")
        else:
            names.append(_TYPES.get(part, str(part)))
    return " or ".join(names)


def _default(default: Any) -> str:
    factory = getattr(default, "factory", None)
    value = default if factory is None else factory()
    if isinstance(value, Config):
        return tag_of(type(value)) or "on"
    return shown(value)


_QUESTION = re.compile(r"([A-Za-z_][\w.]*)=\?")


def asked_path(word: object) -> str | None:
    """The path in a word of the form `PATH=?`; None for any other value."""
    match = _QUESTION.fullmatch(word) if isinstance(word, str) else None
    return None if match is None else match[1]


def all_facts() -> list[FieldFact]:
    """Every field that an override may name, in every variant; those of the installed packages too."""
    plugin_errors()  # loads plug-ins, whose variants count
    return [*facts_below(Experiment), *facts_below(Scoring)]


def answer(path: str) -> list[str]:
    """Lines about a field of an experiment. Raises OverrideError with near matches for a field that doesn't exist."""
    known = all_facts()
    found = [fact for fact in known if fact.path == path]
    if not found:
        raise unknown_field(path, [fact.path for fact in known])
    groups: dict[tuple[str, str, str | None], list[FieldFact]] = {}
    for fact in found:
        groups.setdefault((fact.text, fact.accepted, fact.default), []).append(fact)
    lines: list[str] = []
    for same in groups.values():
        of = ", ".join(dict.fromkeys(fact.of for fact in same if fact.of)) if len(groups) > 1 else ""
        lines += [
            *([""] if lines else []),
            *described(same[0], f" (with {path.rpartition('.')[0]}={of})" if of else ""),
        ]
    if inner := dict.fromkeys(fact.path for fact in known if fact.path.rpartition(".")[0] == path):
        lines += ["", f"fields: {', '.join(inner)}"]
    return lines


def described(fact: FieldFact, remark: str = "") -> Iterator[str]:
    """A paragraph about a field: type, default, accepted values, identity, docstring. remark: after the path."""
    facts = [fact.type, f"default {fact.default}" if fact.default is not None else "required"]
    if fact.accepted and not fact.values:
        facts.insert(1, fact.accepted)
    facts.append("part of the identity" if fact.identity else "outside the identity")
    yield f"{fact.path}{remark}: {'; '.join(facts)}"
    for paragraph in fact.text.split("\n\n"):
        yield from textwrap.wrap(" ".join(paragraph.split()), 96, initial_indent="    ", subsequent_indent="    ")
    values = {} if "true" in fact.values else fact.values
    width = max(map(len, values), default=0)
    yield from (f"  {value:<{width}}  {line}".rstrip() for value, line in values.items())

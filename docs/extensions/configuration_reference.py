"""All configuration classes in Markdown: what `ncsnx.config` registers, with type, default and accepted values of every
field, whether it belongs to a run's identity, and the docstring under it.
"""

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import attrs

import ncsnx.config
from ncsnx.config import Experiment
from ncsnx.config.feature_networks import Features
from ncsnx.config.field_facts import accepted_by, alternatives, field_docstring
from ncsnx.config.variants import Config, is_family, variants


def markdown() -> str:
    uses = _uses(Experiment)
    lines = list(_overview(uses))
    for cls, paths in {Experiment: [("", True)], **uses, Features: []}.items():
        places = [f"`{path}`" for path, _ in paths if path]
        identity = {inside for _, inside in paths}
        lines += [f"## {cls.__name__}{f': {places[0]}' if places else ''}", ""]
        lines += [f"Also: {', '.join(places[1:])}.", ""] if places[1:] else []
        lines += ["*All fields are outside the identity.*", ""] if identity == {False} else []
        lines += _class(cls, identity, attrs.fields(cls))
        if is_family(cls):
            common = {field.name for field in attrs.fields(cls)}
            key = paths[0][0] if paths else "--features"
            for tag, variant in variants(cls).items():
                lines += [f"### `{key}{' ' if key.startswith('-') else '='}{tag}`", ""]
                own = [field for field in attrs.fields(variant) if field.name not in common]
                lines += _class(variant, identity, own)
                lines += (
                    [f"And the fields of {{py:class}}`{cls.__name__} <{_public_name(cls)}>`.", ""] if common else []
                )
    return "\n".join(lines)


def _overview(uses: dict[type[Config], list[tuple[str, bool]]]) -> Iterator[str]:
    """A table of the parts of an experiment, with links to the variants or the fields of each."""
    yield from ("| part | variants, or fields |", "|---|---|")
    for cls, paths in uses.items():
        first, *others = [path for path, _ in paths]
        places = ", ".join([f"{{py:class}}`{first} <{_public_name(cls)}>`", *(f"`{path}`" for path in others)])
        if is_family(cls):
            links = [f"{{py:class}}`{tag} <{_public_name(variant)}>`" for tag, variant in variants(cls).items()]
        else:
            names = [field.name for field in attrs.fields(cls)]
            links = [f"{{py:attr}}`{name} <{_public_name(cls)}.{name}>`" for name in names]
        yield f"| {places} | {', '.join(links)} |"
    yield ""


def _uses(cls: type[Config], path: str = "", inside: bool = True) -> dict[type[Config], list[tuple[str, bool]]]:
    """Class → (path, whether it is in the identity) of each place that holds one, of all parts of a class."""
    found: dict[type[Config], list[tuple[str, bool]]] = {}
    holders = [cls, *(variants(cls).values() if is_family(cls) else ())]
    for field in {field.name: field for holder in holders for field in attrs.fields(holder)}.values():
        for part in alternatives(field.type):
            if isinstance(part, type) and issubclass(part, Config):
                place = (f"{path}{field.name}", inside and field.metadata.get("identity", True))
                inner = {} if part in found else _uses(part, f"{place[0]}.", place[1])
                for used, places in {part: [place], **inner}.items():
                    found.setdefault(used, []).extend(places)
    return found


def _class(cls: type[Config], identity: set[bool], fields: Any) -> Iterator[str]:
    yield from (
        f":::::{{py:class}} {_public_name(cls)}",
        ":no-contents-entry:",
        "",
        inspect.cleandoc(cls.__doc__ or ""),
        "",
    )
    for field in fields:
        yield f"::::{{py:attribute}} {field.name}"
        yield f":type: {_type(field.type)}"
        if field.default is not attrs.NOTHING:
            yield f":value: {json.dumps(_default(field.default))}"
        text, accepted = field_docstring(cls, field.name), _accepted(field)
        yield from ("", text, "")
        facts = [f"Accepted: {accepted}."] if accepted and not _is_said(accepted, text) else []
        if True in identity and field.metadata.get("identity", True) is not True:
            facts.append("*Outside the identity.*")
        yield from (" ".join(facts), "", "::::")
    yield from (":::::", "")


def _public_name(cls: type) -> str:
    module = "ncsnx.config" if getattr(ncsnx.config, cls.__name__, None) is cls else cls.__module__
    return f"{module}.{cls.__name__}"


def _type(declared: Any) -> str:
    names = []
    for part in alternatives(declared):
        if part is type(None):
            names.append("None")
        elif get_origin(part) is Literal:
            names.append("str" if all(isinstance(value, str) for value in get_args(part)) else "int")
        elif isinstance(part, type) and issubclass(part, Config):
            names.append(_public_name(part))
        else:
            names.append(part.__name__ if isinstance(part, type) else str(part))
    return " | ".join(names)


def _default(default: Any) -> str:
    factory = getattr(default, "factory", None)
    return f"{factory.__name__}()" if factory is not None else repr(default)


def _accepted(field: Any) -> str:
    """Accepted values; words are set as code."""
    accepted = accepted_by(field)
    is_words = any(get_origin(part) is Literal or is_family(part) for part in alternatives(field.type))
    return ", ".join(f"`{word}`" for word in accepted.split(", ")) if is_words else accepted


def _is_said(accepted: str, text: str) -> bool:
    """Whether a docstring says what is accepted: '1 to 8' for 'between 1 and 8', '> 0' for 'a finite number > 0'."""
    short = re.sub(r"^between (\S+) and (\S+)$", r"\1 to \2", accepted).removeprefix("a finite number ")
    return short in " ".join(text.split())

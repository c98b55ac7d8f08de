"""Answers to `FIELD=?`: what a field accepts, with a line for each variant or word."""

import re
import textwrap
from collections.abc import Iterator

from ncsnx.config.experiment import Experiment
from ncsnx.config.feature_networks import Features
from ncsnx.config.overrides import Override, unknown_field
from ncsnx.config.reference.field_facts import FieldFact, facts_below, first_sentence
from ncsnx.config.variants import plugin_errors, variants

_FEATURES = "features"
"""Path of the feature network in the overrides of commands that measure; no experiment has it."""
_QUESTION = re.compile(r"([A-Za-z_][\w.]*)=\?")


def asked_path(word: object) -> str | None:
    """The path in a word of the form `PATH=?`; None for any other value."""
    match = _QUESTION.fullmatch(word) if isinstance(word, str) else None
    return None if match is None else match[1]


def all_facts() -> list[FieldFact]:
    """Every field that an override may name, in every variant; those of the installed packages too."""
    plugin_errors()  # loads plug-ins, whose variants count
    found = list(facts_below(Experiment))
    tags = {tag: first_sentence(one.__doc__ or "") for tag, one in variants(Features).items()}
    found.append(
        FieldFact(
            path=_FEATURES,
            type="a word",
            default=None,
            accepted=", ".join(tags),
            values=tags,
            text=first_sentence(Features.__doc__ or ""),
            identity=False,
            of="",
        )
    )
    for cls in variants(Features).values():
        found += facts_below(cls, f"{_FEATURES}.", inside=False)
    return found


def answer(path: str) -> list[str]:
    """Lines about a field of an experiment. Raises OverrideError with near matches for a field that doesn't exist."""
    known = all_facts()
    found = [fact for fact in known if fact.path == path]
    if not found:
        raise unknown_field(Override(path, "?"), Experiment)
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

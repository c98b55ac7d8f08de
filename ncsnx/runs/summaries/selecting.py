"""Selecting and ordering summaries of runs, by their columns and by the values of their configurations."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from ncsnx.config.checks import quoted
from ncsnx.config.codec import ABSENT, flatten, shown, unstructure
from ncsnx.config.overrides import OverrideError, parse_overrides, parse_text
from ncsnx.errors import UsageError
from ncsnx.runs.summaries.run_summary import RunSummary

RUN_COLUMNS: dict[str, Callable[[RunSummary], Any]] = {
    "run": lambda one: one.name,
    "experiment": lambda one: None if one.experiment is None else one.experiment.name,
    "step": lambda one: one.step,
    "of": lambda one: None if one.experiment is None else one.experiment.steps,
    "state": lambda one: one.state,
    "loss": lambda one: one.loss,
    "held_out": lambda one: one.held_out,
    "score": lambda one: None if one.best is None else one.best.score,
    "protocol": lambda one: one.protocol,
    "host": lambda one: None if one.writer is None else one.writer.host,
    "pid": lambda one: None if one.writer is None else one.writer.pid,
    "size": lambda one: one.size,
    "age": lambda one: age_s(one),
}
"""Value of each column."""


def age_s(one: RunSummary) -> float | None:
    """Seconds since the run was started; since its last change for one that was never trained; None if unknown."""
    since = one.started or one.changed
    return None if since is None else max((datetime.now(UTC) - since).total_seconds(), 0.0)


def value_of(one: RunSummary, path: str) -> Any:
    """The value of a column, or of a field of the configuration; ABSENT where it lacks the field."""
    return RUN_COLUMNS[path](one) if path in RUN_COLUMNS else _fields(one).get(path, ABSENT)


def selected(found: Sequence[RunSummary], conditions: list[str]) -> list[RunSummary]:
    """The runs that meet every condition, each COLUMN=VALUE or FIELD=VALUE, such as state=running or model.width=64.

    Raises UsageError for a condition of another form, a field that no run has, and a value that no run's field accepts.
    """
    chosen = list(found)
    for condition in parse_overrides(conditions):
        values = _values(found, condition.path)
        answers = [_matches(value, condition.text, condition.path) for value in values]
        errors = [answer for answer in answers if isinstance(answer, OverrideError)]
        if errors and len(errors) == sum(value not in (None, ABSENT) for value in values):
            raise errors[0]
        met = {one.name for one, answer in zip(found, answers, strict=True) if answer is True}
        chosen = [one for one in chosen if one.name in met]
    return chosen


def ordered(found: Sequence[RunSummary], column: str) -> list[RunSummary]:
    """The runs by a column or a field of the configuration, ascending; descending with '-' before it.

    Scores are ordered within each protocol, since those of different features, references or numbers of images can't be
    compared. Runs without a value come last. Raises UsageError for a field that no run has.
    """
    path = column.removeprefix("-")
    values = dict(zip((one.name for one in found), _values(found, path), strict=True))
    known = [one for one in found if not _is_unknown(values[one.name])]

    def key(one: RunSummary) -> tuple[Any, ...]:
        value, best = values[one.name], one.best
        protocol = (best.metric, best.images, best.reference) if path == "score" and best else ()
        return (*protocol, False, value) if isinstance(value, int | float) else (*protocol, True, shown(value))

    return [
        *sorted(known, key=key, reverse=column.startswith("-")),
        *(one for one in found if _is_unknown(values[one.name])),
    ]


def _is_unknown(value: Any) -> bool:
    return value in (None, ABSENT) or (isinstance(value, float) and math.isnan(value))


def _values(found: Sequence[RunSummary], path: str) -> list[Any]:
    """The value of each run, ABSENT where its configuration lacks the field. Raises UsageError if all of them do."""
    known = [*RUN_COLUMNS, *dict.fromkeys(name for one in found for name in _fields(one))]
    if found and path not in known:
        near = get_close_matches(path, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"expected a field, or one of {', '.join(RUN_COLUMNS)}"
        raise UsageError(f"no run has a column or field {quoted(path)}; {hint}")
    return [value_of(one, path) for one in found]


def _fields(one: RunSummary) -> dict[str, Any]:
    return {} if one.experiment is None else dict(flatten(unstructure(one.experiment)))


def _matches(value: Any, text: str, path: str) -> bool | OverrideError:
    """Whether a value is the one that was typed; the error if its type doesn't accept the text."""
    if value in (None, ABSENT) or text.lower() == "none":
        return value is None and text.lower() == "none"
    if not isinstance(value, bool | int | float):
        return shown(value) == text
    try:
        return bool(parse_text(text, type(value), path) == value)
    except OverrideError as error:
        return error

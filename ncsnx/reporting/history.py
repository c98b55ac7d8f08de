"""Facts of a page about how a run was made: summary, curves, starts, configuration."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from ncsnx.config.codec import flatten, shown
from ncsnx.config.converter import unstructure
from ncsnx.config.experiment import Experiment
from ncsnx.config.loading import relative
from ncsnx.config.variants import tag_of
from ncsnx.errors import shortened
from ncsnx.quantities import number
from ncsnx.reporting.run_facts import RunFacts, address, draw_curve
from ncsnx.runs.ledger import value
from ncsnx.runs.segments import Segment

T = TypeVar("T")


def summary(facts: RunFacts) -> list[tuple[str, str]]:
    """(name, fact) of the main facts of the run."""
    known = {
        "note": _notes(facts),
        "steps": _steps(facts),
        "checkpoints": f"{len(facts.steps):,}" if facts.steps else "",
        "last training loss": _last(facts, "loss"),
        "last held-out loss": _last(facts, "held_out"),
    }
    if (declared := facts.declared) is not None:
        known = {
            "experiment": declared.name,
            "data": "unknown" if declared.data is None else _tag(declared.data),
            "network": _tag(declared.model),
            "noise levels": declared.schedule.in_words,
            "sampler": _tag(declared.sampler),
            **known,
            "identity": facts.identity[:16],
            "data fingerprint": (facts.data_fingerprint or "")[:16],
        }
    return [(name, fact) for name, fact in known.items() if fact]


def training_curves(facts: RunFacts) -> Iterator[tuple[str, str]]:
    """(caption, picture) of training loss, held-out loss and a learning rate that changes."""
    for caption, key, label in (
        ("Training loss", "loss", "loss"),
        ("Held-out loss", "held_out", "loss"),
        ("Learning rate", "lr", "learning rate"),
    ):
        curve = [(record["step"], y) for record in facts.metrics if (y := value(record, key)) is not None]
        if len({y for _, y in curve}) > (1 if key == "lr" else 0):
            yield f"{caption}{_weights(facts, key)}", address(draw_curve(curve, label), "plot")


def evenly_spread(items: Sequence[T], most: int) -> list[T]:
    """Items evenly spread over all, at most `most`, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def _weights(facts: RunFacts, key: str) -> str:
    """The weights that a loss belongs to, as a part of a name."""
    record: dict[str, Any] = next((record for record in facts.metrics if key in record), {})
    return "" if key == "lr" else {"ema": " (EMA weights)", "raw": " (raw weights)"}.get(record.get("weights", ""), "")


def configuration(facts: RunFacts) -> list[tuple[str, str, str]]:
    """(field, value, origin) of every value."""
    if facts.declared is None:
        return []
    return [
        (path, shortened(shown(entry)), relative(facts.origins.get(path, "unknown")))
        for path, entry in flatten(unstructure(facts.declared))
    ]


def starts(facts: RunFacts) -> list[tuple[str, ...]]:
    """Time, start, device, changes, note and git of the starts of the training."""
    return [
        (
            one.started,
            "import" if one.imported else f"from step {one.from_step:,}",
            str(one.runtime.get("device", "")),
            "; ".join(f"{path}: {_change(change)}" for path, change in one.changes.items()),
            one.note,
            "" if one.git is None else f"{one.git.commit[:12]}{' (modified)' if one.git.dirty else ''}",
        )
        for one in facts.segments
    ]


def execution(start: Segment) -> list[tuple[str, str]]:
    """(name, value) of the versions and choices of a start."""
    choices = [*start.versions.items(), *start.runtime.items()]
    return [(name, shown(choice)) for name, choice in choices if choice is not None]


def _notes(one: RunFacts) -> str:
    notes = [one.declared.note if one.declared else "", *(start.note for start in one.segments)]
    return "; ".join(dict.fromkeys(filter(None, notes)))


def _tag(config: Any) -> str:
    return tag_of(type(config)) or type(config).__name__


def _steps(one: RunFacts) -> str:
    done = max([record["step"] for record in one.metrics] + one.steps, default=0)
    return f"{done:,} of {one.declared.steps:,}" if isinstance(one.declared, Experiment) else f"{done:,}"


def _last(one: RunFacts, key: str) -> str:
    known = ((value(record, key), record["step"]) for record in reversed(one.metrics))
    return next((f"{number(loss)} at step {step:,}" for loss, step in known if loss is not None), "")


def _change(change: Any) -> str:
    if isinstance(change, list) and len(change) == 2:
        return f"{shown(change[0])} → {shown(change[1])}"
    return shown(change)

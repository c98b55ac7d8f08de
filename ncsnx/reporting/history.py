"""Parts of a page about what a run is and how it was made: summary, curves, starts, configuration."""

import io
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from markupsafe import Markup

from ncsnx.config.codec import flatten, shown
from ncsnx.config.converter import unstructure
from ncsnx.config.loading import relative
from ncsnx.config.variants import tag_of
from ncsnx.evaluation.plots import scale_values, style
from ncsnx.quantities import number
from ncsnx.reporting import html
from ncsnx.reporting.run_facts import RunFacts, as_command
from ncsnx.runs.ledger import value
from ncsnx.runs.names import as_typed

T = TypeVar("T")
Curve = Sequence[tuple[float, float]]
"""Points (x, y) of finite numbers."""

_SIZE_IN, _DOTS_PER_INCH = (4.4, 2.9), 180


def summary(facts: RunFacts) -> Markup:
    """The main facts of the run."""
    known = {
        "note": _notes(facts),
        "steps": _steps(facts),
        "checkpoints": f"{len(facts.steps):,}" if facts.steps else "",
        "last training loss": _last(facts, "loss"),
        "last held-out loss": _last(facts, "held_out"),
    }
    if (experiment := facts.experiment) is not None:
        known = {
            "experiment": experiment.name,
            "data": _tag(experiment.data),
            "network": _tag(experiment.model),
            "noise levels": experiment.schedule.in_words,
            "sampler": _tag(experiment.sampler),
            **known,
            "identity": facts.identity[:16],
            "data fingerprint": (facts.data_fingerprint or "")[:16],
        }
    return html.table("The run at a glance", ("", ""), [(name, fact) for name, fact in known.items() if fact])


def training_curves(facts: RunFacts) -> Iterator[Markup]:
    """Training loss, held-out loss and a learning rate that changes."""
    for caption, key, label in (
        ("Training loss", "loss", "loss"),
        ("Held-out loss", "held_out", "loss"),
        ("Learning rate", "lr", "learning rate"),
    ):
        curve = [(record["step"], y) for record in facts.metrics if (y := value(record, key)) is not None]
        if len({y for _, y in curve}) > (1 if key == "lr" else 0):
            yield html.figure(draw_curve(curve, label), f"{caption}{_weights(facts, key)}", "plot")


def draw_curve(curve: Curve, y_label: str) -> bytes:
    """A curve by training step as a PNG.

    The axis of values is logarithmic if they are positive and span more than a factor of ten.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=_SIZE_IN, dpi=_DOTS_PER_INCH, layout="constrained")
        axes = figure.subplots()
        axes.plot(*zip(*curve, strict=True), marker="." if len(curve) < 30 else "")
        scale_values(axes)
        axes.set(xlabel="training step", ylabel=y_label)
        content = io.BytesIO()
        figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def evenly_spread(items: Sequence[T], most: int) -> list[T]:
    """Items evenly spread over all, at most `most`, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def _weights(facts: RunFacts, key: str) -> str:
    """The weights that a loss belongs to, as a part of a name."""
    record: dict[str, Any] = next((record for record in facts.metrics if key in record), {})
    return "" if key == "lr" else {"ema": " (EMA weights)", "raw": " (raw weights)"}.get(record.get("weights", ""), "")


def configuration(facts: RunFacts) -> Iterator[Markup]:
    """Every value with its origin."""
    if facts.experiment is None:
        return
    rows = [
        (path, shown(entry), relative(facts.origins.get(path, "unknown")))
        for path, entry in flatten(unstructure(facts.experiment))
    ]
    fingerprint = facts.data_fingerprint or "none recorded"
    yield html.paragraph(f"Identity: {facts.identity}. Fingerprint of the data: {fingerprint}.")
    yield html.table("Every value and where it comes from", ("field", "value", "origin"), rows)
    yield html.commands("Show it", [f"ncsnx show {as_typed(facts.run.path)} --origins"])


def starts(facts: RunFacts) -> Iterator[Markup]:
    """The starts of the training, the versions and choices of the last one, and the commands."""
    if not facts.segments:
        return
    rows = [
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
    last = facts.segments[-1]
    yield html.table("Starts of the training", ("time", "start", "device", "changes", "note", "git"), rows)
    choices = [*last.versions.items(), *last.runtime.items()]
    known = [(name, shown(choice)) for name, choice in choices if choice is not None]
    yield html.table("Versions and execution at the last start", ("", ""), known)
    yield html.commands("Train it again, or resume it", [as_command(one.command) for one in facts.segments])


def _notes(one: RunFacts) -> str:
    notes = [one.experiment.note if one.experiment else "", *(start.note for start in one.segments)]
    return "; ".join(dict.fromkeys(filter(None, notes)))


def _tag(config: Any) -> str:
    return tag_of(type(config)) or type(config).__name__


def _steps(one: RunFacts) -> str:
    done = max([record["step"] for record in one.metrics] + one.steps, default=0)
    return f"{done:,} of {one.experiment.steps:,}" if one.experiment else f"{done:,}"


def _last(one: RunFacts, key: str) -> str:
    known = ((value(record, key), record["step"]) for record in reversed(one.metrics))
    return next((f"{number(loss)} at step {step:,}" for loss, step in known if loss is not None), "")


def _change(change: Any) -> str:
    if isinstance(change, list) and len(change) == 2:
        return f"{shown(change[0])} → {shown(change[1])}"
    return shown(change)

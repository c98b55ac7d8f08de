"""Curves of trainings as plots: losses and learning rate by step."""

import io
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from markupsafe import Markup

from ncsnx.evaluation.plots import drawable, style
from ncsnx.reporting import html
from ncsnx.reporting.run_facts import RunFacts
from ncsnx.runs.score_files import value

T = TypeVar("T")
Curve = Sequence[tuple[float, float]]
"""Points (x, y) of finite numbers."""

_LOG_FROM = 10.0
"""Ratio of largest to smallest value above which the axis of values is logarithmic."""
_SIZE_IN, _DOTS_PER_INCH = (4.4, 2.9), 180


def training_curves(runs: Sequence[RunFacts]) -> Iterator[Markup]:
    """Training loss, held-out loss and a learning rate that changes, a line for each run."""
    for caption, key, label in (
        ("Training loss", "loss", "loss"),
        ("Held-out loss", "held_out", "loss"),
        ("Learning rate", "lr", "learning rate"),
    ):
        curves = [(f"{one.name}{_weights(one, key)}", curve) for one in runs if (curve := _by_step(one, key))]
        values = {y for _, curve in curves for _, y in curve}
        if len(values) > (1 if key == "lr" else 0):
            yield html.figure(draw_curves(curves, label), caption, "plot")


def draw_curves(curves: Sequence[tuple[str, Curve]], y_label: str) -> bytes:
    """Curves by training step with their names as a PNG, with the legend above the axes, where it covers none of them.

    The axis of values is logarithmic if they are positive and span more than a factor of ten.
    """
    from matplotlib.figure import Figure

    values = [y for _, curve in curves for _, y in curve]
    with style():
        figure = Figure(figsize=_SIZE_IN, dpi=_DOTS_PER_INCH, layout="constrained")
        axes = figure.subplots()
        for name, curve in curves:
            axes.plot(*zip(*curve, strict=True), label=drawable(name), marker="." if len(curve) < 30 else "")
        if 0 < _LOG_FROM * min(values) < max(values):
            axes.set_yscale("log")
        axes.set(xlabel="training step", ylabel=y_label)
        figure.legend(loc="outside upper left", ncols=2)
        content = io.BytesIO()
        figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def evenly_spread(items: Sequence[T], most: int) -> list[T]:
    """Items evenly spread over all, at most `most`, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def _by_step(facts: RunFacts, key: str) -> Curve:
    return [(record["step"], y) for record in facts.metrics if (y := value(record, key)) is not None]


def _weights(facts: RunFacts, key: str) -> str:
    """The weights that a loss belongs to, as a part of a name."""
    record: dict[str, Any] = next((record for record in facts.metrics if key in record), {})
    return "" if key == "lr" else {"ema": " (EMA weights)", "raw": " (raw weights)"}.get(record.get("weights", ""), "")

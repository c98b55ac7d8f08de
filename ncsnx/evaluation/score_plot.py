"""Plots of a sweep from its rows: scores of checkpoints with their errors, and other metrics."""

from collections.abc import Sequence
from pathlib import Path

from ncsnx.evaluation.checkpoint_sweep import CheckpointSweep
from ncsnx.evaluation.perfect_model import PerfectModel
from ncsnx.evaluation.plots import MetricSeries, ScoreSeries, plot_metrics, plot_scores
from ncsnx.metrics.metric import Quantity
from ncsnx.runs.score_files import Row, best_place, value


def draw_scores(sweep: CheckpointSweep, perfect_model: PerfectModel | None = None) -> tuple[Path, Path]:
    """Draws all scores of a sweep into scores.png and scores.svg in its folder. Raises NcsnxError."""
    rows = sweep.scores.rows
    return plot_scores(
        sweep.place / "scores",
        ScoreSeries(
            steps=[row["step"] for row in rows],
            scores=[row["score"] for row in rows],
            errors=[value(row, "error") for row in rows],
        ),
        metric=sweep.metric,
        title=sweep.run.name,
        caption=sweep.caption(),
        best=best_place(rows),
        perfect=None if perfect_model is None else (perfect_model.score, perfect_model.spread),
    )


def draw_metrics(sweep: CheckpointSweep, rows: Sequence[Row], quantities: Sequence[Quantity]) -> tuple[Path, Path]:
    """Draws quantities of the rows into metrics.png and metrics.svg, a panel each. Raises NcsnxError."""
    dashed = "; dashed: expected of a perfect model" if any(one.perfect is not None for one in quantities) else ""
    return plot_metrics(
        sweep.place / "metrics",
        [row["step"] for row in rows],
        [
            MetricSeries(
                name=one.title,
                values=[value(row, one.key) for row in rows],
                errors=[one.error_in(row) for row in rows],
                better=one.better,
                perfect=one.perfect,
            )
            for one in quantities
        ],
        title=sweep.run.name,
        caption=f"{sweep.caption()}{dashed}",
    )

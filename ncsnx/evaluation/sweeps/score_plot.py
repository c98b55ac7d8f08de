"""The plot of a sweep that has one score with its error for each checkpoint, from the rows that are kept."""

from pathlib import Path

from ncsnx.evaluation.engine.checkpoint_sweep import CheckpointSweep
from ncsnx.evaluation.plots import ScoreSeries, plot_scores
from ncsnx.evaluation.references.perfect_model import PerfectModel
from ncsnx.runs.score_files import best_row, value


def draw_scores(sweep: CheckpointSweep, perfect_model: PerfectModel | None = None) -> tuple[Path, Path]:
    """Draws all scores that there are into scores.png and scores.svg, in their folder. Raises NcsnxError."""
    rows = sweep.scores.rows
    best = best_row(rows)
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
        best=next((index for index, row in enumerate(rows) if row is best), None),
        perfect=None if perfect_model is None else (perfect_model.score, perfect_model.spread),
    )

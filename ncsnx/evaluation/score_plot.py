"""The plot of a sweep that has one score with its error for each checkpoint, from the rows that are kept."""

from pathlib import Path

from ncsnx.evaluation.plots import ScoreSeries, plot_scores
from ncsnx.evaluation.references.perfect_model import PerfectModel
from ncsnx.runs.score_files import ScoreFile, best_row, value

SCORE_PICTURES = ("scores.png", "scores.svg")


def draw_scores(
    scores: ScoreFile, *, metric: str, title: str, caption: str, perfect_model: PerfectModel | None = None
) -> tuple[Path, Path]:
    """Draws all scores into `SCORE_PICTURES`, in their folder; for the rest see `plot_scores`. Raises NcsnxError."""
    best = best_row(scores.rows)
    return plot_scores(
        scores.folder / "scores",
        ScoreSeries(
            steps=[row["step"] for row in scores.rows],
            scores=[row["score"] for row in scores.rows],
            errors=[value(row, "error") for row in scores.rows],
        ),
        metric=metric,
        title=title,
        caption=caption,
        best=next((index for index, row in enumerate(scores.rows) if row is best), None),
        perfect=None if perfect_model is None else (perfect_model.score, perfect_model.spread),
    )

"""Scores of checkpoints are stored when they are added, and tell the best checkpoint."""

import csv
from typing import Any

import pytest

from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import verify, write_checkpoint
from ncsnx.runs.score_files import SCORES, ScoreFile, require_best, value
from ncsnx.runs.selection import wanted_step
from tests.runs.kept import weights

METRIC = "FD (digits classifier 1a2b3c4d)"
PROTOCOL = {"n": 100, "seed": 0, "ensemble": 1}


def row(step: int, score: float, weights: str = "a") -> dict[str, Any]:
    return {"step": step, "weights_sha256": weights, "score": score, "error": None}


def sweep(run: Run, name: str, *rows: dict[str, Any], changed: str = "2026-01-01", **protocol: object) -> ScoreFile:
    scores = ScoreFile.open(run.fid / name, PROTOCOL | protocol, METRIC)
    for one in rows:
        scores.add(one, changed)
    scores.write_table()
    return scores


def checkpoint(run: Run, step: int) -> str:
    """Writes a checkpoint; returns the sha256 of its weights."""
    content = weights(run.experiment(), f"weights {step}".encode())
    folder = write_checkpoint(run.checkpoints, step, [("ema.safetensors", content)])
    return verify(folder).files["ema.safetensors"].sha256


def test_rows_are_there_again_when_the_sweep_is_opened_again(run: Run) -> None:
    sweep(run, "one", row(20, 5.0), row(10, 7.0))
    again = ScoreFile.open(run.fid / "one", PROTOCOL)
    assert [one["step"] for one in again.rows] == [10, 20]
    assert again.row(20, "a") == row(20, 5.0)


def test_a_row_belongs_to_its_weights(run: Run) -> None:
    scores = sweep(run, "one", row(20, 5.0, weights="old"))
    assert scores.row(20, "new") is None
    scores.add(row(20, 6.0, weights="new"), "2026-01-02")
    assert [one["score"] for one in ScoreFile.read(run.fid / "one").rows] == [6.0]


def test_the_table_holds_the_rows_with_a_column_for_each_item_of_a_list(run: Run) -> None:
    sweep(run, "one", {**row(10, 7.0), "levels": [1.5, None], "made": {"host": "here"}})
    with (run.fid / "one" / "scores.csv").open() as file:
        (read,) = csv.DictReader(file)
    expected = {"step": "10", "weights_sha256": "a", "score": "7.0", "error": "", "levels.0": "1.5", "levels.1": ""}
    assert read == expected


def test_scores_of_another_protocol_are_not_mixed_in(run: Run) -> None:
    sweep(run, "one", row(10, 7.0))
    with pytest.raises(NcsnxError, match="another protocol; move it away"):
        ScoreFile.open(run.fid / "one", PROTOCOL | {"n": 200})


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        *(
            b'{"schema_version": 1, "protocol": {}, "rows": [%s], "changed": ""}' % row
            for row in (
                b'{"step": "10"}',
                b'{"step": -1, "weights_sha256": "a", "score": 1}',
                b'{"step": 1, "weights_sha256": "a", "score": 1%s}' % (b"0" * 400),
            )
        ),
    ],
)
def test_a_file_that_is_none_is_refused_by_name(run: Run, content: bytes) -> None:
    folder = run.fid / "one"
    folder.mkdir(parents=True)
    (folder / SCORES).write_bytes(content)
    with pytest.raises(NcsnxError, match=r"one/scores\.json.*move it away"):
        ScoreFile.open(folder, PROTOCOL)
    with pytest.raises(NcsnxError, match=r"one/scores\.json"):
        require_best(run)


def test_best_is_the_lowest_score_of_the_sweep_with_the_most_images(run: Run) -> None:
    first, second, third = (checkpoint(run, step) for step in (10, 20, 30))
    sweep(run, "few", row(10, 1.0, first), changed="2026-05-05", n=50)
    sweep(run, "many", row(10, 9.0, first), row(20, 4.0, second), row(30, 5.0, third), n=5_000)
    best = require_best(run)
    assert wanted_step(run, "best") == 20
    assert str(best) == (
        f"step 20, FD (digits classifier 1a2b3c4d) 4.000 on 5,000 images, the best of 3 scored in {run.fid / 'many'}"
    )


def test_of_equally_large_sweeps_the_newest_decides(run: Run) -> None:
    first, second = checkpoint(run, 10), checkpoint(run, 20)
    sweep(run, "b-old", row(10, 1.0, first), changed="2026-01-01")
    sweep(run, "a-new", row(20, 2.0, second), changed="2026-01-02")
    assert wanted_step(run, "best") == 20


def test_ensembles_say_nothing_about_a_single_checkpoint(run: Run) -> None:
    first = checkpoint(run, 10)
    (run.fid / "without-scores-yet").mkdir(parents=True)
    sweep(run, "ensemble", row(10, 1.0, first), ensemble=5, n=9_999)
    with pytest.raises(NcsnxError, match=r"scores of ensembles.* do not count"):
        require_best(run)


def test_best_skips_weights_that_are_gone(run: Run) -> None:
    first = checkpoint(run, 10)
    sweep(run, "one", row(10, 3.0, first), row(20, 1.0, "gone"), row(30, 2.0, "gone"))
    assert wanted_step(run, "best") == 10


def test_best_does_not_pass_off_other_weights_as_those_that_were_scored(run: Run) -> None:
    checkpoint(run, 10)
    sweep(run, "one", row(10, 1.0, "other weights"))
    with pytest.raises(NcsnxError, match="of weights that no longer exist"):
        wanted_step(run, "best")


def test_what_somebody_wrote_in_the_place_of_a_number_is_no_number() -> None:
    assert value({"error": 0.5}, "error") == 0.5
    strange: list[object] = [10**400, True, "0.5", None, float("nan"), [1.0], {}]
    assert [value({"error": item}, "error") for item in strange] == [None] * len(strange)
    assert value({}, "error") is None

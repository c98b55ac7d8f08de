"""Measurements as tables, JSON and CSV: the meanings of ±, diverged rows, second measurements, the best row."""

import csv
import io
from typing import Any

import attrs
import pytest

from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger, Quantity
from ncsnx.runs.measurements import MeasuredRow, Measurements
from tests.runs.kept import fid, subject

SCORE = Quantity("score", "FD", error="error")
OVER_PARTS = Quantity("spread", "IS", error="spread_error", plus_minus="standard deviation over ten parts")
PERFECT = {"score": 1.0, "spread": 0.25, "words": "real images"}


def row(name: str, **values: Any) -> MeasuredRow:
    return MeasuredRow(names=(name,), facts={"step": name}, values=values)


def measurements(*rows: MeasuredRow, **others: Any) -> Measurements:
    facts: dict[str, Any] = {"metric": "FD", "where": "runs/one", "names": ("step",), "columns": (SCORE, OVER_PARTS)}
    return Measurements(rows=rows, **facts | others)


FIRST, SECOND = row("1", score=3.0, error=0.5), row("2", score=2.0, error=0.5, spread=4.0, spread_error=0.125)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (measurements(row("1", score=3.0)), ""),
        (measurements(FIRST), "± standard error"),
        (measurements(SECOND), "± standard error; IS: standard deviation over ten parts"),
        (measurements(FIRST, SECOND), "± standard error; IS: standard deviation over ten parts"),
        (measurements(FIRST, perfect_model=PERFECT), "± standard error; perfect model: standard deviation over draws"),
        (measurements(row("1", score=3.0), perfect_model=PERFECT), "± perfect model: standard deviation over draws"),
        (measurements(SECOND, columns=(OVER_PARTS,)), "± standard deviation over ten parts"),
        (measurements(SECOND, columns=(attrs.evolve(SCORE, error=None),)), ""),
    ],
)
def test_each_meaning_of_plus_minus_in_the_table_is_said(found: Measurements, words: str) -> None:
    assert found.errors_in_words() == words
    assert (words in found.closing()) == bool(words)
    shown = found.to_json()
    assert isinstance(shown, dict)
    assert set(shown["plus_minus"]) == {one.key for one in found.columns if one.error is not None}


def test_the_best_row_has_the_lowest_score_and_a_diverged_one_none() -> None:
    found = measurements(FIRST, row("3", score=None), SECOND, attrs.evolve(row("4", score=1.0), is_ranked=False))
    table = found.table()
    assert found.best is SECOND
    assert [cells[1] for cells in table.rows] == ["3.00 ± 0.50", "diverged", "2.00 ± 0.50", "1.000"]
    assert [cells[-1] for cells in table.rows] == ["", "", "best", ""]
    assert table.bold == [2]
    assert found.closing()[0] == "best: step 2, FD 2.00 ± 0.50"


def test_without_a_score_the_best_row_is_an_error_that_says_why() -> None:
    nothing = measurements(row("3", score=None))
    with pytest.raises(NcsnxError, match="nothing of runs/one has a score"):
        _ = nothing.best
    with pytest.raises(NcsnxError, match="step 3 is damaged"):
        _ = attrs.evolve(nothing, left_out=["step 3 is damaged"]).best


def test_a_second_measurement_stands_below_the_first_and_in_json() -> None:
    again = row("1", score=3.5)
    found = measurements(attrs.evolve(FIRST, again=attrs.evolve(again, remark="measured again: fast")), SECOND)
    table, shown = found.table(), found.to_json()
    assert [cells[1] for cells in table.rows] == ["3.00 ± 0.50", "3.500", "2.00 ± 0.50"]
    assert table.bold == [1, 2]
    assert isinstance(shown, dict)
    assert [one.get("measured_again") for one in shown["rows"]] == [{"score": 3.5}, None]


def test_the_csv_has_a_line_per_row_and_a_column_for_each_item_of_a_list(run: Run) -> None:
    values = {"score": 7.0, "error": None, "levels": [1.5, None], "metrics": {"x": 1}}
    Ledger.read(run).add(fid(), subject(run, 10, "a"), values, {"host": "here"})
    (series,) = Ledger.read(run).series("fid")
    (read,) = csv.DictReader(io.StringIO(Measurements.of(series).csv().decode()))
    expected = {"step": "10", "weights_sha256": "a", "score": "7.0", "error": "", "levels.0": "1.5", "levels.1": ""}
    assert read == expected

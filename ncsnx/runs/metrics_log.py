"""Training metrics as JSON lines, truncated to the step from which a run resumes."""

from collections.abc import Mapping
from typing import Any

import attrs

from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.storage import atomic
from ncsnx.storage.json_lines import append_record, finite_json, read_records, records_with_lines


@attrs.frozen
class MetricsLog:
    """A run's metrics.jsonl. Each record is a JSON object with an integer "step"."""

    run: Run

    def append(self, record: Mapping[str, Any]) -> None:
        """Appends one record durably. NaN and infinity become null, and "nonfinite" lists their names.

        Raises NcsnxError if the file can't be written.
        """
        nonfinite: list[str] = []
        plain = {name: finite_json(value, name, nonfinite) for name, value in record.items()}
        if nonfinite:
            plain["nonfinite"] = nonfinite
        append_record(self.run.metrics_path, plain)

    def read(self) -> list[dict[str, Any]]:
        """All records in order, without a torn last line. Raises NcsnxError for any other invalid line."""
        return read_records(self.run.metrics_path)

    def truncate(self, step: int) -> None:
        """Drops records after `step` and a torn last line, atomically. Raises NcsnxError."""
        path = self.run.metrics_path
        if not path.exists():
            return
        kept = []
        for record, line in records_with_lines(path):
            if not isinstance(record.get("step"), int):
                raise NcsnxError(f"{path}: expected a whole number under step in {line.decode().strip():.100}")
            if record["step"] <= step:
                kept.append(line)
        atomic.write_bytes(path, b"".join(kept))


def series_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record by series, as TensorBoard and trackers name them; without null, and what is no number."""
    series: dict[str, Any] = {}
    if "loss" in record:
        series = {f"loss/training_{record.get('weights', 'raw')}": record["loss"], "lr": record.get("lr")}
    elif "held_out" in record:
        weights = record.get("weights", "raw")
        levels = record.get("held_out_levels", {})
        series = {f"loss/held_out_{weights}": record["held_out"]}
        series |= {f"held_out_level_{weights}/{level}": loss for level, loss in levels.items()}
    return {name: float(value) for name, value in series.items() if type(value) in (int, float)}

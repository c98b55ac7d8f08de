"""A tracker that writes JSON lines, a file for each run, to the folder that JSON_LINES names."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from ncsnx.tracking.tracker import TrackedRun, Tracker, tracker


@tracker("json-lines")
class JsonLinesTracker(Tracker):
    """A row of JSON for the configuration, and for the numbers and the images of each step."""

    def __init__(self, run: TrackedRun) -> None:
        folder = Path(os.environ.get("JSON_LINES", "json-lines"))
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{run.name}-{run.record}.jsonl"
        self.hint = f"cat {self.path}"
        self._write({"config": dict(run.config)})

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._write({"step": step, **values})

    def image(self, step: int, name: str, file: Path) -> None:
        self._write({"step": step, name: str(file)})

    def close(self) -> None:
        pass

    def _write(self, row: Mapping[str, object]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")

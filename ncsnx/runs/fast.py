"""The sampler that `sampler=fast` means for a run: what `ncsnx compare` found, and for which checkpoint."""

from pathlib import Path
from typing import Any

import attrs

from ncsnx.config.codec import ConfigError, structure, unstructure
from ncsnx.config.experiment import MOST_STEPS
from ncsnx.config.sampler import Sampler
from ncsnx.errors import NcsnxError
from ncsnx.runs import atomic, reading
from ncsnx.runs.folder import Run
from ncsnx.runs.parsing import read_json, refuse_newer
from ncsnx.runs.scores import Row, value

SCHEMA_VERSION = 1
FAST, TRIALS = "fast.json", "trials.jsonl"


@attrs.frozen
class FastSampler:
    """A recommendation, with what it rests on."""

    sampler: Sampler
    step: int
    """Of the checkpoint that it was found on."""
    row: Row
    """What was measured with it: 'evaluations', 'distance', 'spread', 'broken', 'metric'."""
    own: Row
    """The same of the experiment's own sampler."""
    protocol: dict[str, Any]
    """What both were measured by."""

    def __str__(self) -> str:
        return f"found on step {self.step:,}: {_in_words(self.row)}; the run's own sampler: {_in_words(self.own)}"

    @property
    def images(self) -> float:
        """How many it rests on."""
        return (value(self.protocol, "n") or 0) * (value(self.row, "seeds") or 0)


def write_fast(run: Run, found: FastSampler) -> Path:
    """Stores the recommendation in the run, in the place of an earlier one. Raises NcsnxError."""
    path = run.compare / FAST
    reading.refuse_links(run.compare)
    with atomic.reporting(run.compare):
        run.compare.mkdir(exist_ok=True)
    content = {
        "schema_version": SCHEMA_VERSION,
        "sampler": unstructure(found.sampler),
        "step": found.step,
        "row": found.row,
        "own": found.own,
        "protocol": found.protocol,
    }
    atomic.write_json(path, content)
    return path


def read_fast(run: Run) -> FastSampler:
    """The recommendation that is stored in the run. Raises NcsnxError where there is none, or something else."""
    path = run.compare / FAST
    reading.refuse_links(run.compare)
    try:
        content: Any = read_json(path)
    except FileNotFoundError as error:
        raise NcsnxError(
            f"run {run.name!r} has no fast sampler yet; `ncsnx compare {run.name}` finds one, and stores it"
        ) from error
    except OSError as error:
        raise NcsnxError(f"can't read {path}: {error.strerror}") from error
    except ValueError as error:
        raise NcsnxError(f"{path}: expected JSON, but {error}; repeat `ncsnx compare`") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    refuse_newer(path, version, SCHEMA_VERSION)
    match content:
        case {"sampler": dict(sampler), "step": int(step), "row": dict(row), "own": dict(own), "protocol": dict(by)}:
            if type(version) is int and type(step) is int and 0 <= step <= MOST_STEPS:
                try:
                    return FastSampler(structure(sampler, Sampler), step, row, own, by)
                except ConfigError as error:
                    raise ConfigError(error.problems, str(path)) from error
    raise NcsnxError(f"{path} doesn't hold a sampler that `ncsnx compare` stored; repeat that")


def _in_words(row: Row) -> str:
    numbers = [value(row, key) for key in ("distance", "broken", "evaluations")]
    if None in numbers:
        return "nothing is known of it"
    distance, broken, evaluations = (number or 0.0 for number in numbers)
    return f"distance {distance:.3g}, {100 * broken:.2g} % broken, {evaluations:.0f} evaluations"

"""The sampler that `sampler=fast` means for a run: what `ncsnx compare` found, and for which checkpoint."""

from pathlib import Path
from typing import Any

import attrs

from ncsnx.config.codec import ConfigError, structure, unstructure
from ncsnx.config.sampler import Sampler
from ncsnx.errors import NcsnxError
from ncsnx.runs import atomic, reading
from ncsnx.runs.folder import Run
from ncsnx.runs.parsing import read_json
from ncsnx.runs.scores import Row, value

SCHEMA_VERSION = 1
FAST = "fast.json"


@attrs.frozen
class FastSampler:
    """A recommendation, with what it rests on."""

    sampler: Sampler
    step: int
    """Of the checkpoint that it was found on."""
    row: Row
    """What was measured with it: 'evaluations', 'distance', 'spread', 'broken', 'metric'."""

    def __str__(self) -> str:
        numbers = {key: value(self.row, key) for key in ("evaluations", "distance", "broken")}
        if None in numbers.values():
            return f"found on step {self.step:,}"
        return (
            f"{numbers['evaluations']:.0f} evaluations; found on step {self.step:,}, with a distance of "
            f"{numbers['distance']:.3g} and {100 * (numbers['broken'] or 0):.2g} % of the images broken"
        )


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
    match content:
        case {"schema_version": 1, "sampler": dict(sampler), "step": int(step), "row": dict(row)}:
            try:
                return FastSampler(structure(sampler, Sampler), step, row)
            except ConfigError as error:
                raise ConfigError(error.problems, str(path)) from error
    raise NcsnxError(f"{path} doesn't hold a sampler that `ncsnx compare` stored; repeat that")

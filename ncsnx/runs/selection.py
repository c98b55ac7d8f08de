"""Models and checkpoints as they are typed: a run or an exported model, `50k:200k:10k`, `all`, `150k`, `best`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from ncsnx.errors import Hint, UsageError
from ncsnx.exports.exported import SHIPPED, Export, is_export
from ncsnx.exports.hub import fetch_model, hub_address
from ncsnx.paths import exists
from ncsnx.quantities import parsed_integer
from ncsnx.runs.folder import Run, locate
from ncsnx.runs.manifest import UnsoundError, checkpoints
from ncsnx.runs.names import step_name
from ncsnx.spelling import argument, parameter
from ncsnx.work import SILENT, Work

_EXPECTED = "expected all, latest, best, a step such as 150k, FIRST:LAST or FIRST:LAST:MULTIPLE, such as 50k:200k:10k"


def select(run: Run, text: str, work: Work = SILENT) -> tuple[int, ...]:
    """Steps of the checkpoints of `run` in the range `text`, ascending; at least one. Says which one 'best' is.

    Raises UsageError for an invalid range or one without checkpoints, NcsnxError for a run without checkpoints.
    """
    if text != "all" and ":" not in text:
        return (run.checkpoint(text if text in ("latest", "best") else _step(text, text), work),)
    steps = run.steps()
    if text == "all":
        return tuple(steps)
    first, last, multiple = _parsed(text)
    chosen = tuple(step for step in steps if first <= step <= last and step % multiple == 0)
    if not chosen:
        raise UsageError(f"{parameter('range')} {text} holds no checkpoint of run {run.name!r}; it has {listed(steps)}")
    return chosen


@contextmanager
def reading(run: Run, step: int) -> Iterator[Path]:
    """The folder of this step's checkpoint; an UnsoundError of the block gets the previous one as a hint."""
    try:
        yield run.checkpoints / step_name(step)
    except UnsoundError as error:
        before = [other for other in checkpoints(run) if other < step]
        hints = [Hint("use the checkpoint before it", adds=argument("ckpt", before[-1]))] if before else []
        raise UnsoundError(f"checkpoint {step:,} of run {run.name!r} is unsound: {error}", *hints) from error


def _parsed(text: str) -> tuple[int, int, int]:
    """FIRST, LAST and MULTIPLE of a range."""
    first, last, *further = (_step(part, text) for part in text.split(":"))
    multiple = further[0] if further else 1
    if len(further) > 1 or first > last or multiple == 0:
        raise UsageError(f"{parameter('range')} {text[:80]}: {_EXPECTED}")
    return first, last, multiple


def _step(part: str, text: str) -> int:
    if (step := parsed_integer(part)) is None or step < 0:
        raise UsageError(f"{parameter('range')} {text[:80]!a}: {_EXPECTED}")
    return step


def listed(steps: Sequence[int]) -> str:
    """Steps in words, the first and the last of many: `4, 8, 5,000`."""
    shown = [f"{step:,}" for step in steps]
    return ", ".join(shown if len(shown) <= 12 else [*shown[:6], "…", *shown[-6:]])


ModelFolder: TypeAlias = Run | Export
"""Both have a path, a name, an experiment and the fingerprint of its data."""


def open_model_folder(runs: Path, name_or_path: ModelFolder | Path | str, work: Work = SILENT) -> ModelFolder:
    """A run or an export itself; the run of that name in the runs folder, or the run or exported model at a path or
    address, else the model of that name that comes with ncsnx.

    A model on the Hub (hf://USER/MODEL) is downloaded unless its commit is in the cache; `work` shows the progress.
    Raises UsageError, NcsnxError.
    """
    if isinstance(name_or_path, Run | Export):
        return name_or_path
    if (address := hub_address(str(name_or_path))) is not None:
        return fetch_model(address, work)
    name = str(name_or_path)
    is_taken = any(exists(place / "config.json") for place in (runs / name, Path(name)))
    shipped = [path.name for path in SHIPPED.glob("*")]
    if not is_taken and name in shipped:
        return Export(SHIPPED / name)
    path = locate(runs, name_or_path, shipped=shipped)
    return Export(path) if is_export(path) else Run(path)

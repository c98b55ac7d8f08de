"""Models and checkpoints as they are typed: a run or an exported model, `50k:200k:10k`, `all`, `150k`, `best`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.quantities import parsed_integer
from ncsnx.runs.exported import Export, is_export
from ncsnx.runs.folder import Run, locate
from ncsnx.runs.hub import is_hub_address, parse_hub_address
from ncsnx.runs.ledger import Ledger, require_best
from ncsnx.runs.manifest import UnsoundError, checkpoints
from ncsnx.runs.names import parse_step, step_name
from ncsnx.spelling import argument, parameter
from ncsnx.work import SILENT, Work

_EXPECTED = "expected all, latest, best, a step such as 150k, FIRST:LAST or FIRST:LAST:MULTIPLE, such as 50k:200k:10k"


def select(run: Run, text: str) -> tuple[int, ...]:
    """Steps of the checkpoints of `run` in the range `text`, ascending; at least one.

    Raises UsageError for an invalid range or one without checkpoints, NcsnxError for a run without checkpoints.
    """
    steps = _require_checkpoints(run)
    if text == "all":
        return tuple(steps)
    if ":" not in text:
        return (wanted_step(run, text if text in ("latest", "best") else _step(text, text)),)
    first, last, multiple = _parsed(text)
    chosen = tuple(step for step in steps if first <= step <= last and step % multiple == 0)
    if not chosen:
        raise UsageError(f"{parameter('range')} {text} holds no checkpoint of run {run.name!r}; it has {listed(steps)}")
    return chosen


def wanted_step(run: Run, wanted: int | str) -> int:
    """The step of an existing checkpoint, sound or not. wanted: a step as a number or as typed, `latest` or `best`.

    Raises UsageError for an invalid or missing step, NcsnxError without checkpoints or, for `best`, without scores.
    """
    step = parse_step(wanted) if isinstance(wanted, str) else wanted
    if step == "best":
        return require_best(Ledger.read(run)).step
    steps = _require_checkpoints(run)
    if step == "latest":
        return steps[-1]
    if step not in steps:
        nearest = sorted(sorted(steps, key=lambda other: abs(other - step))[:4])
        listed = ", ".join(f"{other:,}" for other in nearest)
        raise UsageError(f"run {run.name!r} has no checkpoint of step {step:,}; nearest: {listed}")
    return step


def say_best(run: Run, work: Work) -> None:
    """Says on rank 0 which checkpoint `best` is, and warns of damaged measurements. Raises NcsnxError."""
    if work.ranks.is_first:
        ledger = Ledger.read(run)
        ledger.warn(work.warning)
        work.info(f"best: {require_best(ledger)}")


def _require_checkpoints(run: Run) -> list[int]:
    if not (steps := checkpoints(run)):
        raise NcsnxError(f"run {run.name!r} has no checkpoint yet", Hint("`ncsnx train` writes the first"))
    return steps


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


Source: TypeAlias = Run | Export
"""Both have a path, a name, an experiment and the fingerprint of its data."""


def open_source(runs: Path, name_or_path: Path | str, work: Work = SILENT) -> Source:
    """The run of that name in the runs folder, or the run or exported model at that path or address on the Hub.

    A model on the Hub (hf://USER/MODEL) is downloaded unless its commit is in the cache; `work` shows the progress.
    Raises UsageError, NcsnxError.
    """
    if is_hub_address(str(name_or_path)):
        from ncsnx.runs.hub import fetch_model  # here, since HTTP takes a part of a command's start

        return fetch_model(parse_hub_address(str(name_or_path)), work)
    path = locate(runs, name_or_path)
    return Export(path) if is_export(path) else Run(path)


def check_checkpoint(source: Source, ckpt: int | str | None) -> int | None:
    """Checks that the checkpoint exists, without reading its files; returns its step, and None for an exported model.

    Raises UsageError, NcsnxError.
    """
    if isinstance(source, Run):
        return wanted_step(source, "latest" if ckpt is None else ckpt)
    if ckpt is not None:
        raise UsageError(
            f"{source.where} is an exported model with one checkpoint, of step {source.config().step}; leave "
            f"{parameter('ckpt')} out"
        )
    return None

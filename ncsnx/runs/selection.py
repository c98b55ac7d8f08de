"""Models and checkpoints as they are typed: a run or an exported model, `50k:200k:10k`, `all`, `150k`, `best`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import attrs

from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.quantities import counted
from ncsnx.runs.exported import Export, is_export
from ncsnx.runs.folder import Run, locate
from ncsnx.runs.hub import is_hub_address, parse_hub_address
from ncsnx.runs.manifest import checkpoints, resolve_checkpoint, wanted_step
from ncsnx.runs.names import parse_step, step_of
from ncsnx.spelling import parameter
from ncsnx.work import SILENT, Work

_EXPECTED = "expected all, latest, best, a step such as 150k, FIRST:LAST or FIRST:LAST:MULTIPLE, such as 50k:200k:10k"


@attrs.frozen
class Selection:
    """The checkpoints in a range."""

    text: str
    """The range as typed."""
    steps: tuple[int, ...]
    """Steps, ascending; at least one."""
    remark: str | None
    """The missing steps of the range, in words; None if there are none."""


@attrs.frozen
class _Range:
    """Steps from `first` to `last` inclusive; only multiples of `multiple`, if given."""

    first: int
    last: int
    multiple: int | None

    def __contains__(self, step: int) -> bool:
        return self.first <= step <= self.last and (self.multiple is None or step % self.multiple == 0)


def select(run: Run, text: str) -> Selection:
    """The checkpoints of `run` in the range `text`.

    Raises UsageError for an invalid range or one without checkpoints, NcsnxError for a run without checkpoints.
    """
    steps = checkpoints(run)
    if not steps:
        raise NcsnxError(f"run {run.name!r} has no checkpoint yet", Hint("`ncsnx train` writes the first"))
    if text == "all":
        return Selection(text, tuple(steps), None)
    if ":" not in text:
        return Selection(text, (_single(run, text),), None)
    wanted = _parsed(text)
    chosen = tuple(step for step in steps if step in wanted)
    if not chosen:
        raise UsageError(
            f"{parameter('range')} {text} holds no checkpoint of run {run.name!r}; it has {_listed(steps)}"
        )
    return Selection(text, chosen, _remark(run, text, wanted, chosen))


def _single(run: Run, text: str) -> int:
    if text not in ("latest", "best"):
        _step(text, text)
    step = step_of(resolve_checkpoint(run, text, name="range").name)
    assert step is not None  # the folder is named after its step
    return step


def _parsed(text: str) -> _Range:
    parts = [_step(part, text) for part in text.split(":")]
    if len(parts) > 3:
        raise UsageError(f"{parameter('range')} {text[:80]}: {_EXPECTED}")
    first, last = parts[:2]
    if first > last:
        raise UsageError(f"{parameter('range')} {text} runs backwards; did you mean {last}:{first}?")
    multiple = parts[2] if len(parts) == 3 else None
    if multiple == 0:
        raise UsageError(f"{parameter('range')} {text}: the third part, MULTIPLE, cannot be 0")
    return _Range(first, last, multiple)


def _step(part: str, text: str) -> int:
    try:
        step = parse_step(part)
    except UsageError:
        step = "latest"  # not allowed in a range either
    if isinstance(step, str):
        raise UsageError(f"{parameter('range')} {text[:80]!a}: {_EXPECTED}")
    return step


def _remark(run: Run, text: str, wanted: _Range, chosen: tuple[int, ...]) -> str | None:
    """The steps of the range without a checkpoint, by the run's checkpoint interval, in words; None if all have one."""
    spacing = wanted.multiple or run.experiment().checkpoint_every
    first = -(-max(wanted.first, 1) // spacing) * spacing
    # counted, not listed, since the typed range may extend far beyond the run
    expected = max(0, (wanted.last - first) // spacing + 1)
    missing = expected - sum(step % spacing == 0 for step in chosen)
    if missing <= 0:
        return None
    return (
        f"{parameter('range')} {text} holds {counted(len(chosen), 'checkpoint')} from {chosen[0]:,} to "
        f"{chosen[-1]:,}; there is none at {counted(missing, 'other multiple')} of {spacing:,}"
    )


def _listed(steps: list[int]) -> str:
    shown = [f"{step:,}" for step in steps]
    return ", ".join(shown if len(shown) <= 12 else [*shown[:6], "…", *shown[-6:]])


def in_words(steps: Sequence[int]) -> str:
    """All steps, ascending, in words: `4, 8, 5,000 to 45,000 by 5,000`."""
    parts: list[str] = []
    rest = list(steps)
    while rest:
        length = _evenly_spaced(rest)
        if length >= 4:
            parts.append(f"{rest[0]:,} to {rest[length - 1]:,} by {rest[1] - rest[0]:,}")
        else:
            length = 1
            parts.append(f"{rest[0]:,}")
        rest = rest[length:]
    return ", ".join(parts)


def _evenly_spaced(steps: list[int]) -> int:
    """Length of the longest prefix of evenly spaced steps."""
    length = min(2, len(steps))
    while length < len(steps) and steps[length] - steps[length - 1] == steps[1] - steps[0]:
        length += 1
    return length


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

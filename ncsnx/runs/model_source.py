"""Sources of images: runs and exported models."""

from pathlib import Path
from typing import TypeAlias

from ncsnx.errors import UsageError
from ncsnx.runs.checkpoints.manifest import wanted_step
from ncsnx.runs.exported import Export, is_export
from ncsnx.runs.folder import Run, locate
from ncsnx.runs.hub import is_hub_address, parse_hub_address
from ncsnx.spelling import parameter
from ncsnx.work import SILENT, Work

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

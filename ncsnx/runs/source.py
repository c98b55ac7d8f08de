"""What images are drawn from: a run, or an exported model."""

from pathlib import Path
from typing import TypeAlias

from ncsnx.runs.export import Export, is_export
from ncsnx.runs.folder import Run, locate

Source: TypeAlias = Run | Export
"""Both have a path, a name, an experiment and the fingerprint of its data."""


def open_source(runs: Path, name_or_path: Path | str) -> Source:
    """The run of that name in the runs folder, or the run or exported model at that path. UsageError, NcsnxError."""
    path = locate(runs, name_or_path)
    return Export(path) if is_export(path) else Run(path)

"""The history of a run: one record per start of training or import, with what is needed to repeat it."""

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

from ncsnx.config.variants import OMITTED, VERSION
from ncsnx.runs.folder import Run
from ncsnx.runs.git_patches import GitSource, GitState, recorded_state
from ncsnx.runs.plugins import Plugin, plugins_of
from ncsnx.storage.documents import append_document, document, read_document_lines
from ncsnx.storage.process import ProcessNote, this_process

_PACKAGES = (
    "ncsnx",
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "safetensors",
    "attrs",
    "cattrs",
    "scikit-learn",
)


@attrs.frozen(kw_only=True)
class ImportRecord:
    """A published file that was imported."""

    file: str
    """File name."""
    sha256: str
    """sha256 of the file (hexadecimal)."""
    bytes: int
    epoch: int
    step: int
    note: str


@document("a segment of a run", advice="fix or remove that line")
@attrs.frozen(kw_only=True)
class Segment(ProcessNote):
    """A start of training, or an import."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    from_step: int
    """Step that training started from; 0 for a new run."""
    note: str = ""
    changes: dict[str, Any] = attrs.field(factory=dict)
    """Values of the experiment that differ from the previous segment: path → [before, now]."""
    runtime: dict[str, Any] = attrs.field(factory=dict)
    """Runtime choices (device, threads …)."""
    versions: dict[str, Any] = attrs.field(factory=dict)
    """See `versions`."""
    git: GitState | None = None
    """State of the git repository that holds the experiment's file."""
    plugins: tuple[Plugin, ...] = attrs.field(default=(), metadata=OMITTED)
    """Installed packages that the experiment needs."""
    imported: ImportRecord | None = attrs.field(default=None, metadata=OMITTED)
    """The imported file, for an import."""


def append_segment(
    run: Run,
    *,
    from_step: int,
    runtime: Mapping[str, Any],
    changes: Mapping[str, Any],
    note: str = "",
    imported: ImportRecord | None = None,
    source: GitSource | None = None,
) -> None:
    """Records a start of training at `from_step` (0 for a new run). Raises NcsnxError.

    source: the folder of the experiment's file; by default the current one, and no patch is recorded.

    `runtime` and `changes` must be plain JSON values; see `Segment`.
    """
    segment = Segment(
        **this_process(),
        from_step=from_step,
        note=note,
        changes=dict(changes),
        runtime=dict(runtime),
        versions=versions(),
        git=recorded_state(run, source or GitSource(Path.cwd(), patch=False)),
        plugins=plugins_of(run.experiment()),
        imported=imported,
    )
    append_document(run.segments_path, segment)


def read_segments(run: Run) -> list[Segment]:
    """The segments, oldest first, without a torn last line. Raises NcsnxError."""
    return read_document_lines(run.segments_path, Segment)


def last_training(run: Run) -> Segment | None:
    """The newest segment that trained, not imported; None if there is none. Raises NcsnxError."""
    return next((segment for segment in reversed(read_segments(run)) if segment.imported is None), None)


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that results depend on; None for a package that isn't installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found

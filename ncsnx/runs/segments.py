"""The history of a run: one record per start of training or import, with what is needed to repeat it."""

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

from ncsnx.config.strict.fields import OMITTED, versioned
from ncsnx.runs.folder import Run, appending
from ncsnx.storage.documents.document import document
from ncsnx.storage.documents.document_files import append_document, read_document_lines
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
_GIT_LIMIT_S = 2.0


@attrs.frozen(kw_only=True)
class GitState:
    """State of the git repository of a folder."""

    commit: str
    dirty: bool | None
    """Whether tracked files differ from the commit; None if git took too long."""


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

    schema_version: int = attrs.field(default=1, metadata=versioned(since=2))
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
    """See `git_state`."""
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
) -> None:
    """Records a start of training at `from_step` (0 for a new run). Raises NcsnxError.

    `runtime` and `changes` must be plain JSON values; see `Segment`.
    """
    segment = Segment(
        **this_process(),
        from_step=from_step,
        note=note,
        changes=dict(changes),
        runtime=dict(runtime),
        versions=versions(),
        git=git_state(Path.cwd()),
        imported=imported,
    )
    with appending(run):
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


def git_state(folder: Path) -> GitState | None:
    """The commit checked out in `folder`, and whether tracked files differ from it.

    None without git, repository or commit. Takes a few seconds at most.
    """
    commit = _git(folder, "git rev-parse --verify HEAD")
    if commit is None:
        return None
    status = _git(folder, "git status --porcelain --untracked-files=no")
    return GitState(commit=commit, dirty=None if status is None else status != "")


def _git(folder: Path, command: str) -> str | None:
    try:
        # no optional locks, so as not to disturb the user's own git commands
        result = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", *command.split()[1:]],
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_LIMIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.decode("utf-8", "replace").strip()

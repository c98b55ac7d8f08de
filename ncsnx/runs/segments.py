"""The history of a run: one record for each start of its training, with what is needed to repeat it.

A published checkpoint that was imported has one too.
"""

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
    """What is checked out in a folder."""

    commit: str
    dirty: bool | None
    """Whether tracked files differ from it; None: took too long."""


@attrs.frozen(kw_only=True)
class ImportRecord:
    """A published file that was imported."""

    file: str
    """Its name."""
    sha256: str
    """In hexadecimal."""
    bytes: int
    epoch: int
    step: int
    note: str


@document("a segment of a run", advice="fix or remove that line")
@attrs.frozen(kw_only=True)
class Segment(ProcessNote):
    """A start of the training, or an import."""

    schema_version: int = attrs.field(default=1, metadata=versioned(since=2))
    from_step: int
    """0 for a new run."""
    note: str = ""
    changes: dict[str, Any] = attrs.field(factory=dict)
    """Values of the experiment that differ from the segment before: path → [before, now]."""
    runtime: dict[str, Any] = attrs.field(factory=dict)
    """The choices of execution (device, threads …)."""
    versions: dict[str, Any] = attrs.field(factory=dict)
    """See `versions`."""
    git: GitState | None = None
    """See `git_state`."""
    imported: ImportRecord | None = attrs.field(default=None, metadata=OMITTED)
    """The file that was imported, where nothing was trained."""


def append_segment(
    run: Run,
    *,
    from_step: int,
    runtime: Mapping[str, Any],
    changes: Mapping[str, Any],
    note: str = "",
    imported: ImportRecord | None = None,
) -> None:
    """Records a start of the training at `from_step` (0 for a new run). Raises NcsnxError.

    `runtime` and `changes` must be plain JSON values; for what they hold see `Segment`.
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
    """The segments, oldest first; a torn last line is left out. Raises NcsnxError."""
    return read_document_lines(run.segments_path, Segment)


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that results depend on; None for what isn't installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def git_state(folder: Path) -> GitState | None:
    """The commit checked out in `folder`, and whether tracked files differ from it.

    None where there is no git, no repository or no commit. Takes seconds at the most.
    """
    commit = _git(folder, "git rev-parse --verify HEAD")
    if commit is None:
        return None
    status = _git(folder, "git status --porcelain --untracked-files=no")
    return GitState(commit=commit, dirty=None if status is None else status != "")


def _git(folder: Path, command: str) -> str | None:
    try:
        # no optional locks: looking at a repository must not get in the way of its owner
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

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

from ncsnx.runs.folder import Run, appending
from ncsnx.storage.json_lines import append_record, read_records
from ncsnx.storage.process import this_process

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


def append_segment(
    run: Run,
    *,
    from_step: int,
    runtime: Mapping[str, Any],
    changes: Mapping[str, Any],
    note: str = "",
    imported: Mapping[str, Any] | None = None,
) -> None:
    """Records a start of the training at `from_step` (0 for a new run). Raises NcsnxError.

    `runtime` holds the choices of execution (device, threads …), `changes` the values of the experiment that
    differ from the segment before, `imported` the file that was imported, where nothing was trained; all must be plain
    JSON values.
    """
    segment = {
        **this_process(),
        "from_step": from_step,
        "note": note,
        "changes": dict(changes),
        "runtime": dict(runtime),
        "versions": versions(),
        "git": git_state(Path.cwd()),
    }
    if imported is not None:
        segment["imported"] = dict(imported)
    with appending(run):
        append_record(run.segments_path, segment)


def read_segments(run: Run) -> list[dict[str, Any]]:
    """The segments, oldest first; a torn last line is left out. Raises NcsnxError."""
    return read_records(run.segments_path)


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that results depend on; None for what isn't installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def git_state(folder: Path) -> dict[str, Any] | None:
    """The commit checked out in `folder`, and whether tracked files differ from it (None: took too long).

    None where there is no git, no repository or no commit. Takes seconds at the most.
    """
    commit = _git(folder, "git rev-parse --verify HEAD")
    if commit is None:
        return None
    status = _git(folder, "git status --porcelain --untracked-files=no")
    return {"commit": commit, "dirty": None if status is None else status != ""}


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

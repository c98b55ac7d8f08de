"""The history of a run: one record per start of training or import, with what is needed to repeat it."""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

from ncsnx.config.plugins import Plugin, plugins_of
from ncsnx.config.variants import OMITTED, VERSION
from ncsnx.errors import Hint, NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import SET_ASIDE
from ncsnx.spelling import argument
from ncsnx.storage.documents import append_document, document, read_document_lines
from ncsnx.storage.process import ProcessNote, this_process

_PACKAGES = ("ncsnx", "torch", "torchvision", "numpy", "pillow", "safetensors", "attrs", "cattrs", "scikit-learn")

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
    epoch: int | None = attrs.field(default=None, metadata=OMITTED)
    step: int
    """Steps of the training; 0 if unknown."""
    note: str = ""


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
    code_folder: Path | None = None,
) -> None:
    """Records a start of training at `from_step` (0 for a new run). Raises NcsnxError.

    code_folder: the folder of the experiment's file, whose git state is recorded; default: the current one.

    `runtime` and `changes` must be plain JSON values; see `Segment`.
    """
    segment = Segment(
        **this_process(),
        from_step=from_step,
        note=note,
        changes=dict(changes),
        runtime=dict(runtime),
        versions=versions(),
        git=git_state(code_folder or Path.cwd()),
        plugins=plugins_of(run.declared()),
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


def require_beginning(run: Run, unsound: Sequence[tuple[int, str]]) -> None:
    """Raises NcsnxError if a run without a sound checkpoint had checkpoints, so that it can't begin.

    unsound: its unsound checkpoints and their errors, newest first.
    """
    if unsound:
        step, why = unsound[0]
        raise _without_checkpoint(run, f"none of {len(unsound)} is sound; step {step:,}: {why}")
    if starts := [segment.from_step for segment in read_segments(run) if segment.from_step]:
        raise _without_checkpoint(run, f"its segments mention step {starts[-1]:,}")
    if aside := sorted(run.checkpoints.glob(SET_ASIDE)):
        raise _without_checkpoint(run, f"set aside: {aside[-1].name}")


def _without_checkpoint(run: Run, trace: str) -> NcsnxError:
    return NcsnxError(
        f"run {run.name!r} has no sound checkpoint any more, but had some ({trace}), and starting over would drop its "
        "records",
        Hint(f"restore a sound checkpoint into {run.checkpoints} from a backup"),
        Hint("or start a new run", adds=argument("name", f"{run.name}-2")),
    )


def git_state(folder: Path) -> GitState | None:
    """The commit checked out in `folder`, and whether tracked files differ from it.

    None without git, repository or commit. Takes a few seconds at most.
    """
    commit = _git(folder, "git rev-parse --verify HEAD")
    if commit is None:
        return None
    status = _git(folder, "git status --porcelain --untracked-files=no")
    return GitState(commit=commit.decode().strip(), dirty=None if status is None else status != b"")


def _git(folder: Path, command: str) -> bytes | None:
    """Output of a git command; None if it fails or takes longer than _GIT_LIMIT_S."""
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", *command.split()[1:]],
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"},  # the user's own git goes first
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_LIMIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout

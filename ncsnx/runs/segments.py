"""The history of a run: one record per start of training or import, with what is needed to repeat it.

Uncommitted changes of the git repository that holds the experiment's file are a patch in the run, named by its sha256,
so that equal ones of several starts are stored once. At the top of the repository,
`git checkout COMMIT && git apply RUN/patches/NAME` restores the tracked files.
"""

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

from ncsnx.config.variants import OMITTED, VERSION
from ncsnx.errors import Hint, NcsnxError
from ncsnx.quantities import byte_size
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import SET_ASIDE
from ncsnx.runs.plugins import Plugin, plugins_of
from ncsnx.spelling import argument
from ncsnx.storage import atomic
from ncsnx.storage.documents import append_document, document, read_document_lines
from ncsnx.storage.process import ProcessNote, in_utf8, this_process

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


MOST_PATCH_BYTES = 2**20
"""Largest patch that is recorded."""
MOST_UNTRACKED = 1_000
"""Most names of untracked files that are recorded."""
_GIT_LIMIT_S = 2.0
_PATCH_NAME = re.compile(r"([0-9a-f]{64})\.patch")
_DIFF = (
    "git diff HEAD -U3 --inter-hunk-context=0 --submodule=short --binary --full-index --no-color --no-ext-diff "
    "--no-textconv --no-relative --src-prefix=a/ --dst-prefix=b/"
)
"""Options that make the patch independent of the user's settings."""


@attrs.frozen
class GitSource:
    """A folder whose repository is recorded."""

    folder: Path
    patch: bool
    """Whether uncommitted changes and names of untracked files are recorded too."""


@attrs.frozen(kw_only=True)
class GitState:
    """State of the git repository of a folder."""

    commit: str
    dirty: bool | None
    """Whether tracked files differ from the commit; None if git took too long."""
    patch: str | None = attrs.field(default=None, metadata=OMITTED)
    """File in the run's patches/ with the staged and unstaged changes of tracked files."""
    no_patch: str = attrs.field(default="", metadata=OMITTED)
    """Why the changes weren't recorded."""
    untracked: tuple[str, ...] = attrs.field(default=(), metadata=OMITTED)
    """Untracked files that aren't ignored, and folders of such files; at most MOST_UNTRACKED."""


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


def recorded_state(run: Run, source: GitSource) -> GitState | None:
    """The state of the source's repository; its changes are written to the run's patches/, if possible."""
    state = git_state(source.folder)
    if state is None or not source.patch:
        return state if state is None or not state.dirty else attrs.evolve(state, no_patch="it was turned off")
    top = os.fsdecode(_git(source.folder, "git rev-parse --show-toplevel") or b"").rstrip("\n")
    names = _git(Path(top), "git ls-files --others --directory --exclude-standard -z") or b""
    untracked = [in_utf8(os.fsdecode(name)) for name in names.split(b"\0") if name]
    state = attrs.evolve(state, untracked=tuple(untracked[:MOST_UNTRACKED]))
    content = b"" if state.dirty is False else _git(source.folder, _DIFF)
    if content is None:
        return attrs.evolve(state, no_patch="git failed or took too long")
    if len(content) > MOST_PATCH_BYTES:
        return attrs.evolve(state, no_patch=f"it is larger than {byte_size(MOST_PATCH_BYTES)}")
    if not content:
        return state
    path = run.patches / f"{hashlib.sha256(content).hexdigest()}.patch"
    try:
        with atomic.reporting(run.patches):
            run.patches.mkdir(exist_ok=True)
        atomic.write_bytes(path, content)
    except NcsnxError as error:  # a training is worth more than a record of its sources
        return attrs.evolve(state, no_patch=error.message)
    return attrs.evolve(state, patch=path.name)


def is_patch_name(name: str) -> bool:
    """Whether a file of this name in patches/ is a recorded patch."""
    return _PATCH_NAME.fullmatch(name) is not None


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

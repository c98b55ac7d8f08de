"""State of the git repository that holds an experiment's file, with its uncommitted changes as a patch in the run.

At the top of the repository, `git checkout COMMIT && git apply RUN/patches/NAME` restores the tracked files. A patch is
named by its sha256, so equal ones of several starts are stored once.
"""

import hashlib
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ncsnx.config.variants import OMITTED
from ncsnx.errors import NcsnxError
from ncsnx.quantities import byte_size
from ncsnx.storage import atomic
from ncsnx.storage.process import in_utf8

if TYPE_CHECKING:
    from ncsnx.runs.folder import Run

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


def git_state(folder: Path) -> GitState | None:
    """The commit checked out in `folder`, and whether tracked files differ from it.

    None without git, repository or commit. Takes a few seconds at most.
    """
    commit = _git(folder, "git rev-parse --verify HEAD")
    if commit is None:
        return None
    status = _git(folder, "git status --porcelain --untracked-files=no")
    return GitState(commit=commit.decode().strip(), dirty=None if status is None else status != b"")


def recorded_state(run: "Run", source: GitSource) -> GitState | None:
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

"""State of the git repository that holds an experiment's file, with its uncommitted changes as a patch in the run.

At the top of the repository, `git checkout COMMIT && git apply RUN/patches/NAME` restores the tracked files. A patch is
named by its sha256, so that equal ones of several starts are stored once, and none is overwritten.
"""

import hashlib
import os
import re
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ncsnx.config.variants import OMITTED
from ncsnx.errors import NcsnxError
from ncsnx.quantities import byte_size
from ncsnx.storage import atomic, reading
from ncsnx.storage.process import in_utf8

if TYPE_CHECKING:
    from ncsnx.runs.folder import Run

MOST_PATCH_BYTES = 2**20
"""Largest patch that is recorded."""
MOST_UNTRACKED = 1_000
"""Most names of untracked files that are recorded."""
_GIT_LIMIT_S = 2.0
_OTHER_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
"""Variables by which hooks of git name another repository than that of a folder."""
_MOST_OUTPUT = 16 * 2**20
_PATCH_NAME = re.compile(r"([0-9a-f]{64})\.patch")
_UNTRACKED = "git ls-files --others --directory --exclude-standard -z"
_DIFF = (
    "git diff HEAD -U3 --inter-hunk-context=0 --submodule=short "
    "--binary --full-index --no-color --no-ext-diff --no-textconv --no-relative "
    "--src-prefix=a/ --dst-prefix=b/"
)


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
    dirty = None if status is None else status != b""
    return GitState(commit=commit.decode("utf-8", "replace").strip(), dirty=dirty)


def recorded_state(run: "Run", source: GitSource) -> GitState | None:
    """The state of the source's repository; its changes are written to the run's patches/, if possible."""
    state = git_state(source.folder)
    if state is None or not source.patch:
        return state if state is None or not state.dirty else attrs.evolve(state, no_patch="it was turned off")
    top = _git(source.folder, "git rev-parse --show-toplevel")
    names = None if top is None else _git(Path(os.fsdecode(top.rstrip(b"\n"))), _UNTRACKED)
    untracked = [in_utf8(os.fsdecode(name)) for name in (names or b"").split(b"\0") if name]
    state = attrs.evolve(state, untracked=tuple(untracked[:MOST_UNTRACKED]))
    if state.dirty is False:
        return state
    content = _git(source.folder, _DIFF, MOST_PATCH_BYTES)
    if content is None:
        return attrs.evolve(state, no_patch="git failed or took too long")
    if len(content) > MOST_PATCH_BYTES:
        return attrs.evolve(state, no_patch=f"it is larger than {byte_size(MOST_PATCH_BYTES)}")
    if not content:
        return state
    try:
        patch = _written(run, content)
    except NcsnxError as error:  # a training is worth more than a record of its sources
        return attrs.evolve(state, no_patch=error.message)
    inside = re.search(rb"^[+]Subproject commit [0-9a-f]+-dirty$", content, re.MULTILINE)
    return attrs.evolve(state, patch=patch, no_patch="changes inside submodules are not in it" if inside else "")


def is_patch_name(name: str) -> bool:
    """Whether a file of this name in patches/ is a recorded patch."""
    return _PATCH_NAME.fullmatch(name) is not None


def is_sound_patch(path: Path) -> bool:
    """Whether a recorded patch can be read and has the sha256 that is its name."""
    try:
        return hashlib.sha256(reading.read_bytes(path, MOST_PATCH_BYTES)).hexdigest() == path.stem
    except OSError:
        return False


def _written(run: "Run", content: bytes) -> str:
    path = run.patches / f"{hashlib.sha256(content).hexdigest()}.patch"
    with atomic.reporting(run.patches):
        run.patches.mkdir(exist_ok=True)
    if not is_sound_patch(path):
        atomic.write_bytes(path, content)
    return path.name


def _git(folder: Path, command: str, most_bytes: int = _MOST_OUTPUT) -> bytes | None:
    """Output of a git command, cut after most_bytes + 1; None if it fails or takes longer than _GIT_LIMIT_S."""
    own = {name: text for name, text in os.environ.items() if name not in _OTHER_REPOSITORY}
    try:
        # no optional locks, so as not to disturb the user's own git commands
        process = subprocess.Popen(
            ["git", "-c", "core.fsmonitor=false", *command.split()[1:]],
            cwd=folder,
            env={**own, "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"},
            start_new_session=True,  # without a terminal to ask for a password
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    with process:
        timer = threading.Timer(_GIT_LIMIT_S, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            output = process.stdout.read(most_bytes + 1)
            if len(output) > most_bytes:
                process.kill()
                return output
            return output if process.wait() == 0 else None
        finally:
            timer.cancel()
            process.kill()

"""The run that published checkpoints are imported into; each is written atomically."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import attrs

from ncsnx.config import Experiment
from ncsnx.config.codec import Difference, identity
from ncsnx.config.discovery import Resolved
from ncsnx.data.transforms import require_scale
from ncsnx.errors import Hint, NcsnxError
from ncsnx.exchange.importing.conversion import parts
from ncsnx.exchange.published_files import PublishedCheckpoint
from ncsnx.runs import checkpoint
from ncsnx.runs.checkpoint import TensorFile
from ncsnx.runs.folder import Run, open_run
from ncsnx.runs.manifest import (
    STATE,
    FileRecord,
    Manifest,
    UnsoundError,
    verify,
    write_checkpoint,
)
from ncsnx.runs.names import step_name
from ncsnx.runs.retention import remove_debris
from ncsnx.runs.segments import ImportRecord, append_segment
from ncsnx.runs.writer_lock import writer_lock
from ncsnx.spelling import A_NAME, argument
from ncsnx.training.start import require_same_identity

ImportOutcome = Literal["imported", "already there"]


@attrs.frozen
class Imported:
    """Result of importing one file."""

    step: int
    outcome: ImportOutcome
    folder: Path
    """Folder of the checkpoint."""


class ImportTarget:
    """The run to import into. It is created and locked for the first checkpoint that fits.

    An existing run is opened and locked on entering, before gigabytes are read. Raises NcsnxError if it belongs to
    another experiment or another process is writing it, and for unbounded data without a scale.
    """

    def __init__(self, runs_folder: Path, name: str, found: Resolved, note: str = "") -> None:
        self.path = runs_folder / name
        self.run: Run | None = None
        self.kept: list[Difference] = []
        """Values that the existing run keeps, although the experiment now differs."""
        self._found, self._note = found, note
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if not self.path.exists():
            require_scale(self._found.experiment.data)
        else:
            run = open_run(self.path.parent, f"{self.path.parent}/{self.path.name}")
            self._found = attrs.evolve(self._found, experiment=self._found.experiment.completed_by(run.experiment()))
            self.kept = require_same_identity(run, self._found.experiment, None)
            self._hold(run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def add(self, published: PublishedCheckpoint, check_stop: Callable[[], None] = lambda: None) -> Imported:
        """Imports a checkpoint that fits the experiment. Raises NcsnxError as `import_checkpoint` does."""
        found = self._found
        if self.run is None:
            self._hold(
                Run.create(self.path.parent, self.path.name, found.experiment, found.origins, found.source, None)
            )
        assert self.run is not None
        return import_checkpoint(self.run, found.experiment, published, self._note, check_stop)

    def _hold(self, run: Run) -> None:
        self._open.enter_context(writer_lock(run))
        remove_debris(run)
        self.run = run


def import_checkpoint(
    run: Run,
    experiment: Experiment,
    published: PublishedCheckpoint,
    note: str = "",
    check_stop: Callable[[], None] = lambda: None,
) -> Imported:
    """Adds a checkpoint to the run atomically. The caller holds the lock and has checked that the checkpoint fits.

    The import is recorded in the run's segments, and in the state of every checkpoint trained from it. If the step
    already exists with the same contents, nothing is done. The weights in
    `published` are released on the way. check_stop: called before each part; may raise to stop.

    Raises NcsnxError if the step exists with other contents, if the run was trained (two trainings in one run couldn't
    be distinguished), for NaN or infinity, and if writing fails.
    """
    folder = run.checkpoints / step_name(published.step)
    origin = ImportRecord(
        file=published.path.name,
        sha256=published.sha256,
        bytes=published.size,
        epoch=published.epoch,
        step=published.step,
        note=note,
    )
    images = published.step * experiment.batch_size
    state = {"identity": identity(experiment), "images": images, "imported": attrs.asdict(origin)}

    def files() -> Iterator[tuple[str, bytes | TensorFile]]:
        return checkpoint.contents(published.step, parts(experiment, published, check_stop), state)

    there = _sound(folder)
    if there is not None and (differing := _differing(there, files())):
        raise NcsnxError(
            f"{folder} already exists with other contents than {published.path} ({', '.join(differing)}), and nothing "
            "is overwritten",
            Hint("import it into a new run", adds=argument("name", A_NAME)),
        )
    if there is not None:
        return Imported(published.step, "already there", folder)
    if run.data_fingerprint() is not None:
        raise NcsnxError(
            f"{run.path} was trained here, and {published.path} belongs to another training",
            Hint("import it into a new run", adds=argument("name", f"{run.name}-published")),
        )
    append_segment(run, from_step=published.step, runtime={}, changes={}, note=note, imported=origin)
    return Imported(published.step, "imported", write_checkpoint(run.checkpoints, published.step, files()))


def _sound(folder: Path) -> Manifest | None:
    """The manifest of the checkpoint in `folder`; None if there is no sound one."""
    try:
        return verify(folder)
    except UnsoundError:  # missing, or moved aside when the new one is written
        return None


def _differing(there: Manifest, files: Iterable[tuple[str, bytes | TensorFile]]) -> list[str]:
    """Names of files of a sound checkpoint that have other contents."""
    names = []
    for name, content in files:
        record = there.files.get(name)
        if name != STATE and record != FileRecord.of(content):
            names.append(name)
        del content  # freed before the next is made
    return names

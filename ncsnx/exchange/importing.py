"""Makes runs of models that were trained elsewhere."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import attrs

from ncsnx.config.codec import Difference, identity
from ncsnx.config.experiment import Experiment
from ncsnx.config.pretrained import Pretrained
from ncsnx.errors import Hint, NcsnxError
from ncsnx.exchange.model_source import FoundModel
from ncsnx.runs import checkpoint
from ncsnx.runs.checkpoint import TensorFile
from ncsnx.runs.folder import Run, open_run
from ncsnx.runs.manifest import STATE, FileRecord, Manifest, UnsoundError, verify, write_checkpoint
from ncsnx.runs.names import step_name
from ncsnx.runs.retention import remove_debris
from ncsnx.runs.segments import ImportRecord, append_segment, read_segments
from ncsnx.runs.writer_lock import writer_lock
from ncsnx.spelling import A_NAME, argument
from ncsnx.training.start import require_same_identity


@attrs.frozen
class Imported:
    """Result of importing one checkpoint."""

    outcome: Literal["imported", "already there"]
    folder: Path
    """Folder of the checkpoint."""


@contextmanager
def import_target(
    path: Path, found: FoundModel, origins: dict[str, str], text: str | None
) -> Iterator[tuple[Run, list[Difference]]]:
    """The run at `path`, which is created or opened for a model, and locked within the block; and the values that an
    existing run keeps, although the experiment now differs.

    origins: see `Run.create`. text: of the experiment's file, if one was named. Raises NcsnxError, also for a run of
    another model.
    """
    if path.exists():
        run = open_run(path.parent, f"{path.parent}/{path.name}")
        kept = _kept(run, found)
    else:
        run = Run.create(path.parent, path.name, found.declared, origins, text, None, found.space)
        kept = []
    with writer_lock(run):
        remove_debris(run)
        if isinstance(found.declared, Pretrained) and found.declared.data is not None:
            run.compare_with(found.declared.data)
        yield run, kept


def _kept(run: Run, found: FoundModel) -> list[Difference]:
    """The values that an existing run keeps. Raises NcsnxError if it is of another model."""
    if isinstance(found.declared, Experiment):
        return require_same_identity(run, found.declared, None)
    if identity(run.declared()) != identity(found.declared):
        raise NcsnxError(
            f"{run.path} is of another model than {found.record.file}",
            Hint("import it into a new run", adds=argument("name", f"{run.name}-2")),
        )
    return []


def import_checkpoint(
    run: Run, found: FoundModel, note: str = "", check_stop: Callable[[], None] = lambda: None
) -> Imported:
    """Adds a checkpoint to the run atomically. The caller holds the lock.

    The import is recorded in the run's segments, and in the state of every checkpoint trained from it. If the step
    already exists with the same contents, nothing is done. check_stop: called before each part; may raise to stop.

    Raises NcsnxError if the step exists with other contents, if the run was trained (two trainings in one run couldn't
    be distinguished), and if writing fails.
    """
    record = attrs.evolve(found.record, note=note)
    folder = run.checkpoints / step_name(record.step)
    state = {"identity": identity(found.declared), "imported": attrs.asdict(record)}

    def files() -> Iterator[tuple[str, bytes | TensorFile]]:
        return checkpoint.contents(record.step, found.parts(check_stop), state)

    with suppress(UnsoundError):  # missing, or moved aside when the new one is written
        if differing := _differing(verify(folder), files()):
            raise NcsnxError(
                f"{folder} already exists with other contents than {record.file} ({', '.join(differing)}), and "
                "nothing is overwritten",
                Hint("import it into a new run", adds=argument("name", A_NAME)),
            )
        if not any(one.imported is not None and one.from_step == record.step for one in read_segments(run)):
            _record(run, record, note)  # the import was interrupted before
        return Imported("already there", folder)
    if run.data_fingerprint() is not None:
        raise NcsnxError(
            f"{run.path} was trained here, and {record.file} belongs to another training",
            Hint("import it into a new run", adds=argument("name", f"{run.name}-published")),
        )
    folder = write_checkpoint(run.checkpoints, record.step, files())
    _record(run, record, note)
    return Imported("imported", folder)


def _record(run: Run, record: ImportRecord, note: str) -> None:
    """Records an import whose checkpoint is complete."""
    append_segment(run, from_step=record.step, runtime={}, changes={}, note=note, imported=record)


def _differing(there: Manifest, files: Iterable[tuple[str, bytes | TensorFile]]) -> list[str]:
    """Names of files of a sound checkpoint that have other contents."""
    names = []
    for name, content in files:
        record = there.files.get(name)
        if name != STATE and record != FileRecord.of(content):
            names.append(name)
        del content  # freed before the next is made
    return names

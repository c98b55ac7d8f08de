"""A run is a folder that explains itself: its places, how it comes into being, and how it is found again."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import attrs

from ncsnx.config import codec
from ncsnx.config.checks import shortened
from ncsnx.config.data_sets import Digits
from ncsnx.config.discovery import file_and_name, is_built_in, resolve
from ncsnx.config.experiment import Experiment
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.paths import exists, typed_name_or_path
from ncsnx.runs.exported import Export, is_export
from ncsnx.runs.names import as_typed, check_run_name, near_matches
from ncsnx.runs.names import runs_folder as default_folder
from ncsnx.runs.origins import Origins
from ncsnx.spelling import A_NAME, argument
from ncsnx.storage import atomic
from ncsnx.storage.documents.document import document, document_bytes
from ncsnx.storage.documents.document_files import read_document, write_document
from ncsnx.storage.reading import refuse_links


@document("a run's configuration")
@attrs.frozen(kw_only=True)
class RunConfig:
    """config.json of a run."""

    schema_version: int = attrs.field(default=codec.CONFIG_VERSION, metadata=codec.EXPERIMENT_VERSION)
    experiment: Experiment
    data_fingerprint: str | None
    """Of the data that it was trained on here; None for one that was only imported."""


@attrs.frozen
class Run:
    """One run's folder. The properties are places in it, which need not exist yet."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's own name, whatever path led to it."""
        return self.path.name or self.path.resolve().name

    @property
    def config_path(self) -> Path:
        """The experiment and the fingerprint of its data."""
        return self.path / "config.json"

    @property
    def origins_path(self) -> Path:
        """Where each value of the experiment came from."""
        return self.path / "origins.json"

    @property
    def source_path(self) -> Path:
        """A snapshot of the experiment's file, to be read by people; never executed."""
        return self.path / "experiment.py"

    @property
    def segments_path(self) -> Path:
        """One JSON line for each start of the training."""
        return self.path / "segments.jsonl"

    @property
    def metrics_path(self) -> Path:
        """One JSON line for each step that was logged."""
        return self.path / "metrics.jsonl"

    @property
    def log_path(self) -> Path:
        """What the console showed."""
        return self.path / "log.txt"

    @property
    def tensorboard(self) -> Path:
        """Event files."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """One folder for each step that was saved."""
        return self.path / "checkpoints"

    @property
    def snapshots(self) -> Path:
        """Grids of samples drawn while training."""
        return self.path / "snapshots"

    @property
    def samples(self) -> Path:
        """What `ncsnx sample` drew."""
        return self.path / "samples"

    @property
    def fid(self) -> Path:
        """What `ncsnx fid` measured."""
        return self.path / "fid"

    @property
    def compare(self) -> Path:
        """What `ncsnx compare` measured, and the sampler that it recommends."""
        return self.path / "compare"

    @property
    def neighbors(self) -> Path:
        """What `ncsnx neighbors` found."""
        return self.path / "neighbors"

    @property
    def unsound(self) -> Path:
        """Checkpoints that `ncsnx doctor --repair` moved aside."""
        return self.path / "unsound"

    @property
    def loss(self) -> Path:
        """What `ncsnx loss` measured."""
        return self.path / "loss"

    @property
    def likelihood(self) -> Path:
        """What `ncsnx likelihood` measured."""
        return self.path / "likelihood"

    @classmethod
    def create(
        cls,
        runs_folder: Path,
        name: str,
        experiment: Experiment,
        origins: dict[str, str],
        source: str | None,
        data_fingerprint: str | None,
    ) -> Self:
        """Makes the folder of a new run, whole or not at all; `runs_folder` is made if need be.

        `origins` maps a value's dotted path to where it came from; `source` is the text of the experiment's
        file; `data_fingerprint` is None where no data is at hand. Raises UsageError for a bad name, and for one that
        differs from another run's in upper and lower case only (where files are copied to, both may be one); NcsnxError
        if something of that name exists or can't be written.
        """
        run = cls(runs_folder / check_run_name(name))
        for other in _run_names(runs_folder):
            if other != name and other.lower() == name.lower():
                raise UsageError(
                    f"a run {name!r} and the run {other!r} could not both be on a disk that does not tell upper "
                    f"from lower case; give another name with {argument('name', A_NAME)}"
                )
        try:
            config = RunConfig(experiment=experiment, data_fingerprint=data_fingerprint)
            with atomic.new_folder(run.path) as folder:
                contents = {
                    run.config_path: document_bytes(config),
                    run.origins_path: document_bytes(Origins(by_path=origins)),
                }
                if source is not None:
                    contents[run.source_path] = source.encode("utf-8")
                for path, content in contents.items():
                    atomic.write_new(folder / path.name, content, shown=path)
                with atomic.reporting(run.checkpoints):
                    (folder / run.checkpoints.name).mkdir()
        except NcsnxError as error:
            if run.path.exists():
                raise NcsnxError(
                    f"{run.path} exists already, and nothing is overwritten; give the new run a name with "
                    f"{argument('name', A_NAME)}"
                ) from error
            raise
        return run

    def experiment(self) -> Experiment:
        """The experiment of this run. Raises NcsnxError that names the file for anything wrong with it."""
        return self._config().experiment

    def data_fingerprint(self) -> str | None:
        """The fingerprint of the data that the run was trained on here; None for one that was only imported.

        Raises NcsnxError.
        """
        return self._config().data_fingerprint

    def update_experiment(self, experiment: Experiment) -> None:
        """Replaces the experiment, for values that may change when a run is resumed. Raises NcsnxError."""
        write_document(self.config_path, attrs.evolve(self._config(), experiment=experiment))

    def adopt_data(self, fingerprint: str) -> None:
        """Records the data of a run that has none on record; it must be this from now on. Raises NcsnxError."""
        write_document(self.config_path, attrs.evolve(self._config(), data_fingerprint=fingerprint))

    def _config(self) -> RunConfig:
        try:
            return read_document(self.config_path, RunConfig)
        except FileNotFoundError as error:
            raise NcsnxError(f"cannot read {self.config_path}: {error.strerror}") from error


@contextmanager
def appending(run: Run) -> Iterator[None]:
    """Names the command that helps, where the block can't append to a file of the run that has further names."""
    try:
        yield
    except atomic.HardLinkedError as error:
        known = shlex.quote(run.name) if run.path.parent == default_folder() else as_typed(run.path)
        raise NcsnxError(f"{error}\nmake it a file of its own:  ncsnx doctor {known} --repair") from error


def open_run(runs_folder: Path, name_or_path: str | Path, *, needs_config: bool = True) -> Run:
    """The run of that name in `runs_folder`, or at that path.

    needs_config: whether what has checkpoints, but no config.json, is none. Raises UsageError with near matches if
    there is none, and for a file, NcsnxError for a folder that isn't a run.
    """
    path = locate(runs_folder, name_or_path, needs_config=needs_config)
    _refuse_export(path)
    return Run(path)


def locate(runs_folder: Path, name_or_path: str | Path, *, needs_config: bool = True) -> Path:
    """The folder of the run, or of the exported model, of that name in `runs_folder`, or at that path.

    needs_config as in `open_run`. Raises UsageError with near matches if there is none, and for a file; NcsnxError for
    a folder that is neither.
    """
    typed = typed_name_or_path(name_or_path) if isinstance(name_or_path, str) else str(name_or_path)
    candidates = [Path(typed)] if "/" in typed or typed in ("", ".", "..") else [runs_folder / typed, Path(typed)]
    for path in candidates:
        if exists(path / "config.json") or is_export(path):
            return path
        if not needs_config and exists(Run(path).checkpoints):
            return path
    for path in candidates:
        if exists(path):
            kind = NcsnxError if path.is_dir() else UsageError  # a folder may have been a run; a file is a mistake
            raise kind(f"{path} is not a run: it has no config.json; `ncsnx list` shows the runs there are")
    if candidates == [Path(typed)]:
        raise UsageError(f"there is no run at {shortened(typed)!a}; `ncsnx list` shows the runs there are")
    check_run_name(typed)
    raise _no_run(typed, runs_folder)


def _no_run(name: str, runs_folder: Path) -> UsageError:
    """The error for a run that isn't there; where an experiment has its name, with the commands that make the run."""
    missing = f"there is no run {name!r} in {runs_folder}"
    found = None if file_and_name(name)[0] is not None else _experiment(name)  # no file is executed for a run's name
    if found is None:
        return UsageError(f"{missing}; {near_matches(name, _run_names(runs_folder))}")

    def command(words: str) -> str:
        where = shlex.quote(str(runs_folder))
        return f"ncsnx {words}" if runs_folder == default_folder() else f"ncsnx {words} --runs {where}"

    hints = [Hint("train it", command(f"train {name}"))]
    if is_built_in(found) and not isinstance(found.data, Digits):
        hints.append(Hint("or import a published checkpoint", command(f"import FILE.pth {name}")))
    return UsageError(f"{missing}, but there is an experiment of that name", *hints)


def _experiment(name: str) -> Experiment | None:
    try:
        return resolve(name).experiment
    except NcsnxError:
        return None


def list_runs(runs_folder: Path) -> list[tuple[str, Run | Export | str]]:
    """Every folder in `runs_folder` by name: a run, an exported model or what is wrong with it. Raises NcsnxError."""
    rows: list[tuple[str, Run | Export | str]] = []
    for name in _run_names(runs_folder):
        path = runs_folder / name
        found = Export(path) if is_export(path) else Run(path)
        try:
            found.experiment()
            rows.append((name, found))
        except NcsnxError as error:
            rows.append((name, str(error)))
    return rows


def open_results(folder: Path, place: Path) -> Path:
    """The place of results in one of a run's folders, made if need be; links aren't followed. Raises NcsnxError."""
    refuse_links(folder, place)
    with atomic.reporting(place):
        place.mkdir(parents=True, exist_ok=True)
    return place


def _refuse_export(path: Path) -> None:
    if is_export(path):
        raise NcsnxError(
            f"{path} is an exported model, not a run; `ncsnx sample {as_typed(path)}` draws images from it"
        )


def _run_names(runs_folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in runs_folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise NcsnxError(f"cannot read the runs folder {runs_folder}: {error.strerror}") from error

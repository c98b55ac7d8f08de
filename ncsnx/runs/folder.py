"""The folder of a run: its layout, how it is created and how it is found."""

import mimetypes
import shlex
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Self

import attrs

from ncsnx.bounded_reads import reading
from ncsnx.config import codec
from ncsnx.config.data_sets import Data
from ncsnx.config.discovery import built_in_folder
from ncsnx.config.experiment import Experiment
from ncsnx.config.plugins import Plugin, plugins_of
from ncsnx.config.pretrained import Declared, Pretrained, declared_by, require_one, require_trained
from ncsnx.config.sampler import Sampler
from ncsnx.config.variants import OMITTED, REST, VERSION
from ncsnx.errors import Hint, NcsnxError, UsageError, shortened
from ncsnx.exports.exported import is_export
from ncsnx.exports.hub import hub_address
from ncsnx.model_spec import ModelSpec
from ncsnx.paths import checked_name_or_path, exists
from ncsnx.runs.fast_sampler import require_fast
from ncsnx.runs.ledger import Best, Ledger, require_best
from ncsnx.runs.manifest import checkpoints
from ncsnx.runs.names import (
    as_typed,
    check_file_name,
    check_run_name,
    is_sweep_folder,
    near_matches,
    parse_step,
    step_of,
)
from ncsnx.runs.names import runs_folder as default_folder
from ncsnx.space import Space
from ncsnx.spelling import A_NAME, argument
from ncsnx.storage import atomic
from ncsnx.storage.documents import document, document_bytes, read_document, write_document
from ncsnx.work import SILENT, Work


@document("a run's configuration")
@attrs.frozen(kw_only=True)
class RunConfig:
    """Content of a run's config.json."""

    schema_version: int = attrs.field(default=codec.CONFIG_VERSION, metadata=VERSION)
    experiment: Experiment | None = attrs.field(default=None, validator=require_one, metadata=OMITTED)
    """The experiment that trains it; None for a model that was trained elsewhere."""
    pretrained: Pretrained | None = attrs.field(default=None, metadata=OMITTED)
    """The model that was trained elsewhere, in place of an experiment."""
    data_fingerprint: str | None
    """Fingerprint of the data that the run was trained on; None for a run that was only imported."""
    space: Space
    """The space of its images, as measured when the run started."""
    plugins: tuple[Plugin, ...] = attrs.field(default=(), metadata=OMITTED)
    """Installed packages that the experiment needs, as of the last start."""


class RunEntry:
    """The path of a file or folder in a run's folder; it need not exist."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: "Run", kind: type) -> Path:
        """The path in a run. Has no meaning for the class itself."""
        return run.path / self.name


@attrs.frozen
class Run:
    """One run's folder."""

    path: Path

    config_path = RunEntry("config.json")
    """The experiment and the fingerprint of its data."""
    origins_path = RunEntry("origins.json")
    """The origin of each value of the experiment."""
    source_path = RunEntry("experiment.py")
    """A copy of the experiment's file, for people; never executed."""
    segments_path = RunEntry("segments.jsonl")
    """One JSON line for each start of the training."""
    metrics_path = RunEntry("metrics.jsonl")
    """One JSON line for each step that was logged."""
    log_path = RunEntry("log.txt")
    """Console output."""
    report_path = RunEntry("report.html")
    """The page about the run, renewed while it trains."""
    tensorboard = RunEntry("tensorboard")
    """TensorBoard event files."""
    checkpoints = RunEntry("checkpoints")
    """One folder for each step that was saved."""
    snapshots = RunEntry("snapshots")
    """Grids of samples drawn while training."""
    samples = RunEntry("samples")
    """Samples of `ncsnx sample`."""
    ledger_path = RunEntry("measurements.jsonl")
    """All measurements: see `ncsnx.runs.ledger`."""
    fid = RunEntry("fid")
    """Tables, plots and features of `ncsnx fid`."""
    trackers = RunEntry("trackers")
    """Which experiment trackers the run uses, and what each has been sent."""

    @property
    def name(self) -> str:
        """The folder's own name, whatever path led to it."""
        return self.path.name or self.path.resolve().name

    @property
    def where(self) -> str:
        """Place of the run, for messages: its path."""
        return str(self.path)

    @property
    def cli_name(self) -> str:
        """The run in a command line: its name if it is in the default runs folder, else its path."""
        return shlex.quote(self.name) if self.path.parent == default_folder() else as_typed(self.path)

    @property
    def cli_path(self) -> str:
        """The run as a path in a command line, which no experiment's name is mistaken for: `runs/NAME`."""
        return as_typed(self.path)

    @classmethod
    def create(
        cls,
        runs_folder: Path,
        name: str,
        declared: Declared,
        origins: dict[str, str],
        file_text: str | None,
        data_fingerprint: str | None,
        space: Space,
    ) -> Self:
        """Creates the folder of a new run atomically, and `runs_folder` if it doesn't exist.

        origins: dotted path of a value → where it came from. file_text: text of the experiment's file.
        data_fingerprint: None without data. Raises UsageError for an invalid name; NcsnxError if the name already
        exists or can't be written.
        """
        run = cls(runs_folder / check_run_name(name))
        try:
            config = RunConfig(
                experiment=declared if isinstance(declared, Experiment) else None,
                pretrained=declared if isinstance(declared, Pretrained) else None,
                data_fingerprint=data_fingerprint,
                space=space,
                plugins=plugins_of(declared),
            )
            with atomic.new_folder(run.path) as folder:
                contents = {
                    run.config_path: document_bytes(config),
                    run.origins_path: document_bytes(Origins(by_path=origins)),
                }
                if file_text is not None:
                    contents[run.source_path] = file_text.encode("utf-8")
                for path, content in contents.items():
                    atomic.write_new(folder / path.name, content, shown=path)
                with atomic.reporting(run.checkpoints):
                    (folder / run.checkpoints.name).mkdir()
        except NcsnxError as error:
            if run.path.exists():
                raise NcsnxError(
                    f"{run.path} already exists, and nothing is overwritten",
                    Hint("give the new run another name", adds=argument("name", A_NAME)),
                ) from error
            raise
        return run

    def declared(self) -> Declared:
        """The experiment of this run, or the model that it was made of. Raises NcsnxError if its file is invalid."""
        config = self._config()
        return declared_by(config.experiment, config.pretrained)

    def experiment(self) -> Experiment:
        """The experiment of this run. Raises NcsnxError without one, and if its file is invalid."""
        return require_trained(self.declared(), self.where)

    def space(self) -> Space:
        """The space of the run's images. Raises NcsnxError that names the file if it is invalid."""
        return self._config().space

    def spec(self) -> ModelSpec:
        """The model that the run trains. Raises NcsnxError that names the file if it is invalid."""
        return ModelSpec.of(self.declared(), self.space())

    def checkpoint(self, wanted: int | str | None = None, work: Work = SILENT) -> int:
        """The step of an existing checkpoint, sound or not; says which one 'best' is.

        wanted: a step as a number or as typed, 'latest' (the default) or 'best'. Raises UsageError for an invalid or
        missing step, NcsnxError without checkpoints or, for 'best', without scores.
        """
        step = parse_step(wanted) if isinstance(wanted, str) else wanted
        if step == "best":
            work.info(f"best: {(best := self.best(work))}")
            return best.step
        steps = self.steps()
        if step in (None, "latest"):
            return steps[-1]
        if step not in steps:
            nearest = sorted(sorted(steps, key=lambda other: abs(other - int(step)))[:4])
            listed = ", ".join(f"{other:,}" for other in nearest)
            raise UsageError(f"run {self.name!r} has no checkpoint of step {step:,}; nearest: {listed}")
        return int(step)

    def steps(self) -> list[int]:
        """Steps of its checkpoints, ascending, sound or not. Raises NcsnxError if there is none."""
        if not (found := checkpoints(self)):
            is_import = self.data_fingerprint() is None
            first = "repeat the import, which was interrupted" if is_import else "`ncsnx train` writes the first"
            raise NcsnxError(f"run {self.name!r} has no checkpoint yet", Hint(first))
        return found

    def best(self, work: Work = SILENT) -> Best:
        """The checkpoint with the lowest score. Warns of damaged measurements. Raises NcsnxError without scores."""
        ledger = Ledger.read(self)
        ledger.warn(work.warning)
        return require_best(ledger)

    def fast(self, work: Work = SILENT) -> Sampler:
        """The sampler that `ncsnx compare` recommends; says why. Raises NcsnxError where it recommends none."""
        ledger = Ledger.read(self)
        ledger.warn(work.warning)
        sampler, why = require_fast(ledger)
        work.info(f"sampler=fast: {why}")
        return sampler

    def data_fingerprint(self) -> str | None:
        """Fingerprint of the run's training data; None for a run that was only imported. Raises NcsnxError."""
        return self._config().data_fingerprint

    def update_experiment(self, experiment: Experiment) -> None:
        """Replaces the experiment, when a resumed run changes values that may change. Raises NcsnxError."""
        changed = attrs.evolve(
            self._config(),
            experiment=experiment,
            space=self.space().shown_as(experiment.data),
            plugins=plugins_of(experiment),
        )
        write_document(self.config_path, changed)

    def compare_with(self, data: Data) -> None:
        """Records the data set that a model from elsewhere is compared with. Raises NcsnxError."""
        config = self._config()
        if config.pretrained is not None and config.pretrained.data != data:
            changed = attrs.evolve(config.pretrained, data=data)
            write_document(self.config_path, attrs.evolve(config, pretrained=changed))

    def has_other_plugins(self) -> bool:
        """Whether packages that the experiment needs are now installed in another version. Raises NcsnxError."""
        return self._config().plugins != plugins_of(self.experiment())

    def adopt_data(self, fingerprint: str) -> None:
        """Records the data of a run that has none; from now on it must stay the same. Raises NcsnxError."""
        write_document(self.config_path, attrs.evolve(self._config(), data_fingerprint=fingerprint))

    def _config(self) -> RunConfig:
        with reading(self.config_path):
            status = self.config_path.stat()
            return _read_config(self.config_path, (status.st_ino, status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=64)
def _read_config(path: Path, version: tuple[int, int, int]) -> RunConfig:
    """The configuration of a run, read once. version: changes with the file."""
    return read_document(path, RunConfig)


def open_run(runs_folder: Path, name_or_path: str | Path, *, needs_config: bool = True) -> Run:
    """The run of that name in `runs_folder`, or at that path.

    needs_config: False also accepts a folder with checkpoints but no config.json. Raises UsageError with near matches
    for an unknown name, UsageError for a file and NcsnxError for a folder that isn't a run.
    """
    if (address := hub_address(str(name_or_path))) is not None:
        hint = Hint("draw images from it", f"ncsnx sample {address}")
        raise UsageError(f"{address} is an exported model, not a run", hint)
    path = locate(runs_folder, name_or_path, needs_config=needs_config)
    if is_export(path):
        hint = Hint("draw images from it", f"ncsnx sample {as_typed(path)}")
        raise NcsnxError(f"{path} is an exported model, not a run", hint)
    return Run(path)


_OF_DIFFUSERS = "model_index.json"
"""File of a model that diffusers saved."""


def locate(
    runs_folder: Path, name_or_path: str | Path, *, needs_config: bool = True, shipped: Sequence[str] = ()
) -> Path:
    """The folder of the run or exported model of that name in `runs_folder`, or at that path.

    `runs/NAME` is a path too; where nothing is there, it is the name in `runs_folder`.
    needs_config as in `open_run`; shipped: names of models that come with ncsnx, which are near matches too.
    Raises UsageError with near matches for an unknown name, UsageError for a file and NcsnxError for a folder that is
    neither.
    """
    typed = checked_name_or_path(name_or_path) if isinstance(name_or_path, str) else str(name_or_path)
    is_path, listing = "/" in typed or typed in ("", ".", ".."), Hint("list the runs", "ncsnx list")
    candidates = [Path(typed)] if is_path else [runs_folder / typed, Path(typed)]
    if Path(typed).parent == Path("runs") and (name := Path(typed).name) != "..":
        candidates.append(runs_folder / name)
    for path in candidates:
        if exists(path / "config.json") or is_export(path) or (not needs_config and exists(Run(path).checkpoints)):
            return path
        if path.parent.name == "checkpoints" and (step := step_of(path.name)) is not None:
            raise UsageError(
                f"{path} is a checkpoint; name the run {path.parent.parent}, with {argument('ckpt', step)}"
            )
    for path in filter(exists, candidates):
        complaint = f"{path} is not a run: it has no config.json"
        if path.is_dir():  # which may have been a run; a file is a mistake
            raise NcsnxError(complaint, listing, pictures_hint(path))
        is_picture = (mimetypes.guess_type(path.name)[0] or "").startswith("image/")
        restoring = f"ncsnx restore photographs --denoise {as_typed(path)}"
        raise UsageError(complaint, Hint("restore the picture", restoring) if is_picture else listing)
    if is_path:
        file = Path(f"{typed}.py")
        train = Hint("train the experiment", f"ncsnx train {as_typed(file)}")
        raise UsageError(f"there is no run at {shortened(typed)!a}", train if exists(file) else listing)
    check_file_name(typed, "a run", listing)
    raise _no_run(typed, runs_folder, shipped)


def pictures_hint(folder: Path) -> Hint:
    """The hint for a folder where an experiment or run was expected."""
    if (folder / _OF_DIFFUSERS).is_file():
        return Hint("if it is a model of diffusers, make a run of it", f"ncsnx import {as_typed(folder)}")
    return Hint("if it holds pictures, make an experiment of them", f"ncsnx new {A_NAME} --from {as_typed(folder)}")


def _no_run(name: str, runs_folder: Path, shipped: Sequence[str]) -> UsageError:
    """The error for a missing run."""
    missing = f"there is no run {name!r} in {runs_folder}"
    hints = [Hint(f"did you mean {near}, which comes with ncsnx") for near in get_close_matches(name, shipped)]
    if names := run_names(runs_folder):
        is_experiment = any((folder / f"{name}.py").is_file() for folder in (Path("experiments"), built_in_folder()))
        train = [Hint("train the experiment of this name", f"ncsnx train {name}")] if is_experiment else []
        return UsageError(f"{missing}; {near_matches(name, names)}", *hints, *train)
    return UsageError(f"{missing}, which holds none yet", *hints, Hint("train an experiment", f"ncsnx train {name}"))


def run_names(runs_folder: Path) -> list[str]:
    """Names of the runs and exported models in the folder. Raises NcsnxError if it can't be read."""
    with reading(runs_folder), suppress(FileNotFoundError):
        folders = [path for path in runs_folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        return sorted(path.name for path in folders if not is_sweep_folder(path))
    return []


@document("the origins of a run's values", advice="fix it or remove it")
@attrs.frozen(kw_only=True)
class Origins:
    """Content of a run's origins.json."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    by_path: dict[str, str] = attrs.field(metadata=REST)
    """Dotted path of a value → where it came from."""


def read_origins(path: Path) -> dict[str, str]:
    """Origins by dotted path; empty if there is no file. Raises NcsnxError for a damaged file."""
    try:
        return read_document(path, Origins).by_path
    except FileNotFoundError:
        return {}

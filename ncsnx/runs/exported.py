"""An exported model: one folder that is used without its run, its experiment's file and its data.

    config.json  model.safetensors  README.md  samples.png

The layout is that of a model repository on the Hugging Face Hub, so that the folder can be uploaded as it is. What is
read from it is `config.json`, whose every byte counts, and `model.safetensors`, whose sha256 stands there. The card and
the picture are for people, and may be edited. Nothing in the folder is executed, and no link in it is followed.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import attrs

from ncsnx.config import checks, codec
from ncsnx.config.checks import NAME
from ncsnx.config.data_sets import place_fields
from ncsnx.config.experiment import Experiment
from ncsnx.config.strict.fields import versioned
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.quantities import counted
from ncsnx.runs.checkpoints.weight_sizes import size_problem
from ncsnx.spelling import argument
from ncsnx.storage import atomic, reading
from ncsnx.storage.documents.document import document, document_bytes, parse_document
from ncsnx.storage.parsing import read_json
from ncsnx.version import __version__

CONFIG, MODEL, CARD, PICTURE = "config.json", "model.safetensors", "README.md", "samples.png"
FORMAT: Literal["ncsnx-export"] = "ncsnx-export"
FORMAT_VERSION = 1
MOST_CONFIG_BYTES = 1 << 20
"""No configuration comes near; more isn't read."""

Weights = Literal["ema", "raw"]

_FAULTS = {
    errno.ENOENT: "is missing; get a complete copy of the exported folder",
    errno.ENOTDIR: "is missing; get a complete copy of the exported folder",
    errno.ELOOP: "is a symbolic link, and those are not followed; put the file itself there (`cp -rL` copies a folder "
    "without links, `hf download … --local-dir DIR` makes none)",
    errno.ENODEV: "is not a regular file; get a complete copy of the exported folder",
}


@document("an exported model", advice="get an unchanged copy of the exported folder", sealed=True)
@attrs.frozen(kw_only=True)
class ExportConfig:
    """What `config.json` says of an exported model."""

    format: Literal["ncsnx-export"]
    format_version: int = attrs.field(default=FORMAT_VERSION, metadata=versioned())
    ncsnx_version: str = attrs.field(validator=checks.short_ascii)
    """Of the program that exported it."""
    run: str = attrs.field(validator=checks.name)
    """Name of the run that it comes from."""
    step: int = attrs.field(validator=checks.not_negative)
    """Of the checkpoint."""
    weights: Weights
    """'ema': averaged; 'raw': those of the last update, where the experiment averages none."""
    checkpoint_sha256: str = attrs.field(validator=checks.sha256_hex)
    """Of the file in the run's checkpoint that the weights come from; scores belong to it. In hexadecimal."""
    model_sha256: str = attrs.field(validator=checks.sha256_hex)
    """Of model.safetensors, in hexadecimal."""
    model_bytes: int = attrs.field(validator=checks.not_negative)
    """The size of model.safetensors."""
    data_fingerprint: str | None = attrs.field(validator=checks.when_given(checks.short_ascii))
    """Of the training data; None where it isn't known."""
    schema_version: int = attrs.field(default=codec.CONFIG_VERSION, metadata=codec.EXPERIMENT_VERSION)
    experiment: Experiment

    def to_bytes(self) -> bytes:
        """The file: readable JSON with a digest of its own canonical form."""
        return document_bytes(self)

    @classmethod
    def from_bytes(cls, written: bytes, path: Path) -> "ExportConfig":
        """What `to_bytes` wrote; `path` is named in complaints. Raises NcsnxError for anything else."""
        found = parse_document(written, cls, path)
        if paths := _paths(found.experiment):
            raise NcsnxError(f"{path}: experiment.data.{paths[0]}: expected a plain name, found a path to elsewhere")
        return found


@attrs.frozen
class Export:
    """An exported folder. Like a run it has an experiment and a fingerprint of its data, but one checkpoint only."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's own name, whatever path led to it; never one that leads elsewhere."""
        name = self.path.name if self.path.name not in ("", "..") else self.path.resolve().name
        return name or "model"

    def config(self) -> ExportConfig:
        """What config.json says. Raises NcsnxError that names the file for anything wrong with it."""
        path = self.path / CONFIG
        with _readable(path), reading.opened(path) as file:
            written = file.read(MOST_CONFIG_BYTES + 1)
        return ExportConfig.from_bytes(written, path)

    def experiment(self) -> Experiment:
        """The experiment that the model was trained by. Raises NcsnxError."""
        return self.config().experiment

    def data_fingerprint(self) -> str | None:
        """The fingerprint of the training data; None where it isn't known. Raises NcsnxError."""
        return self.config().data_fingerprint

    def model_content(self, config: ExportConfig) -> bytes:
        """model.safetensors, read once and compared with its sha256 in `config`. Raises NcsnxError."""
        path = self.path / MODEL
        if (problem := size_problem(config.experiment, MODEL, config.model_bytes)) is not None:
            raise NcsnxError(f"{path} {problem}; get an unchanged copy of the exported folder")
        with _readable(path), reading.opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != config.model_bytes:
                raise NcsnxError(
                    f"{path} has {counted(size, 'byte')} instead of {config.model_bytes:,}; get a complete copy of the "
                    "exported folder"
                )
            content = file.read(size)
        if hashlib.sha256(content).hexdigest() != config.model_sha256:
            raise NcsnxError(
                f"{path} is damaged: its sha256 is not the one in {CONFIG}; get an unchanged copy of the "
                f"exported folder"
            )
        return content


def is_export(path: Path) -> bool:
    """Whether the folder is an exported model, sound or not, rather than a run."""
    try:
        content = read_json(path / CONFIG, MOST_CONFIG_BYTES)
    except (OSError, ValueError):
        return os.path.lexists(path / MODEL) and not os.path.lexists(path / "checkpoints")
    return isinstance(content, dict) and content.get("format") == FORMAT


def check_target(path: Path) -> None:
    """Whether an export may become `path`: nothing is there, or an empty folder. Raises UsageError, NcsnxError.

    Asked before anything is computed, and so of the place too: whether a folder can be made there.
    """
    if path.name in ("", ".."):
        raise UsageError(
            f"{str(path)!a} cannot be made; give the new folder a name, as in {argument('out', 'digits-model')}"
        )
    atomic.check_place(path)
    with atomic.reporting(path):
        if not os.path.lexists(path):
            return
        if not path.is_symlink() and path.is_dir() and not any(path.iterdir()):
            return
    raise NcsnxError(f"{path} exists already, and nothing is overwritten; choose another folder with {argument('out')}")


def unfinished(path: Path) -> list[Path]:
    """What exports to `path` that were killed left beside it; one that is at work now looks the same."""
    if not path.parent.is_dir():
        return []
    with atomic.reporting(path):
        return [entry for entry in atomic.debris(path.parent) if atomic.is_temporary(entry.name, path.name)]


def write_export(path: Path, config: ExportConfig, model: bytes, card: str, picture: bytes | None = None) -> Export:
    """Writes the folder, whole or not at all. picture: a PNG of samples, if there is one.

    Raises UsageError and NcsnxError as `check_target`, and NcsnxError where the system refuses; then nothing is left.
    """
    check_target(path)
    written = config.to_bytes()
    if len(written) > MOST_CONFIG_BYTES:
        raise NcsnxError(
            f"{path / CONFIG} would have {counted(len(written), 'byte')}, more than the {MOST_CONFIG_BYTES:,} that are "
            "read; shorten the experiment's note"
        )
    ExportConfig.from_bytes(written, path / CONFIG)
    # the configuration last, so that a folder that isn't complete is none
    files = {MODEL: model, PICTURE: picture, CARD: card.encode("utf-8"), CONFIG: written}
    with atomic.new_folder(path) as folder:
        for name, content in files.items():
            if content is not None:
                atomic.write_new(folder / name, content, shown=path / name)
    return Export(path)


def export_config(
    experiment: Experiment,
    *,
    run: str,
    step: int,
    weights: Weights,
    checkpoint_sha256: str,
    model: bytes,
    data_fingerprint: str | None,
) -> ExportConfig:
    """The configuration for `model`, the content of model.safetensors.

    Paths to the data are a machine's own affair and may tell of its owner: at most their last part stays. run: its
    name; where that isn't a plain name, the experiment's is taken.
    """
    return ExportConfig(
        format=FORMAT,
        ncsnx_version=__version__,
        experiment=_portable(experiment),
        run=run if _is_name(run) else experiment.name,
        step=step,
        weights=weights,
        checkpoint_sha256=checkpoint_sha256,
        model_sha256=hashlib.sha256(model).hexdigest(),
        model_bytes=len(model),
        data_fingerprint=data_fingerprint,
    )


def _portable(experiment: Experiment) -> Experiment:
    changes: dict[str, Any] = {}
    defaults = {field.name: field.default for field in attrs.fields(type(experiment.data))}
    for name in _paths(experiment):
        changes[name] = None if defaults[name] is None else _last_part(getattr(experiment.data, name))
    return attrs.evolve(experiment, data=attrs.evolve(experiment.data, **changes))


def _paths(experiment: Experiment) -> list[str]:
    """The fields of the data whose value leads somewhere: it isn't a plain name."""
    data = experiment.data
    return [name for name in place_fields(data) if (value := getattr(data, name)) != _last_part(value)]


def _last_part(path: str) -> str:
    """The last name of a path, as a relative path that leads to something inside."""
    name = Path(path).name.lstrip("~")
    return "data" if name in ("", "..") else name


def _is_name(value: object) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None and ".." not in value


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = _FAULTS.get(error.errno or 0, f"cannot be read: {error.strerror}")
        raise NcsnxError(f"{path} {reason}") from error

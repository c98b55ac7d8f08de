"""An exported model: one folder that works without the run, the experiment file or the data.

    config.json  model.safetensors  README.md  samples.png

The layout is that of a model repository on the Hugging Face Hub, so the folder can be uploaded as it is. ncsnx reads
only `config.json`, which carries a digest of itself, and `model.safetensors`, whose sha256 is in `config.json`. The
card and the picture are for people and may be edited. Nothing in the folder is executed.
"""

import hashlib
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import attrs

from ncsnx import bounded_reads
from ncsnx.bounded_reads import read_json
from ncsnx.config import checks, codec
from ncsnx.config.checks import NAME
from ncsnx.config.data_sets import path_fields
from ncsnx.config.experiment import Experiment
from ncsnx.config.plugins import Plugin, plugins_of
from ncsnx.config.pretrained import Declared, Pretrained, declared_by, require_one, require_trained
from ncsnx.config.sampler import Sampler
from ncsnx.config.variants import OMITTED, VERSION
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.model_spec import ModelSpec
from ncsnx.quantities import counted
from ncsnx.space import Space
from ncsnx.spelling import A_DIR, argument, parameter
from ncsnx.storage import atomic
from ncsnx.storage.documents import document, document_bytes, parse_document
from ncsnx.version import __version__
from ncsnx.work import SILENT, Work

CONFIG, MODEL, CARD, PICTURE = "config.json", "model.safetensors", "README.md", "samples.png"
SHIPPED = Path(__file__).parents[1] / "shipped"
"""Folder of the exported models that come with ncsnx."""
PLACEHOLDER = "path/to/this/folder"
"""Placeholder for the folder's path in the card's examples."""
FORMAT: Literal["ncsnx-export"] = "ncsnx-export"
FORMAT_VERSION = 1
MOST_CONFIG_BYTES = 1 << 20
"""Largest config.json that is read; real ones are far smaller."""
_HEADER_BYTES = 2**20
"""Largest header of a model file; it takes some 150 bytes per tensor."""

Weights = Literal["ema", "raw", "published"]

_UNCHANGED_COPY = "get an unchanged copy of the exported folder"


@document("an exported model", advice=_UNCHANGED_COPY, sealed=True)
@attrs.frozen(kw_only=True)
class ExportConfig:
    """Content of `config.json` in an exported model."""

    format: Literal["ncsnx-export"]
    format_version: int = attrs.field(default=FORMAT_VERSION, metadata=VERSION)
    ncsnx_version: str = attrs.field(validator=checks.short_ascii)
    """Version of ncsnx that exported the model."""
    run: str = attrs.field(validator=checks.name)
    """Name of the run."""
    step: int = attrs.field(validator=checks.not_negative)
    """Step of the checkpoint."""
    weights: Weights
    """'ema': averaged weights; 'raw': weights of the last update, for an experiment without EMA; 'published': those of
    a model that was trained elsewhere."""
    checkpoint_sha256: str = attrs.field(validator=checks.sha256_hex)
    """sha256 (hexadecimal) of the checkpoint's weights file; scores are recorded under it."""
    model_sha256: str = attrs.field(validator=checks.sha256_hex)
    """sha256 of model.safetensors (hexadecimal)."""
    model_bytes: int = attrs.field(validator=checks.not_negative)
    """Size of model.safetensors."""
    data_fingerprint: str | None = attrs.field(validator=checks.short_ascii)
    """Fingerprint of the training data; None if unknown."""
    space: Space
    """The space of the images."""
    schema_version: int = attrs.field(default=codec.CONFIG_VERSION, metadata=VERSION)
    experiment: Experiment | None = attrs.field(default=None, validator=require_one, metadata=OMITTED)
    pretrained: Pretrained | None = attrs.field(default=None, metadata=OMITTED)
    """The model that was trained elsewhere, in place of an experiment."""
    license: str = attrs.field(default="unknown", validator=checks.short_ascii, metadata=OMITTED)
    """License of the weights by its name on the Hub."""
    half: bool = attrs.field(default=False, metadata=OMITTED)
    """Whether parameters are rounded to float16."""
    plugins: tuple[Plugin, ...] = attrs.field(default=(), metadata=OMITTED)
    """Installed packages that the experiment needs."""

    @property
    def declared(self) -> Declared:
        """The experiment, or the model that was trained elsewhere."""
        return declared_by(self.experiment, self.pretrained)

    def to_bytes(self) -> bytes:
        """The file's content: readable JSON with a digest of its canonical form."""
        return document_bytes(self)

    def size_problem(self) -> str | None:
        """The problem with the declared size of model.safetensors, in words that follow its path, or None.

        The bytes of a network follow from its experiment, so that a file that declares more is neither read nor hashed.
        None also if the network can't be built here, which is reported where it is needed.
        """
        from ncsnx.config.variants import load_plugins
        from ncsnx.networks.construction import meta_network  # here, since it imports torch

        try:
            load_plugins("ncsnx.runtime")
            network = meta_network(self.declared, self.space)
            values = sum(tensor.nbytes for tensor in network.state_dict().values())
            values -= self.half * sum(parameter.nbytes for parameter in network.parameters()) // 2
        except NcsnxError:
            return None
        if values <= self.model_bytes <= values + _HEADER_BYTES:
            return None
        return f"has {counted(self.model_bytes, 'byte')}; the weights of the experiment's network have {values:,}"

    @classmethod
    def from_bytes(cls, written: bytes, path: Path | str) -> "ExportConfig":
        """Parses the output of `to_bytes`. path: the file, or where it comes from, for errors. Raises NcsnxError for
        anything else."""
        config = parse_document(written, cls, path)
        if paths := _paths(config.declared):
            raise NcsnxError(f"{path}: experiment.data.{paths[0]}: expected a plain name, found a path to elsewhere")
        return config


@attrs.frozen
class Export:
    """An exported folder. Like a run, it has an experiment and a data fingerprint, but only one checkpoint."""

    path: Path
    hub: str | None = None
    """Address on the Hugging Face Hub, with the commit, of a model that comes from there."""

    @property
    def where(self) -> str:
        """Place of the model, for messages: its address on the Hub, its name if it comes with ncsnx, or its path."""
        if self.path.parent == SHIPPED:
            return self.name
        return str(self.path) if self.hub is None else self.hub

    @property
    def name(self) -> str:
        """The name of the repository on the Hub, else the folder's own, whatever path led to it; always plain."""
        if self.hub is not None:
            return self.hub.partition("@")[0].rpartition("/")[2]
        name = self.path.name if self.path.name not in ("", "..") else self.path.resolve().name
        return name or "model"

    def config(self) -> ExportConfig:
        """The content of config.json. Raises NcsnxError that names the file if it is invalid."""
        path = self.path / CONFIG
        with _readable(path), bounded_reads.opened(path) as file:
            written = file.read(MOST_CONFIG_BYTES + 1)
        return ExportConfig.from_bytes(written, path)

    def declared(self) -> Declared:
        """The experiment that trained the model, or where it comes from. Raises NcsnxError."""
        return self.config().declared

    def experiment(self) -> Experiment:
        """The experiment that trained the model. Raises NcsnxError for a model that was trained elsewhere."""
        return require_trained(self.declared(), self.where)

    def space(self) -> Space:
        """The space of the images. Raises NcsnxError."""
        return self.config().space

    def spec(self) -> ModelSpec:
        """The exported model. Raises NcsnxError."""
        config = self.config()
        return ModelSpec.of(config.declared, config.space)

    def checkpoint(self, wanted: int | str | None = None, work: Work = SILENT) -> int:
        """Step of its only checkpoint. Raises UsageError if another one is asked for."""
        step = self.config().step
        if wanted is not None:
            only = f"{self.where} is an exported model with one checkpoint, of step {step:,}"
            raise UsageError(f"{only}; leave {parameter('ckpt')} out")
        return step

    def fast(self, work: Work = SILENT) -> Sampler:
        """Raises UsageError: no sampler was compared."""
        raise UsageError(
            f"sampler=fast needs a run, in which `ncsnx compare` measures samplers, and {self.where} is an exported "
            "model; type the sampler itself"
        )

    def data_fingerprint(self) -> str | None:
        """Fingerprint of the training data; None if unknown. Raises NcsnxError."""
        return self.config().data_fingerprint

    def model_content(self, config: ExportConfig) -> bytes:
        """Content of model.safetensors, read once and checked against its sha256 in `config`. Raises NcsnxError."""
        path = self.path / MODEL
        if (problem := config.size_problem()) is not None:
            raise NcsnxError(f"{path} {problem}", self._remedy())
        with _readable(path), bounded_reads.opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != config.model_bytes:
                raise NcsnxError(
                    f"{path} has {counted(size, 'byte')} instead of {config.model_bytes:,}", self._remedy()
                )
            content = file.read(size)
        if hashlib.sha256(content).hexdigest() != config.model_sha256:
            raise NcsnxError(f"{path} is damaged: its sha256 is not the one in {CONFIG}", self._remedy())
        return content

    def _remedy(self) -> Hint:
        """Advice on a damaged file."""
        if self.hub is None:
            return Hint(_UNCHANGED_COPY)
        model = self.path.parents[1]  # of MODEL/snapshots/COMMIT, whose files are links
        return Hint("remove the copy; the next use downloads it again", f"rm -r {shlex.quote(str(model))}")


def is_export(path: Path) -> bool:
    """Whether the folder is an exported model (valid or not) rather than a run."""
    try:
        content = read_json(path / CONFIG, MOST_CONFIG_BYTES)
    except (OSError, ValueError):
        return os.path.lexists(path / MODEL) and not os.path.lexists(path / "checkpoints")
    return isinstance(content, dict) and content.get("format") == FORMAT


def check_target(path: Path) -> None:
    """Checks that an export can be written to `path`: a new name or an empty folder. Raises UsageError, NcsnxError.

    Called before anything is computed, so it also checks that a folder can be made there.
    """
    if path.name in ("", ".."):
        raise UsageError(
            f"{str(path)!a} cannot be made", Hint("give the new folder a name", adds=argument("out", "digits-model"))
        )
    atomic.check_place(path)
    with atomic.reporting(path):
        if not os.path.lexists(path):
            return
        if not path.is_symlink() and path.is_dir() and not any(path.iterdir()):
            return
    raise NcsnxError(
        f"{path} already exists, and nothing is overwritten", Hint("choose another folder", adds=argument("out", A_DIR))
    )


def write_export(path: Path, config: ExportConfig, model: bytes, card: str, picture: bytes | None = None) -> Export:
    """Writes the folder, atomically. picture: PNG of samples, or None.

    Raises UsageError and NcsnxError as `check_target` does, and NcsnxError if writing fails; then nothing is left.
    """
    check_target(path)
    written = config.to_bytes()
    if len(written) > MOST_CONFIG_BYTES:
        raise NcsnxError(
            f"{path / CONFIG} would have {counted(len(written), 'byte')}, more than the limit of {MOST_CONFIG_BYTES:,}",
            Hint("shorten the experiment's note"),
        )
    # config.json comes last: without it the folder is not an exported model
    files = {MODEL: model, PICTURE: picture, CARD: card.encode("utf-8"), CONFIG: written}
    with atomic.new_folder(path) as folder:
        for name, content in files.items():
            if content is not None:
                atomic.write_new(folder / name, content, shown=path / name)
    return Export(path)


def export_config(
    declared: Declared,
    space: Space,
    *,
    run: str,
    step: int,
    weights: Weights,
    checkpoint_sha256: str,
    model: bytes,
    data_fingerprint: str | None,
    license: str = "unknown",
    half: bool = False,
) -> ExportConfig:
    """The configuration of an export. model: content of model.safetensors.

    Paths to the data can reveal private names, so only their last component is kept. run: name of the run; if it isn't
    a plain name, that of the experiment is used.
    """
    carried = portable(declared)
    return ExportConfig(
        format=FORMAT,
        ncsnx_version=__version__,
        experiment=carried if isinstance(carried, Experiment) else None,
        pretrained=carried if isinstance(carried, Pretrained) else None,
        license=license,
        half=half,
        space=space,
        plugins=plugins_of(declared),
        run=run if NAME.fullmatch(run) else declared.name,
        step=step,
        weights=weights,
        checkpoint_sha256=checkpoint_sha256,
        model_sha256=hashlib.sha256(model).hexdigest(),
        model_bytes=len(model),
        data_fingerprint=data_fingerprint,
    )


def portable(declared: Declared) -> Declared:
    """The same without paths to the data, of which only the last component is kept."""
    data, changes = declared.data, dict[str, Any]()
    if data is None:
        return declared
    defaults = {field.name: field.default for field in attrs.fields(type(data))}
    for name in _paths(declared):
        changes[name] = None if defaults[name] is None else _last_part(getattr(data, name))
    return attrs.evolve(declared, data=attrs.evolve(data, **changes))


def _paths(declared: Declared) -> list[str]:
    """Fields of the data whose value is a path rather than a plain name."""
    if (data := declared.data) is None:
        return []
    return [name for name in path_fields(data) if (value := getattr(data, name)) != _last_part(value)]


def _last_part(path: str) -> str:
    """Last component of a path, as a plain relative name."""
    name = Path(path).name.lstrip("~")
    return "data" if name in ("", "..") else name


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise NcsnxError(f"{path} is missing", Hint(_UNCHANGED_COPY)) from error
        raise NcsnxError(f"{path} cannot be read: {error.strerror}") from error

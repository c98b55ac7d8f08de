"""The contract of sources: forms of files in which models that were trained elsewhere come.

A module of `ncsnx.exchange.sources`, or one that a package names by an entry point of the group `ncsnx.runtime`,
registers a class:

    @source
    class Lab(ModelSource):
        kind, form = "lab", "a folder with lab.json"

        def recognizes(self, address): return (Path(address) / "lab.json").is_file()

        def read(self, address, experiment, work): return FoundModel(declared=Pretrained(…), …)

A source says what its files say, and invents nothing. Files come from strangers: a source executes nothing of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import attrs
import torch

from ncsnx import bounded_reads
from ncsnx.config import Experiment
from ncsnx.config.codec import flatten
from ncsnx.config.converter import StructureError, structure, unstructure
from ncsnx.config.pretrained import Declared, Pretrained
from ncsnx.config.variants import load_plugins
from ncsnx.errors import NcsnxError, UsageError, quoted, shortened
from ncsnx.networks import Network, meta_network
from ncsnx.paths import exists
from ncsnx.quantities import listed
from ncsnx.registering import import_modules_of
from ncsnx.runs.checkpoint import Tensors
from ncsnx.runs.segments import ImportRecord
from ncsnx.space import Space
from ncsnx.work import Work

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MOST_BYTES = 16 * 2**30
"""Largest file that is read; the largest published checkpoint has 2.4 GB."""
_MOST_JSON_BYTES = 2**20


@attrs.frozen(eq=False, kw_only=True)
class FoundModel:
    """A model of a source, of which one checkpoint is made."""

    declared: Declared
    """The model as its files say it is, or the experiment that the caller named for it."""
    space: Space
    """The space of its images."""
    record: ImportRecord
    """The file of the weights."""
    parts: Callable[[Callable[[], None]], Iterator[tuple[str, Tensors]]]
    """The parts of the checkpoint, as (name, tensors), given what is called before each and may raise to stop."""
    has_average: bool = False
    """Whether raw and averaged weights are in the file."""
    stated: Sequence[str] = ()
    """Dotted paths of values that the files state, or that follow from them; all below a path count."""

    @classmethod
    def of(
        cls,
        declared: Pretrained,
        tensors: Tensors | Callable[[Network], Tensors],
        size: int,
        *,
        stated: Sequence[str] = ("shape", "model"),
        own: tuple[float, float] = (0.0, 1.0),
    ) -> "FoundModel":
        """A model that was trained elsewhere, of the tensors of its network by our names.

        tensors: or what gives them for the network on the meta device. size: of the file in bytes. stated: see the
        field. own: numbers that pictures of its data have for black and white. Raises NcsnxError for tensors that don't
        fit the network, and for NaN or infinity.
        """
        declared = checked(declared)
        space = attrs.evolve(Space.with_ends(declared.shape, declared.ends), own=own, sigma_data=declared.sigma_data)
        source = declared.source
        try:
            network = meta_network(declared, space)
            network.require_size(*declared.shape[1:])
        except NcsnxError as error:  # without its hints, which are for fields of experiments
            raise NcsnxError(f"{source.address}: {error.message}") from error
        state = tensors(network) if callable(tensors) else tensors
        require_tensors(network, source.address, state)
        record = ImportRecord(file=source.address, sha256=source.sha256, bytes=size, step=source.step or 0)

        def parts(check_stop: Callable[[], None]) -> Iterator[tuple[str, Tensors]]:
            check_stop()
            yield "model", {name: tensor.float().contiguous() for name, tensor in state.items()}

        stated = ("source.address", "source.sha256", *stated)
        return cls(declared=declared, space=space, record=record, parts=parts, stated=stated)

    @property
    def is_pretrained(self) -> bool:
        """Whether the files say themselves what the model is."""
        return isinstance(self.declared, Pretrained)

    @property
    def origins(self) -> dict[str, str]:
        """Origin of each value of a model that was trained elsewhere, by dotted path."""
        paths = [path for path, _ in flatten(unstructure(self.declared))]
        known = {path for path in paths if any(f"{path}.".startswith(f"{one}.") for one in self.stated)}
        return {path: "from the file" if path in known else "import" for path in paths}

    @property
    def step_in_words(self) -> str:
        """The step of the checkpoint."""
        is_unknown = isinstance(self.declared, Pretrained) and self.declared.source.step is None
        return "a checkpoint of unknown step" if is_unknown else f"step {self.record.step:,}"

    @property
    def weights_in_words(self) -> str:
        """The kinds of weights of a published checkpoint, as an addition in brackets."""
        if self.is_pretrained:
            return ""
        return " (raw and averaged weights)" if self.has_average else " (raw weights only)"

    @property
    def remarks(self) -> Sequence[str]:
        """Lines that a person who imports it should read."""
        if not isinstance(self.declared, Pretrained):
            return ["training it further begins with a fresh optimizer"]
        source = self.declared.source
        stated = f"license: {source.license}" if source.license != "unknown" else "the files state no license"
        return [line for line in (source.remark, stated) if line]

    def compared_with(self, experiment: Experiment | None) -> "FoundModel":
        """The model with the data set of an experiment, which its images are compared with.

        Raises NcsnxError for images of another shape.
        """
        if experiment is None or not isinstance(self.declared, Pretrained):
            return self
        if experiment.data.shape != self.declared.shape:
            raise NcsnxError(
                f"{self.record.file} has images of {self.declared.shape} (channels, height, width), and "
                f"{experiment.name} of {experiment.data.shape}"
            )
        return attrs.evolve(self, declared=attrs.evolve(self.declared, data=experiment.data))


class ModelSource(ABC):
    """A form of files in which models come."""

    kind: ClassVar[str]
    """Short name, such as diffusers."""
    form: ClassVar[str]
    """How its files look, for messages."""

    @abstractmethod
    def recognizes(self, address: str) -> bool:
        """Whether a path or address looks like one of its own. Reads little. Raises UsageError for an invalid one."""

    def files(self, address: str) -> Sequence[str]:
        """The checkpoints at an address. Raises UsageError."""
        return [address]

    @abstractmethod
    def read(self, address: str, experiment: Experiment | None, work: Work) -> FoundModel:
        """Reads a checkpoint. experiment: the one that was named for it. Raises NcsnxError."""


S = TypeVar("S", bound=type[ModelSource])
_sources: dict[str, ModelSource] = {}


def source(cls: S) -> S:
    """Class decorator that registers a source. Raises ValueError if its kind is registered already."""
    if type(_sources.setdefault(cls.kind, cls())) is not cls:
        raise ValueError(f"a source exists already: {cls.kind!r}")
    return cls


def source_of(address: str) -> ModelSource:
    """The source that recognizes a path or address. Raises UsageError if none does."""
    import_modules_of("ncsnx.exchange.sources")
    load_plugins("ncsnx.runtime")
    for one in _sources.values():
        if one.recognizes(address):
            return one
    forms = "; ".join(f"{one.form} ({one.kind})" for one in _sources.values())
    there = "is no model that can be imported" if exists(Path(address)) else "does not exist"
    raise UsageError(f"{shortened(quoted(address))} {there}; expected {forms}")


def checked(declared: Pretrained) -> Pretrained:
    """The same, once every value has the type of its field. Raises NcsnxError, since files come from strangers."""
    try:
        return structure(unstructure(declared), Pretrained)
    except StructureError as error:
        raise NcsnxError(f"{declared.source.address} describes no possible model: {error}") from error


def require_tensors(network: Network, where: str, tensors: Tensors) -> None:
    """Raises NcsnxError unless the network has these names and shapes, and all numbers are finite.

    network: may be on the meta device. where: the source, for errors. Nothing is copied before the shapes agree: a
    small file may declare a tensor of any size.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name if name in shapes else quoted(name): tuple(tensor.shape) for name, tensor in tensors.items()}
    if wrong := sorted(name for name in shapes | found if shapes.get(name) != found.get(name)):
        said = [
            f"{name} is {shortened(str(found.get(name, 'missing')))}, not {shapes.get(name, 'there')}" for name in wrong
        ]
        raise NcsnxError(f"{where}: the weights do not fit the network that it describes: {listed(said, 3, '; ')}")
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS or not bool(torch.isfinite(tensor).all()):
            raise NcsnxError(f"{where}: {name} holds NaN, infinity or other than floating-point numbers")


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a small file. Raises NcsnxError."""
    try:
        found = bounded_reads.read_json(path, _MOST_JSON_BYTES)
    except (OSError, ValueError) as error:
        raise NcsnxError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(found, dict):
        raise NcsnxError(f"{path} holds no JSON object")
    return found


def plain_name(text: str) -> str:
    """A text as the name of a model or run."""
    kept = "".join(one if (one.isalnum() and one.isascii()) or one in "-_." else "-" for one in text)
    return kept.replace("..", ".").strip("-_.")[:60] or "model"

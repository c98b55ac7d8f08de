"""A model that was trained by other code: what its files say, and nothing about a training that wasn't here."""

from typing import Any, TypeAlias

import attrs

from ncsnx.config import checks
from ncsnx.config.data_sets import Data
from ncsnx.config.experiment import MOST_STEPS, Experiment, Precision
from ncsnx.config.model import Model
from ncsnx.config.sampler import Sampler
from ncsnx.config.schedule import Schedule
from ncsnx.config.variants import OUTSIDE_IDENTITY, Config
from ncsnx.errors import Hint, NcsnxError


@attrs.frozen(kw_only=True)
class Provenance(Config):
    """Origin of weights."""

    kind: str = attrs.field(validator=checks.name, metadata=OUTSIDE_IDENTITY)
    """Form of the files, such as diffusers or edm."""
    address: str = attrs.field(validator=checks.one_line, metadata=OUTSIDE_IDENTITY)
    """Plain name of the file or folder, or the address that it was downloaded from."""
    sha256: str = attrs.field(validator=checks.sha256_hex)
    """sha256 of the file of the weights, in hexadecimal."""
    license: str = attrs.field(default="unknown", validator=checks.one_line, metadata=OUTSIDE_IDENTITY)
    """License of the weights by its name on the Hugging Face Hub, if the files state it."""
    step: int | None = attrs.field(default=None, validator=checks.between(0, MOST_STEPS), metadata=OUTSIDE_IDENTITY)
    """Optimizer steps of the training. None: the files don't say."""
    made_with: str = attrs.field(default="", validator=checks.one_line, metadata=OUTSIDE_IDENTITY)
    """Package and version that read the configuration, such as diffusers 0.35.1."""
    remark: str = attrs.field(default="", validator=checks.one_line, metadata=OUTSIDE_IDENTITY)
    """Something that the source did otherwise than ncsnx does, such as clipping in each step."""


@attrs.frozen(kw_only=True)
class Pretrained(Config):
    """A model that was trained elsewhere. Its identity is that of its weights, network, noise and range."""

    name: str = attrs.field(validator=checks.name, metadata=OUTSIDE_IDENTITY)
    """Name of the model, as of an experiment."""
    source: Provenance
    """Origin of the weights."""
    shape: tuple[int, int, int] = attrs.field(validator=checks.between(1, 16_384))
    """(C, H, W) of an image, each 1 to 16,384."""
    ends: tuple[float, float] = attrs.field()
    """Numbers that the network takes for black and white, the smaller one first."""
    sigma_data: float | None = attrs.field(default=None, validator=checks.positive)
    """Root mean square of the images in the range of the network, if the network depends on it."""
    schedule: Schedule
    """Noise levels that the network knows."""
    model: Model
    """Architecture of the network."""
    labels: int = attrs.field(default=0, validator=checks.between(0, 1_000))
    """Number of labels of augmented images that the network takes."""
    sampler: Sampler = attrs.field(metadata=OUTSIDE_IDENTITY)
    """Sampler that draws images unless a command says otherwise."""
    data: Data | None = attrs.field(default=None, metadata=OUTSIDE_IDENTITY)
    """Data set that images are compared with. None: not known."""
    precision: Precision = attrs.field(default="fp32", metadata=OUTSIDE_IDENTITY)
    """Number format of the network: see `Experiment.precision`."""
    note: str = attrs.field(default="", validator=checks.one_line, metadata=OUTSIDE_IDENTITY)
    """Remark that is shown with the run: one line of printable text."""

    @ends.validator
    def _are_apart(self, attribute: "attrs.Attribute[tuple[float, float]]", value: tuple[float, float]) -> None:
        if not -1e6 <= value[0] < value[1] <= 1e6:
            raise checks.FieldError("ends", "must be two numbers, the smaller one first, from -1e6 to 1e6")


Declared: TypeAlias = Experiment | Pretrained
"""A description of a model: of its training, or of where it comes from."""


def require_one(instance: Any, attribute: "attrs.Attribute[Experiment | None]", value: Experiment | None) -> None:
    """Validator of the field `experiment` of a document that has a field `pretrained` too: one of them is there."""
    if (value is None) == (instance.pretrained is None):
        raise checks.FieldError("experiment", "must be there, or `pretrained` in its place")


def declared_by(experiment: Experiment | None, pretrained: Pretrained | None) -> Declared:
    """The one of these that is there."""
    found = experiment or pretrained
    assert found is not None
    return found


def require_trained(declared: Declared, where: str) -> Experiment:
    """The experiment. where: its run or exported model. Raises NcsnxError for a model that was trained elsewhere."""
    if isinstance(declared, Experiment):
        return declared
    raise NcsnxError(
        f"{where} was trained elsewhere, by {declared.source.kind}, so that it has no experiment",
        Hint("train a new run from its weights", f"ncsnx train EXPERIMENT --from {where}"),
    )

"""Training that starts from the weights of a model: a new run, whose steps begin at 0."""

from collections.abc import Mapping
from typing import Any

import attrs
from torch import Tensor

from ncsnx.config.checks import FieldError
from ncsnx.config.codec import differences
from ncsnx.config.data_sets import Transform
from ncsnx.config.experiment import Augmentation, Experiment
from ncsnx.config.pretrained import Pretrained
from ncsnx.config.schedule import Listed
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.runs.checkpoint import ImportedFrom
from ncsnx.runs.folder import Run, read_origins
from ncsnx.runs.manifest import checkpoints, holds, read_manifest, read_state
from ncsnx.runs.names import step_name
from ncsnx.runs.selection import ModelFolder
from ncsnx.runtime import Runtime
from ncsnx.sampling.loading import model_of

_ORIGIN = "weights of "


@attrs.frozen(eq=False, kw_only=True)
class InitialWeights:
    """Weights of a model that was trained before, here or elsewhere."""

    experiment: Experiment
    """The experiment of the new training, with the network of the model."""
    changed: tuple[str, ...]
    """Dotted paths of what the model changed in it."""
    class_names: tuple[str, ...]
    """Names of the classes that the network knows, if they are known."""
    tensors: Mapping[str, Tensor]
    record: ImportedFrom
    """Origin of the weights, for the new checkpoints."""

    @property
    def origin(self) -> str:
        """Origin of the changed values."""
        return f"{_ORIGIN}{self.record.file}"


def initial_weights(experiment: Experiment, start: ModelFolder, step: int | None = None) -> InitialWeights:
    """The weights of a run's checkpoint (by default the newest), or of an exported model, to train an experiment from.

    The experiment takes the model's network and what its weights depend on: the range of its numbers, σ_data, noise
    levels that it is made for, with its sampler, and the labels of augmentation. Raises NcsnxError for images of
    another shape.
    """
    model = model_of(start, start.checkpoint(step) if isinstance(start, Run) else 0, Runtime.choose(device="cpu"))
    saved, space = model.checkpoint, model.space
    declared = saved.declared
    if experiment.data.shape != space.shape:
        raise NcsnxError(
            f"{start.where} has images of {space.shape} (channels, height, width), and {experiment.name} of "
            f"{experiment.data.shape}",
            Hint("choose an experiment with such images"),
        )
    data = dict[str, Any]()
    changes: dict[str, Any] = {"model": declared.model, "initial_weights": saved.weights_sha256}
    if declared.model.uses_sigma_data:
        data["sigma_data"] = space.sigma_data
    if isinstance(declared, Experiment):
        takes_labels = declared.augmentation is not None
        data["transform"] = declared.data.transform
    else:
        takes_labels = declared.labels > 0
        data["transform"] = _transform(declared)
    if isinstance(declared.schedule, Listed) or not declared.model.any_sigma:
        changes |= {"schedule": declared.schedule, "sampler": declared.sampler}  # whose grid is of these levels
    changes["augmentation"] = (experiment.augmentation or Augmentation()) if takes_labels else None
    if takes_labels and hasattr(experiment.data, "random_flip"):
        data["random_flip"] = False  # augmentation mirrors images itself
    if not experiment.loss.learns_scores and space.noise > 0:
        raise NcsnxError(
            f"{start.where} learned from noisy images, and knows no σ below {space.noise:.3g}; loss=consistency needs "
            "a network of clean ones"
        )
    try:
        changed = attrs.evolve(experiment, data=attrs.evolve(experiment.data, **data), **changes)
    except FieldError as error:
        raise UsageError(f"with the weights of {start.where}, {error.field}: {error.complaint}") from error
    return InitialWeights(
        experiment=changed,
        changed=tuple(one.path for one in differences(experiment, changed)),
        class_names=space.class_names,
        tensors=model.network.state_dict(),
        record=ImportedFrom(
            file=start.name,
            sha256=saved.weights_sha256,
            step=saved.step,
            license=saved.license,
            is_start=True,
        ),
    )


def kept_weights(experiment: Experiment, run: Run, start: ModelFolder) -> tuple[Experiment, str] | None:
    """The experiment with what `initial_weights` changed in it when the run began, and the origin of these values.

    So a run resumes without the model that it started from, which may be gone or trained further: `start`, or the run
    itself where that is gone. None for a run without checkpoints, or from weights of another name.
    """
    recorded, origins = run.experiment(), read_origins(run.origins_path)
    origin = origins.get("initial_weights", "")
    if not checkpoints(run) or (start != run and origin != f"{_ORIGIN}{start.name}"):
        return None
    given = [path.split(".") for path, one in origins.items() if one == origin]
    data = {path[1]: getattr(recorded.data, path[1]) for path in given if path[0] == "data"}
    data = {name: value for name, value in data.items() if hasattr(experiment.data, name)}
    changes = {path[0]: getattr(recorded, path[0]) for path in given if path[0] != "data"}
    return attrs.evolve(experiment, data=attrs.evolve(experiment.data, **data), **changes), origin


def same_weights(run: Run) -> tuple[Run, int]:
    """The run beside this one, and its step, whose weights this one started from. Raises NcsnxError if it is gone."""
    for step in checkpoints(run)[-1:]:
        folder = run.checkpoints / step_name(step)
        record = ImportedFrom.of(read_state(folder, read_manifest(folder)))
        if record and holds(other := Run(run.path.parent / record.file), record.step, record.sha256):
            return other, record.step
    again = f"ncsnx train {run.cli_path} --run NAME --from RUN"
    raise NcsnxError(f"the weights that {run.path} started from are not beside it", Hint("start from others", again))


def _transform(declared: Pretrained) -> Transform:
    """The transform of data whose black and white are the ends of a model. Raises NcsnxError for other ends."""
    known: dict[tuple[float, float], Transform] = {(-1.0, 1.0): "rescaled", (0.0, 1.0): "none"}
    if (found := known.get(declared.ends)) is None:
        raise NcsnxError(f"{declared.name} takes {declared.ends} for black and white; expected (-1, 1) or (0, 1)")
    return found

"""Loading of models: from runs, exported models, the Hub, and the addresses of packages.

A package registers a function for its addresses:

    @loader("lab")
    def from_the_lab(address: str, runtime: Runtime) -> Model:  # ncsnx.load("lab://faces")
        return Model.of(denoiser_at(address), shape=(3, 64, 64), sigma_max=80.0)
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ncsnx.config.codec import identity
from ncsnx.config.experiment import Experiment, Precision
from ncsnx.config.pretrained import Declared, Pretrained
from ncsnx.config.variants import load_plugins
from ncsnx.errors import NcsnxError, UsageError, quoted
from ncsnx.exports.exported import MODEL, Export, Weights
from ncsnx.exports.hub import hub_address
from ncsnx.networks import empty_network, load_weights, prepare
from ncsnx.runs import checkpoint
from ncsnx.runs.checkpoint import ImportedFrom
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import read_manifest
from ncsnx.runs.names import runs_folder
from ncsnx.runs.selection import ModelFolder, open_model_folder, reading
from ncsnx.runtime import Runtime
from ncsnx.sampling.model import Checkpoint, Model, Origin
from ncsnx.space import Space
from ncsnx.spelling import parameter

Loader = Callable[[str, Runtime], Model]
L = TypeVar("L", bound=Loader)
_loaders: dict[str, Loader] = {}
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://")


def loader(scheme: str) -> Callable[[L], L]:
    """Decorator: registers a function (address, runtime) → Model for the addresses `scheme://…` of `ncsnx.load`.

    Raises ValueError for a scheme that isn't of lower-case letters and digits, or has a loader.
    """
    if not _SCHEME.fullmatch(f"{scheme}://"):
        raise ValueError(f"a scheme has lower-case letters, digits, '+', '.' and '-', not {scheme!r}")

    def join(function: L) -> L:
        if _loaders.setdefault(scheme, function) is not function:
            raise ValueError(f"{scheme}:// already has a loader: {_loaders[scheme]!r}")
        return function

    return join


@loader("hf")
def _from_hub(address: str, runtime: Runtime) -> Model:
    export = open_model_folder(Path(), address)
    return model_of(export, export.checkpoint(), runtime)


def load(
    source: ModelFolder | Path | str,
    ckpt: int | str | None = None,
    *,
    runs: Path | str | None = None,
    runtime: Runtime | None = None,
    precision: Precision | None = None,
) -> Model:
    """Loads the model of a run's checkpoint or of an exported model: averaged weights, or raw ones without EMA.

    Reads only JSON and safetensors, and checks the hash of each file.

    source: name of a run in the runs folder, path of a run or an exported folder, a Run or an Export; or the address of
    an exported model on the Hugging Face Hub, 'hf://USER/MODEL' or 'hf://USER/MODEL@REVISION', which is downloaded into
    the cache (NCSNX_CACHE) unless its commit is there; or an address of an installed package's loader.
    ckpt: checkpoint of a run: a step (150000, '150k'), 'latest' (the default) or 'best'; None for any other model.
    runs: the runs folder; default: NCSNX_RUNS, else ./runs.
    precision: number format of the evaluations: 'fp32', 'tf32' (CUDA only) or 'bf16'; default: the runtime's, else the
    experiment's.
    Raises NcsnxError.
    """
    runtime = Runtime.choose() if runtime is None else runtime
    if precision is not None:
        runtime = attrs.evolve(runtime, precision=precision)
    address = str(hub_address(source) or source) if isinstance(source, str) else source
    if isinstance(address, str) and (scheme := _SCHEME.match(address)) is not None:
        return _of_address(address, scheme[1], ckpt, runtime)
    place = address if isinstance(address, Run | Export) else open_model_folder(runs_folder(runs), address)
    return model_of(place, place.checkpoint(ckpt), runtime)


def _of_address(address: str, scheme: str, ckpt: int | str | None, runtime: Runtime) -> Model:
    if ckpt is not None:
        raise UsageError(f"{address} has one checkpoint; leave {parameter('ckpt')} out")
    load_plugins("ncsnx.runtime")
    if (function := _loaders.get(scheme)) is None:
        known = ", ".join(f"{one}://" for one in sorted(_loaders))
        raise UsageError(f"{quoted(address)}: no installed package loads such addresses; there are {known}")
    found = function(address, runtime)
    if not isinstance(found, Model):
        raise NcsnxError(f"the loader of {scheme}:// returned {quoted(found)}, not a Model")
    return found


def model_of(folder: ModelFolder, step: int, runtime: Runtime) -> Model:
    """The model of a run's checkpoint, or of an exported model. Raises NcsnxError."""
    load_plugins("ncsnx.runtime")  # a package may bring the network
    return _of_run(folder, step, runtime) if isinstance(folder, Run) else _of_export(folder, runtime)


def weights_of(declared: Declared) -> tuple[Weights, Literal["model", "ema"]]:
    """The weights that are sampled, and their part of a checkpoint: the averaged weights, or raw ones without EMA."""
    if not isinstance(declared, Experiment):
        return "published", "model"
    return ("raw", "model") if declared.ema is None else ("ema", "ema")


def _of_run(run: Run, step: int, runtime: Runtime) -> Model:
    declared, space = run.declared(), run.space()
    weights, part = weights_of(declared)
    with reading(run, step) as folder:
        saved = checkpoint.read_checkpoint(folder, [part])
    if saved.state.get("identity") != identity(declared):
        raise NcsnxError(f"{folder} does not belong to {run.config_path}: it was trained by another experiment")
    tensors = (saved.ema if part == "ema" else saved.model) or {}
    imported = ImportedFrom.of(saved.state) if isinstance(declared, Experiment) else None
    given = declared.source if isinstance(declared, Pretrained) else imported
    found = Checkpoint(
        declared=declared,
        license="unknown" if given is None else given.license,
        run=run.name,
        step=saved.step,
        weights=weights,
        weights_sha256=read_manifest(folder).files[f"{part}.safetensors"].sha256,
        imported=imported,
    )
    return _trained(run, found, space, tensors, folder, runtime, found.facts)


def _of_export(export: Export, runtime: Runtime) -> Model:
    config, path = export.config(), export.path / MODEL
    try:
        tensors = safetensors.torch.load(export.model_content(config))
        if config.half:
            tensors = {name: one.float() if one.dtype == torch.float16 else one for name, one in tensors.items()}
    except SafetensorError as error:
        raise NcsnxError(f"{path} is not a safetensors file: {error}") from error
    found = Checkpoint(
        declared=config.declared,
        license=config.license,
        run=config.run,
        step=config.step,
        weights=config.weights,
        weights_sha256=config.model_sha256,
    )
    facts = found.facts if export.hub is None else {**found.facts, "source": export.hub}
    return _trained(export, found, config.space, tensors, path, runtime, facts)


def _trained(
    folder: ModelFolder,
    found: Checkpoint,
    space: Space,
    tensors: Mapping[str, Tensor],
    path: Path,
    runtime: Runtime,
    facts: Mapping[str, Any],
) -> Model:
    """The model with these weights, ready for evaluation. path: that of the weights, for errors.

    Raises NcsnxError if they don't fit, and UsageError if the precision needs another device.
    """
    declared = found.declared
    execution = runtime.for_weights_of(declared).execution(declared)
    network = empty_network(declared, space)
    load_weights(network, tensors, str(path))
    network = network.to(runtime.device).eval().requires_grad_(False)
    return Model(
        network=prepare(network, execution),
        space=space,
        sampler=declared.sampler,
        origin=Origin(
            where=folder.where,
            name=folder.name,
            facts=facts,
            checkpoint=found,
            folder=folder,
            data=declared.data,
            data_fingerprint=folder.data_fingerprint(),
        ),
        runtime=runtime,
    )

"""From an experiment to its network: the seam between `ncsnx.config` and this package."""

import os
from collections.abc import Mapping
from functools import singledispatch

import torch
from torch import Tensor

from ncsnx.config import NCSN, Experiment, Model, NCSNDeeper, NCSNv2, NCSNv2Deeper, NCSNv2Deepest
from ncsnx.errors import NcsnxError
from ncsnx.networks.initialization import initialize
from ncsnx.networks.ncsn import NCSNDeeperNetwork, NCSNNetwork
from ncsnx.networks.ncsnv2 import NCSNv2DeeperNetwork, NCSNv2DeepestNetwork, NCSNv2Network
from ncsnx.networks.score import Facts, ScoreNetwork
from ncsnx.noise.levels import sigmas
from ncsnx.quantities import byte_size


def build_network(experiment: Experiment) -> ScoreNetwork:
    """The untrained network of an experiment, on the CPU in float32, in training mode.

    Its weights depend on the experiment alone (its seed among the rest); no global generator is read or moved.
    NcsnxError where the network can't work on images of that size, or where nobody registered the model.
    """
    network = empty_network(experiment)
    initialize(network, experiment.seed)
    return network


def empty_network(experiment: Experiment) -> ScoreNetwork:
    """The same network with whatever the memory holds for weights, for a state to be loaded into. NcsnxError."""
    network = outlined_network(experiment)
    _require_memory(network)
    network.to_empty(device="cpu")
    network.sigmas.copy_(torch.tensor(network.noise_levels))
    return network


def outlined_network(experiment: Experiment) -> ScoreNetwork:
    """The same network, but only names and shapes: on torch's meta device, where tensors take no memory. NcsnxError."""
    facts = Facts(
        channels=experiment.data.channels,
        image_size=experiment.data.image_size,
        sigmas=sigmas(experiment.schedule),
        centered_input=experiment.data.transform == "none",
    )
    with torch.device("meta"):
        return construct(experiment.model, facts)


def load_weights(network: ScoreNetwork, tensors: Mapping[str, Tensor], source: str) -> None:
    """Puts a saved state into a network of the same form; source: where it came from, for a complaint.

    NcsnxError, with the network unchanged, where a tensor is missing, too many, or of another shape or type.
    """
    own = network.state_dict()
    problems = [f"{name} is missing" for name in own if name not in tensors]
    problems += [f"{name[:80]!a} is no tensor of it" for name in tensors if name not in own]
    for name in (name for name in own if name in tensors):
        (shape, dtype), found = (tuple(own[name].shape), own[name].dtype), tensors[name]
        if (tuple(found.shape), found.dtype) != (shape, dtype):
            problems.append(f"{name} should be {shape} of {dtype}, and is {tuple(found.shape)} of {found.dtype}")
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise NcsnxError(f"{source} doesn't fit the experiment's network: {'; '.join(problems[:3])}{more}")
    network.load_state_dict(dict(tensors))


def _require_memory(network: ScoreNetwork) -> None:
    """Refuses a network that no memory of this machine holds before any is taken: one on the device 'meta'."""
    tensors = network.state_dict().values()
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise NcsnxError(
            f"the experiment's network takes {byte_size(needed)}, and this machine has {byte_size(there)}; "
            "give it a smaller model.width"
        )


@singledispatch
def construct(model: Model, facts: Facts) -> ScoreNetwork:
    """The network that `model` describes, its tensors empty. A package registers its own with
    `@construct.register`. NcsnxError where there is none."""
    raise NcsnxError(
        f"no network is registered for {type(model).__name__}: the package that defines it must import "
        "ncsnx.networks.construct and register a function with @construct.register"
    )


@construct.register
def _(model: NCSNv2, facts: Facts) -> ScoreNetwork:
    return NCSNv2Network(model, facts)


@construct.register
def _(model: NCSNv2Deeper, facts: Facts) -> ScoreNetwork:
    return NCSNv2DeeperNetwork(model, facts)


@construct.register
def _(model: NCSNv2Deepest, facts: Facts) -> ScoreNetwork:
    return NCSNv2DeepestNetwork(model, facts)


@construct.register
def _(model: NCSN, facts: Facts) -> ScoreNetwork:
    return NCSNNetwork(model, facts)


@construct.register
def _(model: NCSNDeeper, facts: Facts) -> ScoreNetwork:
    return NCSNDeeperNetwork(model, facts)

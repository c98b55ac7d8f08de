"""From an experiment to its network: the seam between `ncsnx.config` and this package."""

from functools import singledispatch

import torch

from ncsnx.config import NCSN, Experiment, Model, NCSNDeeper, NCSNv2, NCSNv2Deeper, NCSNv2Deepest
from ncsnx.errors import NcsnxError
from ncsnx.networks.initialization import initialize
from ncsnx.networks.ncsn import NCSNDeeperNetwork, NCSNNetwork
from ncsnx.networks.ncsnv2 import NCSNv2DeeperNetwork, NCSNv2DeepestNetwork, NCSNv2Network
from ncsnx.networks.score import Facts, ScoreNetwork
from ncsnx.noise.levels import sigmas


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

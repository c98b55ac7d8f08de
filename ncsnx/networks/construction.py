"""From an experiment to its network: the seam between `ncsnx.config` and this package."""

import os
from collections.abc import Mapping

import torch
from torch import Tensor

from ncsnx.config import Experiment
from ncsnx.config.foreign import error_in_words
from ncsnx.errors import NcsnxError
from ncsnx.networks import ncsn, ncsnv2  # noqa: F401  registers the built-in networks
from ncsnx.networks.initialization import CounterBasedDraws, initialize, require_values
from ncsnx.networks.makers import construct
from ncsnx.networks.score_function import NetworkSpec, ScoreFunction
from ncsnx.noise.levels import sigmas
from ncsnx.quantities import byte_size


def build_network(experiment: Experiment) -> ScoreFunction:
    """The untrained network of an experiment, on the CPU in float32, in training mode.

    Its weights depend on the experiment alone (its seed among the rest); no global generator is read or moved.
    NcsnxError where the network can't work on images of that size, where nobody registered the model, where a parameter
    is complex, or where a tensor has no values to start from.
    """
    network = empty_network(experiment)
    _require_real(network)
    initialize(network, experiment.seed)
    require_values(network)
    return network


def empty_network(experiment: Experiment) -> ScoreFunction:
    """The same network for a state to be loaded into, its weights as the constructor leaves them. NcsnxError."""
    _require_memory(meta_network(experiment))
    with torch.device("cpu"), CounterBasedDraws(experiment.seed):
        return construct(experiment.model, _spec(experiment))


def meta_network(experiment: Experiment) -> ScoreFunction:
    """The same network, but only names and shapes: on torch's meta device, where tensors take no memory. NcsnxError."""
    try:
        with torch.device("meta"):
            return construct(experiment.model, _spec(experiment))
    except NcsnxError:
        raise
    except Exception as error:
        raise NcsnxError(
            f"the network of {type(experiment.model).__name__} cannot be constructed on torch's meta device, where "
            f"tensors have shapes and no values: {error_in_words(error)}"
        ) from error


def _spec(experiment: Experiment) -> NetworkSpec:
    return NetworkSpec(
        channels=experiment.data.channels,
        image_size=experiment.data.image_size,
        sigmas=sigmas(experiment.schedule),
        centered_input=experiment.data.transform == "none",
    )


def load_weights(network: ScoreFunction, tensors: Mapping[str, Tensor], source: str) -> None:
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
        raise NcsnxError(f"{source} does not fit the experiment's network: {'; '.join(problems[:3])}{more}")
    network.load_state_dict(dict(tensors))


def _require_real(network: ScoreFunction) -> None:
    """Refuses complex parameters, which neither averages nor the norms of gradients and weights are made for."""
    for name, parameter in network.named_parameters():
        if parameter.is_complex():
            raise NcsnxError(
                f"the network {type(network).__name__} has a complex parameter, {name[:80]!a}: "
                "keep its real and imaginary part as two real ones"
            )


def _require_memory(network: ScoreFunction) -> None:
    """Refuses a network that no memory of this machine holds before any is taken: one on the device 'meta'."""
    tensors = network.state_dict().values()
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise NcsnxError(
            f"the experiment's network takes {byte_size(needed)}, and this machine has {byte_size(there)}; "
            "give it a smaller model.width"
        )

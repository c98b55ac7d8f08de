"""Builds the network of an experiment: the interface between `ncsnx.config` and this package."""

import os
from collections.abc import Mapping

import torch
from torch import Tensor

from ncsnx.config import Experiment
from ncsnx.config.pretrained import Declared, Pretrained
from ncsnx.config.user_code import foreign_errors
from ncsnx.data.augmentation import LABELS
from ncsnx.errors import Hint, NcsnxError
from ncsnx.networks.contract import Network, NetworkSpec, construct
from ncsnx.networks.initialization import initialize
from ncsnx.quantities import byte_size, listed
from ncsnx.schedules.levels import sigmas
from ncsnx.space import Space


def build_network(experiment: Experiment, space: Space) -> Network:
    """The untrained network of an experiment and the space of its images, on the CPU in float32, in training mode.

    Its weights depend only on the experiment, including its seed. Raises NcsnxError if the network doesn't support the
    image size, the model isn't registered, or a parameter is complex.
    """
    network = empty_network(experiment, space)
    _require_real(network)
    initialize(network, experiment.seed)
    return network


def empty_network(declared: Declared, space: Space) -> Network:
    """The network for loading a state into, with weights as its constructor leaves them. Raises NcsnxError."""
    spec = _spec(declared, space)
    _require_memory(meta_network(declared, space))
    # modules of packages draw from torch's generator
    with torch.device("cpu"), torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(spec.seed)
        return construct(declared.model, spec)


def meta_network(declared: Declared, space: Space | None = None) -> Network:
    """The same network on torch's meta device: names and shapes only, without memory. Raises NcsnxError.

    space: needed for a model that was trained elsewhere.
    """
    if space is None:
        assert declared.data is not None
        space = Space.unmeasured(declared.data)
    spec = _spec(declared, space)
    what = f"the network of {type(declared.model).__name__} cannot be constructed on torch's meta device, where tensors"
    with foreign_errors(f"{what} have shapes but no values"), torch.device("meta"):
        return construct(declared.model, spec)


def _spec(declared: Declared, space: Space) -> NetworkSpec:
    levels = sigmas(declared.schedule)
    if isinstance(declared, Pretrained):
        return NetworkSpec(space=space, sigmas=levels, labels=declared.labels)
    labels = 0 if declared.augmentation is None else LABELS
    return NetworkSpec(space=space, sigmas=levels, labels=labels, seed=declared.seed)


def load_weights(network: Network, tensors: Mapping[str, Tensor], source: str) -> None:
    """Loads a saved state into a network of the same architecture. source: where it came from, for errors.

    Raises NcsnxError, with the network unchanged, for missing or surplus tensors and for other shapes or types.
    """
    own = network.state_dict()
    problems = [f"{name} is missing" for name in own if name not in tensors]
    problems += [f"{name[:80]!a} is surplus" for name in tensors if name not in own]
    for name in (name for name in own if name in tensors):
        (shape, dtype), found = (tuple(own[name].shape), own[name].dtype), tensors[name]
        if (tuple(found.shape), found.dtype) != (shape, dtype):
            problems.append(f"{name} should be {shape} of {dtype}, but is {tuple(found.shape)} of {found.dtype}")
    if problems:
        raise NcsnxError(f"{source} does not fit the experiment's network: {listed(problems, 3, '; ')}")
    network.load_state_dict(dict(tensors))


def _require_real(network: Network) -> None:
    """Raises NcsnxError for complex parameters, which EMA and the norms of gradients and weights don't support."""
    for name, parameter in network.named_parameters():
        if parameter.is_complex():
            raise NcsnxError(
                f"the network {type(network).__name__} has a complex parameter, {name[:80]!a}",
                Hint("store its real and imaginary parts as two real parameters"),
            )


def _require_memory(network: Network) -> None:
    """Raises NcsnxError if a network exceeds the machine's memory. network: on the meta device."""
    tensors = network.state_dict().values()
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > available:
        raise NcsnxError(
            f"the experiment's network takes {byte_size(needed)}, but this machine has only {byte_size(available)}",
            Hint("choose a smaller model.width"),
        )

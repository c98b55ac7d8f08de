"""The published implementation's names for the tensors of these networks.

There, each stage and each refine block has its own name. The tables list them in call order, in which `res31` and
`refine31` of NCSNv2Deepest aren't where their numbers suggest.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ncsnx.errors import Hint, NcsnxError
from ncsnx.networks.contract import Network
from ncsnx.networks.layouts import DEEPER, DEEPEST, NCSNV2, NetworkLayout
from ncsnx.networks.normalization import BatchNorm, PerLevel
from ncsnx.networks.refinenet import RefineNet
from ncsnx.quantities import counted, listed

SIGMAS = "sigmas"
"""Published name of the noise levels, a buffer of the unconditional networks."""
_SIGMAS_TOLERANCE = 1e-5  # relative: the published levels were computed in another order and rounded to float32

_STAGES: Mapping[NetworkLayout, tuple[str, ...]] = {
    NCSNV2: ("res1", "res2", "res3", "res4"),
    DEEPER: ("res1", "res2", "res3", "res4", "res5"),
    DEEPEST: ("res1", "res2", "res3", "res31", "res4", "res5"),
}
_REFINE: Mapping[NetworkLayout, tuple[str, ...]] = {
    NCSNV2: ("refine1", "refine2", "refine3", "refine4"),
    DEEPER: ("refine1", "refine2", "refine3", "refine4", "refine5"),
    DEEPEST: ("refine1", "refine2", "refine31", "refine3", "refine4", "refine5"),
}
_RULES = (
    (r"^begin\.", "begin_conv."),
    (r"^end\.", "end_conv."),
    (r"^norm\.", "normalizer."),
    (r"\.norm([12])\.", r".normalize\1."),
    (r"\.fusion\.", ".msf."),
    (r"\.pooling\.", ".crp."),
    (r"\.adapt\.(\d+)\.(\d+)\.(\d+)\.(conv|norm)\.", r".adapt_convs.\1.@\2_@\3_\4."),
    (r"\.output\.(\d+)\.(\d+)\.(conv|norm)\.", r".output_convs.@\1_@\2_\3."),
    (r"\.factors\.rows$", ".embed.weight"),
    (r"\.factors\.", "."),
)
"""Replacements in our names. `@` marks a number that the published name counts from 1."""


def to_published(network: Network) -> dict[str, str]:
    """The published name for each name in the network's state; all are distinct.

    The published state of an unconditional network has one more tensor, `sigmas`. Raises NcsnxError for an unpublished
    network.
    """
    if not isinstance(network, RefineNet) or network.layout not in _STAGES:
        raise NcsnxError(f"{type(network).__name__} is not a published network, so no published state fits it")
    names = {name: _published(name, network.layout) for name in network.state_dict()}
    if isinstance(network.norm, BatchNorm):
        conditional = isinstance(network.norm.factors, PerLevel)
        return {name: _batch_norm(theirs, conditional) for name, theirs in names.items()}
    return names


def published_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Shapes of the published state by published name, including `sigmas` for unconditional networks."""
    names = to_published(network)
    shapes = {names[name]: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return shapes | ({SIGMAS: (len(network.noise_levels),)} if network.any_sigma else {})


def from_published(network: Network, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's state from a published one with names as in `to_published`; tensors aren't copied.

    Raises NcsnxError for missing or surplus names, other shapes, and `sigmas` that aren't the network's (they are
    optional in a conditional network's state).
    """
    names, expected = to_published(network), set(published_shapes(network))
    if SIGMAS in published:
        expected.add(SIGMAS)
    if expected != set(published):
        raise NcsnxError(
            f"these weights do not belong to a {type(network).__name__} with this normalization: "
            f"{_some(expected - set(published))} missing, {_some(set(published) - expected)} surplus"
        )
    _require_same_levels(network, published)
    state = {name: published[theirs] for name, theirs in names.items()}
    for name, tensor in network.state_dict().items():
        if tensor.shape != state[name].shape:
            raise NcsnxError(
                f"{names[name]} has shape {tuple(state[name].shape)}, but the experiment's network needs "
                f"{tuple(tensor.shape)}",
                Hint("set the model's width and the number of levels to those of the weights"),
            )
    return state


def same_levels(network: Network, published_sigmas: Tensor) -> bool:
    """Whether a published state's `sigmas` equal the network's noise levels, to the accuracy of their type."""
    ours, theirs = torch.tensor(network.noise_levels), published_sigmas.cpu()
    if not theirs.is_floating_point() or theirs.shape != ours.shape:
        return False
    return theirs.float().allclose(ours, rtol=max(_SIGMAS_TOLERANCE, torch.finfo(theirs.dtype).eps), atol=0)


def _published(name: str, layout: NetworkLayout) -> str:
    name = re.sub(r"^stages\.(\d+)", lambda match: _STAGES[layout][int(match[1])], name)
    name = re.sub(r"^refine\.(\d+)", lambda match: _REFINE[layout][int(match[1])], name)
    for pattern, replacement in _RULES:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"@(\d+)", lambda match: str(int(match[1]) + 1), name)


def _batch_norm(name: str, conditional: bool) -> str:
    if conditional:
        return name.replace(".statistics.", ".bn.")
    return re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name.replace(".statistics.", ".")))


def _require_same_levels(network: Network, published: Mapping[str, Tensor]) -> None:
    theirs = published.get(SIGMAS)
    if theirs is None:
        return
    ours = network.noise_levels
    if not same_levels(network, theirs):
        raise NcsnxError(
            f"these weights were trained at {counted(len(theirs), 'level')} from {theirs[0]:g} to {theirs[-1]:g}, but "
            f"the schedule has {len(ours):,} from {ours[0]:g} to {ours[-1]:g}",
            Hint("give the experiment the schedule of the weights"),
        )


def _some(names: set[str]) -> str:
    return f"{counted(len(names), 'name')} ({listed(sorted(names), 3)})" if names else "none"

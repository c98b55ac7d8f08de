"""The published implementation's names for the tensors of these networks.

There each stage and each refine block has a name of its own. The order here is that of the calls, in which
`res31` and `refine31` of NCSNv2Deepest don't stand where their numbers suggest.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.networks.layouts import DEEPER, DEEPEST, NCSNV2, Layout
from ncsnx.networks.ncsnv2 import NCSNv2Network
from ncsnx.networks.normalization import BatchNorm, PerLevel
from ncsnx.networks.score import ScoreNetwork

_SIGMAS = "sigmas"
_SIGMAS_TOLERANCE = 1e-5  # relative: the published levels were computed in another order and rounded to float32

_STAGES: Mapping[Layout, tuple[str, ...]] = {
    NCSNV2: ("res1", "res2", "res3", "res4"),
    DEEPER: ("res1", "res2", "res3", "res4", "res5"),
    DEEPEST: ("res1", "res2", "res3", "res31", "res4", "res5"),
}
_REFINE: Mapping[Layout, tuple[str, ...]] = {
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
"""What to write for a part of our name. `@` before a number: the published one counts from 1."""


def to_published(network: ScoreNetwork) -> dict[str, str]:
    """For each name in the network's state, the published one; no two names share one.

    The published state of an unconditional network has one tensor more, `sigmas`.
    """
    names = {name: _published(name, network.layout) for name in network.state_dict()}
    if isinstance(network.norm, BatchNorm):
        conditional = isinstance(network.norm.factors, PerLevel)
        return {name: _batch_norm(theirs, conditional) for name, theirs in names.items()}
    return names


def from_published(network: ScoreNetwork, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's state, made of a published one with names as in `to_published`; its tensors aren't copied.

    NcsnxError where names are missing or left over, where a shape differs, or where the `sigmas` in it aren't the
    network's.
    """
    names = to_published(network)
    expected = set(names.values()) | ({_SIGMAS} if isinstance(network, NCSNv2Network) else set())
    if expected != set(published):
        raise NcsnxError(
            f"these weights aren't those of a {type(network).__name__} with this normalization: "
            f"{_some(expected - set(published))} missing, {_some(set(published) - expected)} left over"
        )
    _require_same_levels(network, published)
    state = {name: published[theirs] for name, theirs in names.items()}
    for name, tensor in network.state_dict().items():
        if tensor.shape != state[name].shape:
            raise NcsnxError(
                f"{names[name]} has the shape {tuple(state[name].shape)}, but the experiment's network needs "
                f"{tuple(tensor.shape)}: give its model the width, and its schedule the levels, of the weights"
            )
    return state


def _published(name: str, layout: Layout) -> str:
    name = re.sub(r"^stages\.(\d+)", lambda match: _STAGES[layout][int(match[1])], name)
    name = re.sub(r"^refine\.(\d+)", lambda match: _REFINE[layout][int(match[1])], name)
    for pattern, replacement in _RULES:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"@(\d+)", lambda match: str(int(match[1]) + 1), name)


def _batch_norm(name: str, conditional: bool) -> str:
    if conditional:
        return name.replace(".statistics.", ".bn.")
    return re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name.replace(".statistics.", ".")))


def _require_same_levels(network: ScoreNetwork, published: Mapping[str, Tensor]) -> None:
    theirs = published.get(_SIGMAS)
    if theirs is None:
        return
    ours = network.sigmas.cpu()
    if theirs.shape != ours.shape or not theirs.cpu().allclose(ours, rtol=_SIGMAS_TOLERANCE, atol=0):
        raise NcsnxError(
            f"these weights were trained at {len(theirs)} levels from {theirs[0]:g} to {theirs[-1]:g}, but the "
            f"schedule has {len(ours)} from {ours[0]:g} to {ours[-1]:g}: give the experiment their schedule"
        )


def _some(names: set[str]) -> str:
    return f"{len(names)} names ({', '.join(sorted(names)[:3])}{', …' if len(names) > 3 else ''})" if names else "none"

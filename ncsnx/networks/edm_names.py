"""The names that the published code of Karras et al. 2022 gives the tensors of its DDPM++, which our U-Net is.

Names alone differ, but for the projections of attention, whose rows take turns there: query, key, value, query, …
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ncsnx.errors import NcsnxError, quoted
from ncsnx.networks.contract import Network
from ncsnx.networks.unet import UNetNetwork

_PARTS = {
    "norm1.factors": "norm0",
    "conv1": "conv0",
    "bias": "affine",
    "norm2.factors": "norm1",
    "conv2": "conv1",
    "shortcut": "skip",
    "attention.norm.factors": "norm2",
    "attention.projections": "qkv",
    "attention.end": "proj",
}
"""Our names of the parts of a block → the published ones."""
_EMBEDDING = {
    "embedding.first": "map_layer0",
    "embedding.second": "map_layer1",
    "embedding.labels": "map_augment",
    "embedding.classes": "map_label",
}
_KINDS = {"gamma": "weight", "beta": "bias"}
_FILTER = "resample_filter"


def from_edm(network: Network, published: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Our network's state from the published one; nothing is copied but projections of attention.

    network: may be on the meta device. where: the source, for errors. Raises NcsnxError for another network, for
    missing or surplus tensors or other shapes, and for another filter of resampling than the mean of 2×2 pixels.
    """
    if not isinstance(network, UNetNetwork):
        raise NcsnxError(f"{type(network).__name__} is not the published DDPM++, which is model=unet")
    places, state = dict(_places(network)), {}
    left = {name: tensor for name, tensor in published.items() if not name.endswith(_FILTER)}
    for name, wanted in network.state_dict().items():
        place, _, kind = name.rpartition(".")
        theirs = f"model.{places[place]}.{_KINDS.get(kind, kind)}"
        if (found := left.pop(theirs, None)) is None:
            raise NcsnxError(f"{where} lacks {theirs}, which its network needs")
        if found.shape != wanted.shape:  # before anything is copied: a small file may declare a tensor of any size
            shape = quoted(tuple(found.shape))
            raise NcsnxError(f"{where}: {theirs} is {shape}, and its network needs {tuple(wanted.shape)}")
        if place.endswith("attention.projections"):
            found = found.reshape(-1, 3, *found.shape[1:]).transpose(0, 1).flatten(0, 1)
        state[name] = found
    if left:
        raise NcsnxError(f"{where} has {len(left)} tensors that its network lacks, such as {quoted(min(left))}")
    mean = torch.full((1, 1, 2, 2), 0.25)
    if not all(published[name].equal(mean) for name in published if name.endswith(_FILTER)):
        raise NcsnxError(f"{where} resamples by another filter than the mean of 2×2 pixels, which ours takes")
    return state if network.sigma_data == 0.5 else state | _of_absolute_noise(state, network.sigma_data)


def _of_absolute_noise(state: Mapping[str, Tensor], sigma_data: float) -> dict[str, Tensor]:
    """Weights of the embedding that give the published network's values for our c_noise.

    c_noise is ¼ ln σ there whatever σ_data, and here ¼ ln(σ/(2 σ_data)). The difference turns each pair of a sine and a
    cosine by an angle, and so do these weights.
    """
    half = state["embedding.first.weight"].shape[1] // 2
    frequencies = 10_000.0 ** -(torch.arange(half, dtype=torch.float64) / max(1, half - 1))
    angles = 0.25 * math.log(0.5 / sigma_data) * frequencies
    turned = {}
    for name, axis in (("first.weight", 1), ("labels.weight", 0), ("classes.weight", 0), ("classes.bias", 0)):
        if (found := state.get(f"embedding.{name}")) is not None:
            sines, cosines = found.double().movedim(axis, -1).chunk(2, dim=-1)
            parts = (sines * angles.cos() + cosines * angles.sin(), cosines * angles.cos() - sines * angles.sin())
            turned[f"embedding.{name}"] = torch.cat(parts, dim=-1).movedim(-1, axis).float()
    return turned


def _places(network: UNetNetwork) -> Iterator[tuple[str, str]]:
    """(our name of a layer, the published one)."""
    sides = [network.height >> stage for stage in range(network.halvings + 1)]
    whole = f"{sides[0]}x{sides[0]}"
    yield from _EMBEDDING.items()
    yield from (("begin", f"enc.{whole}_conv"), ("norm.factors", f"dec.{whole}_aux_norm"))
    yield "end", f"dec.{whole}_aux_conv"
    count = (len(network.up) - network.halvings) // len(sides) - 1
    down, up = iter(range(len(network.down))), iter(range(len(network.up)))
    blocks = [(f"middle.{k}", f"dec.{sides[-1]}x{sides[-1]}_in{k}") for k in range(2)]
    for side in sides:
        kinds = [*(["down"] if side < sides[0] else []), *(f"block{k}" for k in range(count))]
        blocks += [(f"down.{next(down)}", f"enc.{side}x{side}_{kind}") for kind in kinds]
    for side in reversed(sides):
        kinds = [*(["up"] if side > sides[-1] else []), *(f"block{k}" for k in range(count + 1))]
        blocks += [(f"up.{next(up)}", f"dec.{side}x{side}_{kind}") for kind in kinds]
    for ours, theirs in blocks:
        yield from ((f"{ours}.{part}", f"{theirs}.{published}") for part, published in _PARTS.items())

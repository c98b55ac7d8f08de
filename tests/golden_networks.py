"""Networks with weights and outputs of the published implementation, from the files in `golden/`."""

import json
from pathlib import Path
from typing import Any

import attrs
from safetensors import safe_open
from torch import Tensor

from ncsnx.config import (
    NCSN,
    AnnealedLangevin,
    CelebA,
    Data,
    Digits,
    Experiment,
    Geometric,
    Model,
    NCSNDeeper,
    NCSNv2,
    NCSNv2Deeper,
    NCSNv2Deepest,
    Uniform,
)
from ncsnx.config.model import Normalization
from ncsnx.networks import Network, NetworkSpec, construct, from_published
from ncsnx.schedules.levels import sigmas
from tests.spaces import space_of, unit_space

FOLDER = Path(__file__).parent / "golden"
NETWORKS = tuple(sorted(path.stem for path in FOLDER.glob("ncsn*.safetensors") if "checkpoint" not in path.stem))
TOLERANCE = 2e-5
"""Largest relative error; the golden numbers are within 7e-6 of float64."""

_MODELS: dict[str, type[Model]] = {
    "NCSN": NCSN,
    "NCSNdeeper": NCSNDeeper,
    "NCSNv2": NCSNv2,
    "NCSNv2Deeper": NCSNv2Deeper,
    "NCSNv2Deepest": NCSNv2Deepest,
}
_NORMALIZATIONS: dict[str, Normalization] = {
    "InstanceNorm++": "instance++",
    "InstanceNorm": "instance",
    "VarianceNorm": "variance",
    "BatchNorm": "batch",
    "NoneNorm": "none",
}


@attrs.frozen
class Golden:
    """A golden file: the network with its weights, in evaluation mode, and the other tensors."""

    network: Network
    tensors: dict[str, Tensor]


def load_golden(name: str) -> Golden:
    with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    network = _empty(config)
    state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
    network.load_state_dict(from_published(network, state))
    return Golden(network.eval(), tensors)


def relative_error(ours: Tensor, expected: Tensor) -> float:
    """max |a − b| / max |b|."""
    assert ours.shape == expected.shape
    return float((ours - expected).abs().max() / expected.abs().max())


def small_experiment(model: Model, data: Data | None = None, *, levels: int = 10, seed: int = 0) -> Experiment:
    """An experiment with this model; default data: 8×8 digits, or 16×16 images for networks with more stages."""
    default = Digits() if isinstance(model, NCSN | NCSNv2) else CelebA(image_size=16)
    return Experiment(
        name="small",
        data=data or default,
        schedule=Geometric(sigma_max=5.0, sigma_min=0.01, levels=levels),
        model=model,
        sampler=AnnealedLangevin(step_size=1e-5, steps_per_level=1),
        steps=1,
        seed=seed,
    )


def model_of(config: dict[str, Any]) -> Model:
    """The model configuration of a published configuration."""
    spectral = {"spectral_norm": config["spec_norm"]} if config["network"] in ("NCSN", "NCSNdeeper") else {}
    return _MODELS[config["network"]](
        width=config["ngf"],
        normalization=_NORMALIZATIONS[config["normalization"]],
        activation={"lrelu": "leaky_relu"}.get(config["nonlinearity"], config["nonlinearity"]),
        **spectral,
    )


def _empty(config: dict[str, Any]) -> Network:
    schedule = (Geometric if config["sigma_dist"] == "geometric" else Uniform)(
        sigma_max=config["sigma_begin"], sigma_min=config["sigma_end"], levels=config["num_classes"]
    )
    space, side = unit_space(config["channels"], config["image_size"], config["image_size"]), config["image_size"]
    if config["rescaled"] or config["logit_transform"]:  # the network takes x as it is
        space = attrs.evolve(space_of(Digits(transform="rescaled")), shape=(config["channels"], side, side))
    return construct(model_of(config), NetworkSpec(space=space, sigmas=sigmas(schedule)))

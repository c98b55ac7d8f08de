"""Files in the form of the published implementation: golden files, and files made from them or from a run."""

import io
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ncsnx.config import Adam, AnnealedLangevin, CelebA, Ema, Experiment, Geometric, Model
from ncsnx.networks import meta_network, to_published
from ncsnx.runs import checkpoint
from tests.golden_networks import FOLDER, model_of

GOLDEN = ("ncsn", "ncsnv2", "ncsnv2_deeper")
OPTIMIZER = {"state": {}, "param_groups": [{"params": []}]}
"""State of an optimizer, which isn't imported."""
STEP = 5000
"""Step of the golden checkpoints."""


def golden_path(name: str) -> Path:
    return FOLDER / f"{name}_checkpoint_{STEP}.pth"


def golden_states(name: str) -> list[Any]:
    """Content of a golden checkpoint as the published code loads it, to change and save."""
    states: list[Any] = torch.load(golden_path(name), map_location="cpu", weights_only=True)
    return states


def expected(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration in the published form; inputs and the published code's scores of them."""
    with safe_open(FOLDER / f"{name}_checkpoint_{STEP}.expected.safetensors", "pt") as file:
        return json.loads(file.metadata()["config"]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def golden_experiment(name: str) -> Experiment:
    """The experiment of a golden checkpoint."""
    config, _ = expected(name)
    return experiment_for(model_of(config), config["image_size"], config["sigma_begin"], config["num_classes"])


def experiment_for(model: Model, image_size: int, sigma_max: float, levels: int) -> Experiment:
    conditional = type(model).__name__ in ("NCSN", "NCSNDeeper")
    return Experiment(
        name="small",
        data=CelebA(image_size=image_size),
        schedule=Geometric(sigma_max=sigma_max, sigma_min=0.01, levels=levels),
        model=model,
        optimizer=Adam(lr=1e-4),
        sampler=AnnealedLangevin(step_size=1e-5, steps_per_level=1),
        ema=None if conditional else Ema(),
        steps=10_000,
    )


def saved(states: Any, *, legacy: bool = False) -> bytes:
    """The bytes that torch.save writes; with `legacy` as before version 1.6, like the published files."""
    buffer = io.BytesIO()
    torch.save(states, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def write(path: Path, states: Any, *, legacy: bool = False) -> Path:
    path.write_bytes(saved(states, legacy=legacy))
    return path


def states_of(folder: Path, experiment: Experiment) -> list[Any]:
    """A checkpoint of a run in the published form, as if the published code had trained it."""
    content = checkpoint.read_checkpoint(folder)
    network = meta_network(experiment)
    names = to_published(network)
    parameters = [name for name, _ in network.named_parameters()]
    state = {f"module.{names[name]}": tensor for name, tensor in content.model.items()}
    if type(experiment.model).__name__.startswith("NCSNv2"):
        state["module.sigmas"] = torch.tensor(network.noise_levels)
    ordered = OrderedDict((f"module.{names[name]}", state.pop(f"module.{names[name]}")) for name in parameters)
    states: list[Any] = [OrderedDict({**state, **ordered}), OPTIMIZER, 1, content.step]
    if content.ema is not None:
        states.append({names[name]: content.ema[name] for name in parameters})
    return states

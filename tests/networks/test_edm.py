"""The U-Net is DDPM++ as Karras et al. 2022 published it, by the numbers that their code gave for small networks."""

import json
import math
from typing import Any

import attrs
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from ncsnx.config import Augmentation, CelebA, Heun, Karras, UNet
from ncsnx.config.discovery import resolve
from ncsnx.networks import Network
from ncsnx.networks.edm_names import from_edm
from ncsnx.samplers.building import build_sampler
from tests.golden_networks import FOLDER, relative_error
from tests.spaces import untrained

NAMES = ("vp_uncond", "vp_uncond_enlarged", "vp_stages", "vp_stages_enlarged")


@attrs.frozen
class Published:
    """A small network of the published code, and what it gave.

    It is untrained, so weights near 0 hide nearly all of it. "enlarged" networks have them multiplied by 1e5.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, name: str) -> "Published":
        with safe_open(FOLDER / "edm" / f"{name}.safetensors", "pt") as file:
            config, tensors = json.loads(file.metadata()["config"]), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        if "network" not in config:
            return cls(config, tensors)
        base = cls.read(config["network"])
        enlarged = {
            name: tensor * config["factor"]
            for name, tensor in base.tensors.items()
            if name.startswith("state.") and name.endswith("weight") and tensor.std() < 1e-4
        }
        return cls(base.config, {**base.tensors, **enlarged, **tensors})

    def network(self) -> Network:
        """Ours, with its weights."""
        config, cifar10 = self.config, resolve("cifar10_edm").experiment
        model = UNet(
            width=config["model_channels"],
            multipliers=tuple(config["channel_mult"]),
            blocks=config["num_blocks"],
            attention=tuple(config["attn_resolutions"]),
        )
        data = CelebA(image_size=config["img_resolution"], transform="rescaled", sigma_data=0.5)
        made = untrained(attrs.evolve(cifar10, model=model, data=data, augmentation=Augmentation()))
        state = {
            name.removeprefix("state."): tensor for name, tensor in self.tensors.items() if name.startswith("state.")
        }
        made.load_state_dict(from_edm(made, state, "golden"))
        return made.eval()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_denoised_images_are_the_published_ones(name: str) -> None:
    published = Published.read(name)
    network, tensors = published.network(), published.tensors
    for k, sigma in enumerate(published.config["sigmas"]):
        x, expected = tensors[f"noisy.{k}"], tensors[f"denoised.{k}"]
        found = x + sigma * network.float().scaled_score(x, torch.full((4,), sigma))
        # at σ = 80 images are small beside x, which is rounded three times on the way to σ s
        rounding = 3 * 2**-24 * float(x.abs().max() / expected.abs().max())
        assert relative_error(found, expected) < max(rounding, 2e-5)
        wide = x.double() + sigma * network.double().scaled_score(x.double(), torch.full((4,), sigma).double())
        assert relative_error(wide, expected.double()) < 2e-6


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_denoised_images_of_augmented_ones_are_the_published_ones(name: str) -> None:
    published = Published.read(name)
    x, sigma = published.tensors["noisy.2"], torch.full((4,), published.config["sigmas"][2])
    found = x + sigma[0] * published.network().scaled_score(x, sigma, {"labels": published.tensors["augment_labels"]})
    assert relative_error(found, published.tensors["denoised_augmented"]) < 2e-5


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_heuns_steps_end_where_the_published_ones_do(name: str) -> None:
    published = Published.read(name)
    network, steps = published.network(), published.config["steps"]
    sampler = Heun(steps=steps, grid=Karras(sigma_max=80.0, sigma_min=0.002, rho=7.0))
    x = published.tensors["latents"] * 80

    def evaluated(x: Tensor, sigma: Tensor, cond: object) -> Tensor:  # in float32, as by the published sampler
        return network.scaled_score(x.float(), sigma.float()).double()

    *_, last = build_sampler(sampler)(evaluated, x, network.noise_levels, noise=lambda step: torch.zeros_like(x))
    assert relative_error(last.x, published.tensors["sampled"]) < 1e-5


def test_a_new_network_has_weights_of_the_published_sizes() -> None:
    network = untrained(attrs.evolve(resolve("cifar10_edm").experiment, model=UNet(width=32, blocks=1)))
    expected = {
        "begin": math.sqrt(2 / (9 * (3 + 32))),
        "down.1.conv1": math.sqrt(2 / (9 * (64 + 64))),
        "down.1.conv2": 1e-5 * math.sqrt(2 / (9 * (64 + 64))),
        "middle.0.attention.projections": math.sqrt(0.2 * 2 / (64 + 192)),
        "embedding.second": math.sqrt(2 / (128 + 128)),
    }
    state = network.state_dict()
    for name, deviation in expected.items():
        weight = state[f"{name}.weight"]
        # the standard deviation of n uniform draws has a relative error of 1/√(5 n)
        assert float(weight.std()) == pytest.approx(deviation, rel=5 / math.sqrt(5 * weight.numel()))
        assert float(state[f"{name}.bias"].abs().max()) == 0

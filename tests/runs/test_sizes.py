"""Weight files must have the size that follows from the experiment's network."""

import attrs
import pytest
import torch
from safetensors.torch import save

from ncsnx.config import CIFAR10, NCSN, SGD, Adam, NCSNDeeper, NCSNv2, NCSNv2Deeper, NCSNv2Deepest, RMSProp
from ncsnx.config.model import Model
from ncsnx.config.optimizer import Optimizer
from ncsnx.errors import NcsnxError
from ncsnx.networks import build_network
from ncsnx.runs.checkpoints.checkpoint import optimizer_state
from ncsnx.runs.checkpoints.manifest import (
    UnsoundError,
    resolve_checkpoint,
    write_checkpoint,
)
from ncsnx.runs.checkpoints.weight_sizes import WeightSizes, size_problem, weight_sizes
from ncsnx.runs.folder import Run
from ncsnx.runs.resuming import resumption
from ncsnx.training.optimizers import build_optimizer
from tests.runs.kept import SMALL, contents, weights, write


def sizes_of_small() -> WeightSizes:
    sizes = weight_sizes(SMALL)
    assert sizes is not None
    return sizes


@pytest.mark.parametrize(
    "model",
    [
        NCSNv2(width=2),
        NCSNv2Deeper(width=2),
        NCSNv2Deepest(width=2, normalization="batch"),
        NCSN(width=2, spectral_norm=True),
        NCSNDeeper(width=2, normalization="batch"),
    ],
)
def test_what_is_saved_of_a_network_has_its_size(model: Model) -> None:
    experiment = attrs.evolve(SMALL, model=model, data=CIFAR10())
    written = len(save({name: tensor.contiguous() for name, tensor in build_network(experiment).state_dict().items()}))
    for name in ("model.safetensors", "ema.safetensors"):
        assert size_problem(experiment, name, written) is None
        assert size_problem(experiment, name, written - written // 2) is not None
        assert size_problem(experiment, name, 10 * written) is not None


@pytest.mark.parametrize("config", [Adam(amsgrad=True), RMSProp(lr=1e-3, momentum=0.9), SGD(lr=1e-3, momentum=0.9)])
def test_what_is_saved_of_an_optimizer_is_within_its_size(config: Optimizer) -> None:
    experiment = attrs.evolve(SMALL, optimizer=config)
    network = build_network(experiment)
    optimizer = build_optimizer(config, network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    written = len(save(optimizer_state(optimizer, network)))
    assert size_problem(experiment, "optimizer.safetensors", written) is None
    assert size_problem(experiment, "optimizer.safetensors", 100 * written) is not None


@pytest.mark.parametrize("name", ["model", "ema", "optimizer"])
def test_a_checkpoint_with_a_file_of_another_size_is_unsound_and_the_one_before_is_taken(run: Run, name: str) -> None:
    write(run, 10)
    larger = weights(SMALL, b"").ljust(8 * (sizes_of_small().values + sizes_of_small().header) + 100)
    files = contents(SMALL, 20) | {f"{name}.safetensors": larger}
    folder = write_checkpoint(run.checkpoints, 20, files.items())
    with pytest.raises(UnsoundError, match=rf"{name}\.safetensors has {len(larger):,} bytes; the .*ckpt=10"):
        resolve_checkpoint(run)
    found = resumption(run)
    assert found.step == 10
    assert [step for step, _ in found.unsound] == [20]
    write_checkpoint(run.checkpoints, 20, contents(SMALL, 20).items(), sizes_of_small())
    assert folder.with_name("step-00000020.unsound-1").is_dir()
    assert resumption(run).step == 20


def test_where_the_network_cannot_be_built_nothing_is_said_of_its_size() -> None:
    too_deep = attrs.evolve(SMALL, model=NCSNv2Deepest(width=2))
    with pytest.raises(NcsnxError, match="needs an image size that is a multiple of 8"):
        build_network(too_deep)
    assert size_problem(too_deep, "model.safetensors", 1) is None

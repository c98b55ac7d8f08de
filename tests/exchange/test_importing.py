"""Imported checkpoints give the published scores, the same optimizer state and the same bits as our own."""

import hashlib
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors import safe_open

from ncsnx.config import SGD, Adam, Experiment, RMSProp
from ncsnx.config.discovery import resolve
from ncsnx.errors import NcsnxError
from ncsnx.exchange.importing import import_checkpoint, kept_state, misfit, other_settings, require_fit
from ncsnx.exchange.published_files import read_published
from ncsnx.networks import empty_network, meta_network, to_published
from ncsnx.runs import checkpoint
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import verify
from ncsnx.runtime import Runtime
from ncsnx.sampling.score_model import load
from ncsnx.training.loss import score_matching_loss
from ncsnx.training.optimizers import build_optimizer
from ncsnx.training.training_state import TrainingState
from tests.golden_networks import FOLDER, TOLERANCE, load_golden, model_of, relative_error
from tests.published import (
    GOLDEN,
    STEP,
    expected,
    experiment_for,
    golden_experiment,
    golden_path,
    golden_states,
    states_of,
    write,
)
from tests.training.tiny import command, files, overrides, saved, training

CPU = Runtime(device=torch.device("cpu"), threads=1)
PLAIN = attrs.evolve(CPU, plain=True)


def imported(folder: Path, experiment: Experiment, path: Path) -> tuple[Run, Path]:
    """Imports a file that must fit into a new run in `folder`; returns the run and the checkpoint's folder."""
    published = read_published(path)
    assert misfit(experiment, published) == []
    run = Run.create(folder / "runs", "small", experiment, {}, None, None)
    return run, import_checkpoint(run, experiment, published).folder


@pytest.mark.parametrize("name", GOLDEN)
@torch.no_grad()
def test_the_imported_weights_give_the_published_scores(name: str, tmp_path: Path) -> None:
    experiment, (_, tensors) = golden_experiment(name), expected(name)
    run, folder = imported(tmp_path, experiment, golden_path(name))
    verify(folder)
    content = checkpoint.read_checkpoint(folder)
    assert (content.step, content.state["images"]) == (STEP, STEP * experiment.batch_size)
    assert content.state["imported"]["sha256"] == hashlib.sha256(golden_path(name).read_bytes()).hexdigest()
    raw = empty_network(experiment).eval()
    raw.load_state_dict(content.model)
    networks = {"raw": raw}
    if experiment.ema is not None:
        networks["ema"] = load(run, STEP, runtime=PLAIN).network
    assert [f"score_{kind}" in tensors for kind in ("raw", "ema")] == [True, experiment.ema is not None]
    for kind, network in networks.items():
        x, labels = tensors["x"], tensors["labels"]
        score = network.scaled_score(x, network.sigmas[labels]) / network.sigmas[labels].view(-1, 1, 1, 1)
        assert relative_error(score, tensors[f"score_{kind}"]) < TOLERANCE, kind


@pytest.mark.parametrize("name", GOLDEN)
def test_a_further_step_is_the_one_that_the_published_optimizer_makes(name: str, tmp_path: Path) -> None:
    experiment, states = golden_experiment(name), golden_states(name)
    _, folder = imported(tmp_path, experiment, golden_path(name))
    state = TrainingState(experiment, PLAIN)
    state.load(folder)
    size, levels = experiment.data.image_size, torch.tensor([0, experiment.schedule.levels - 1])
    generator = torch.Generator().manual_seed(1)
    x, noise = (torch.rand(2, 3, size, size, generator=generator) for _ in range(2))
    score_matching_loss(state.network, x, state.network.sigmas[levels], noise).sum().backward()

    # the file's parameters in the file's order, as the published code would resume
    names = {theirs: ours for ours, theirs in to_published(state.network).items()}
    order = [key.removeprefix("module.") for key in states[0] if key.removeprefix("module.") in names]
    theirs = [torch.nn.Parameter(states[0][f"module.{key}"].clone()) for key in order]
    for key, parameter in zip(order, theirs, strict=True):
        parameter.grad = state.network.get_parameter(names[key]).grad.clone()  # type: ignore[union-attr]
    adam = torch.optim.Adam(theirs)
    adam.load_state_dict(states[1])
    adam.step()
    before = {key: state.network.get_parameter(names[key]).detach().clone() for key in order}
    state.optimizer.step()
    for key, parameter in zip(order, theirs, strict=True):
        ours = state.network.get_parameter(names[key])
        assert torch.allclose(ours, parameter, rtol=1e-6, atol=1e-8), key
        assert not torch.equal(ours, before[key])


def test_the_optimizer_s_numbers_mean_the_order_in_the_file(tmp_path: Path) -> None:
    states = golden_states("ncsnv2")
    count = len(states[1]["state"])
    states[0] = OrderedDict(reversed(states[0].items()))
    states[1]["state"] = {count - 1 - number: kept for number, kept in states[1]["state"].items()}
    experiment = golden_experiment("ncsnv2")
    _, turned = imported(tmp_path / "turned", experiment, write(tmp_path / "a.pth", states))
    _, plain = imported(tmp_path / "plain", experiment, golden_path("ncsnv2"))
    assert (turned / "optimizer.safetensors").read_bytes() == (plain / "optimizer.safetensors").read_bytes()
    assert (turned / "model.safetensors").read_bytes() == (plain / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["ncsn_spectral", "ncsnv2_batchnorm"])
def test_buffers_are_kept_and_have_no_place_in_the_optimizer_s_order(name: str, tmp_path: Path) -> None:
    golden = load_golden(name)
    network = golden.network
    names = to_published(network)
    parameters = [names[key] for key, _ in network.named_parameters()]
    weights = {key.removeprefix("state."): value for key, value in golden.tensors.items() if key.startswith("state.")}
    # torch lists parameters and buffers in one order, module by module
    network_state = {f"module.{key}": value for key, value in sorted(weights.items())}
    order = [key for key in sorted(weights) if key in parameters]
    kept = {
        k: {"step": torch.tensor(2.0), "exp_avg": weights[key] * 2, "exp_avg_sq": weights[key].abs()}
        for k, key in enumerate(order)
    }
    group = {"lr": 1e-4, "params": list(range(len(order)))}
    states: list[Any] = [network_state, {"state": kept, "param_groups": [group]}, 0, 7]
    if name.startswith("ncsnv2"):
        states.append({key: weights[key] + 1 for key in parameters})
    with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
    experiment = experiment_for(model_of(config), config["image_size"], config["sigma_begin"], config["num_classes"])
    _, folder = imported(tmp_path, experiment, write(tmp_path / "a.pth", states))
    content = checkpoint.read_checkpoint(folder)
    assert content.model.keys() == network.state_dict().keys()
    assert all(torch.equal(value, weights[names[key]]) for key, value in content.model.items())
    assert all(
        torch.equal(content.optimizer[f"exp_avg/{ours}"], weights[names[ours]] * 2)
        for ours, _ in network.named_parameters()
    )
    if content.ema is not None:
        trained = dict(network.named_parameters())
        assert all(torch.equal(v, weights[names[k]] + (k in trained)) for k, v in content.ema.items())


# ----------------------------------------------------------------------------------- to a run's format and back again


@pytest.fixture(scope="module")
def own(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Path]:
    """The tiny experiment, and its checkpoint of step 8 as a published file."""
    experiment = Run(trained / "runs" / "digits").experiment()
    folder = trained / "runs" / "digits" / "checkpoints" / "step-00000008"
    return experiment, write(tmp_path_factory.mktemp("own") / "checkpoint_8.pth", states_of(folder, experiment))


def test_our_own_checkpoint_comes_back_to_the_bit_and_trains_on_to_the_bit(
    own: tuple[Experiment, Path], trained: Path, tmp_path: Path
) -> None:
    experiment, path = own
    words = ["import", str(path), "digits", *overrides()]
    assert command(*words, folder=tmp_path).code == 0
    own_run, run = Run(trained / "runs" / "digits"), Run(tmp_path / "runs" / "digits")
    for name in ("model.safetensors", "ema.safetensors", "optimizer.safetensors"):
        assert saved(own_run.path, 8)[name] == saved(run.path, 8)[name], name
    assert run.data_fingerprint() is None

    result = command(*training(), folder=tmp_path)

    assert result.code == 0, result.err
    assert "from step 8" in result.err
    for name in ("model.safetensors", "ema.safetensors"):
        assert saved(run.path, 12)[name] == saved(own_run.path, 12)[name], name
    run.update_experiment(attrs.evolve(experiment, note="kept"))
    assert run.data_fingerprint() == own_run.data_fingerprint()


def test_other_contents_of_a_step_are_refused(own: tuple[Experiment, Path], tmp_path: Path) -> None:
    experiment, path = own
    run, _ = imported(tmp_path, experiment, path)
    before = files(run.path)
    for part, name in ((4, "ema"), (1, "optimizer")):
        states: list[Any] = torch.load(path, weights_only=True)
        tensors = states[1]["state"][3] if part == 1 else states[4]
        tensors["exp_avg" if part == 1 else "end_conv.bias"] += 1
        told = rf"already exists with other contents than .*\({name}\.safetensors\).*name=NAME"
        with pytest.raises(NcsnxError, match=told):
            import_checkpoint(run, experiment, read_published(write(tmp_path / "other.pth", states)))
    assert files(run.path) == before


def test_weights_in_another_format_become_float32(own: tuple[Experiment, Path], tmp_path: Path) -> None:
    experiment, path = own
    states: list[Any] = torch.load(path, weights_only=True)
    before = states[0]["module.begin_conv.weight"]
    states[0] = {name: value.bfloat16() for name, value in states[0].items()}
    path = write(tmp_path / "half.pth", states)
    _, folder = imported(tmp_path, experiment, path)
    content = checkpoint.read_checkpoint(folder)
    assert all(value.dtype == torch.float32 for value in content.model.values())
    assert torch.equal(content.model["begin.weight"], before.bfloat16().float())


@pytest.mark.parametrize("place", ["network", "EMA", "optimizer"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3])
def test_wrong_numbers_are_refused_before_there_is_a_run(
    place: str, value: float, own: tuple[Experiment, Path], tmp_path: Path
) -> None:
    states: list[Any] = torch.load(own[1], weights_only=True)
    part = {"network": states[0], "EMA": states[4], "optimizer": states[1]["state"][3]}[place]
    name = list(part)[-1]
    part[name] = torch.full_like(part[name], value, dtype=torch.int32 if value == 3 else None)
    result = command("import", str(write(tmp_path / "bad.pth", states)), "digits", *overrides(), folder=tmp_path)
    assert result.code == 1
    assert ("found torch.int32" if value == 3 else "holds NaN or infinity, so the file is not imported") in result.err
    assert list(tmp_path.iterdir()) == [tmp_path / "bad.pth"]


# -------------------------------------------------------------------------------------------------- fits and misfits


def test_every_tensor_that_differs_is_found() -> None:
    experiment, published = golden_experiment("ncsnv2"), read_published(golden_path("ncsnv2"))
    published.network["surplus"] = published.network.pop("end_conv.bias")
    published.network["begin_conv.bias"] = torch.zeros(5)
    assert published.ema is not None
    published.ema["lost.weight"] = published.ema.pop("normalizer.gamma")
    assert misfit(experiment, published) == [
        "1 tensor missing (end_conv.bias)",
        "1 tensor surplus (surplus)",
        "1 tensor of another shape (begin_conv.bias (5,) instead of (4,))",
        "1 averaged tensor missing (normalizer.gamma)",
        "1 averaged tensor surplus (lost.weight)",
    ]


KINDS = [Adam(), Adam(amsgrad=True), RMSProp(momentum=0.9), SGD(momentum=0.0)]


@pytest.mark.parametrize("config", KINDS, ids=repr)
def test_the_state_of_every_published_optimizer_is_taken_over(config: Any, tmp_path: Path) -> None:
    experiment = attrs.evolve(golden_experiment("ncsnv2"), optimizer=config)
    states = golden_states("ncsnv2")
    names = {theirs: ours for ours, theirs in to_published(meta_network(experiment)).items()}
    order = [key for key in (name.removeprefix("module.") for name in states[0]) if key in names]
    theirs = [torch.nn.Parameter(states[4][key].clone()) for key in order]
    for parameter in theirs:
        parameter.grad = torch.ones_like(parameter)
    optimizer = build_optimizer(config, theirs)
    optimizer.step()
    states[1] = optimizer.state_dict()
    path = write(tmp_path / "a.pth", states)
    _, folder = imported(tmp_path, experiment, path)
    assert other_settings(experiment, read_published(path)) == []
    state = TrainingState(experiment, CPU)
    state.load(folder)
    for key, parameter in zip(order, theirs, strict=True):
        taken = state.optimizer.state.get(state.network.get_parameter(names[key]), {})
        kept = {name: value for name, value in optimizer.state[parameter].items() if value is not None}
        assert taken.keys() == kept.keys()
        assert all(torch.equal(taken[name], kept[name]) for name in kept)
    other = KINDS[KINDS.index(config) - 1]
    assert kept_state(other) != kept_state(config)
    assert misfit(attrs.evolve(experiment, optimizer=other), read_published(path)) != []


def test_fields_that_differ_are_named() -> None:
    published, experiment = read_published(golden_path("ncsnv2")), golden_experiment("ncsnv2")
    schedule = attrs.evolve(experiment.schedule, sigma_max=49.0)
    for other, told in (
        ({"schedule": schedule}, "schedule has 10 levels from 50 to 0.01 in the file, not 10 from 49 to 0.01"),
        ({"ema": None}, "ema is none, and the file holds averaged weights"),
    ):
        assert misfit(attrs.evolve(experiment, **other), published) == [told]
    other_optimizer = attrs.evolve(experiment, optimizer=Adam(lr=1e-3, beta1=0.5))
    told = ["lr 0.0001 (here 0.001)", "betas (0.9, 0.999) (here (0.5, 0.999))"]
    assert other_settings(other_optimizer, published) == told
    with_average = attrs.evolve(golden_experiment("ncsn"), ema=experiment.ema)
    without = read_published(golden_path("ncsn"))
    assert misfit(with_average, without) == ["ema is set, and the file holds no averaged weights"]
    with pytest.raises(NcsnxError, match="image size"):
        misfit(attrs.evolve(experiment, data=attrs.evolve(experiment.data, image_size=9)), published)
    with pytest.raises(NcsnxError) as refused:
        require_fit(resolve("cifar10").experiment, published)
    assert (
        "does not fit cifar10: model.width is 4 in the file, not 128; schedule has 10 levels" in refused.value.message
    )
    words = ["model.width=4", "schedule.levels=10", "optimizer=sgd"]
    with pytest.raises(NcsnxError, match=r"optimizer is sgd, which keeps momentum_buffer for .*the file has exp_avg, "):
        require_fit(resolve("cifar10", words).experiment, published)


@pytest.mark.parametrize("change", ["one without", "another shape"])
def test_an_optimizer_s_state_that_is_incomplete_is_refused(change: str, tmp_path: Path) -> None:
    states = golden_states("ncsnv2")
    if change == "one without":
        del states[1]["state"][5]
    else:
        states[1]["state"][5]["exp_avg"] = torch.zeros(3)
    (found,) = misfit(golden_experiment("ncsnv2"), read_published(write(tmp_path / "a.pth", states)))
    assert found.startswith("optimizer is adam, which keeps exp_avg, exp_avg_sq, step for each of 153 parameters")


def test_a_conditional_network_may_come_with_noise_levels_which_must_be_the_schedule_s(tmp_path: Path) -> None:
    experiment, states = golden_experiment("ncsn"), golden_states("ncsn")
    states[0]["module.sigmas"] = torch.tensor(meta_network(experiment).noise_levels)
    path = write(tmp_path / "a.pth", states)
    imported(tmp_path, experiment, path)
    other = attrs.evolve(experiment, schedule=attrs.evolve(experiment.schedule, sigma_min=0.02))
    assert "schedule has" in str(misfit(other, read_published(path)))

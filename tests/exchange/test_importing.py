"""Imported checkpoints give the published scores, the same optimizer state and the same bits as our own."""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors import safe_open

from ncsnx.config import SGD, Adam, Experiment, NCSNv2, RMSProp
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
    raw = empty_network(experiment).eval()
    raw.load_state_dict(checkpoint.read_checkpoint(folder, ["model"]).model)
    networks = {"raw": raw}
    if experiment.ema is not None:
        networks["ema"] = load(run, STEP, runtime=PLAIN).network
    assert [f"score_{kind}" in tensors for kind in ("raw", "ema")] == [True, experiment.ema is not None]
    for kind, network in networks.items():
        x, labels = tensors["x"], tensors["labels"]
        score = network.scaled_score(x, network.sigmas[labels]) / network.sigmas[labels].view(-1, 1, 1, 1)
        assert relative_error(score, tensors[f"score_{kind}"]) < TOLERANCE, kind


def test_raw_and_averaged_weights_are_not_mixed_up(tmp_path: Path) -> None:
    _, folder = imported(tmp_path, golden_experiment("ncsnv2"), golden_path("ncsnv2"))
    content = checkpoint.read_checkpoint(folder)
    assert content.ema is not None
    states = golden_states("ncsnv2")
    assert torch.equal(content.model["begin.weight"], states[0]["module.begin_conv.weight"])
    assert torch.equal(content.ema["begin.weight"], states[4]["begin_conv.weight"])
    assert not torch.equal(content.model["begin.weight"], content.ema["begin.weight"])
    assert content.step == STEP
    assert content.state["images"] == STEP * golden_experiment("ncsnv2").batch_size
    assert content.state["imported"]["sha256"] == read_published(golden_path("ncsnv2")).sha256


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


@pytest.mark.parametrize("name", ["ncsn_spectral", "ncsnv2_batchnorm", "ncsn_lrelu_batchnorm", "ncsnv2_deepest"])
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
    config = expected_config(name)
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


def expected_config(name: str) -> dict[str, Any]:
    with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
        config: dict[str, Any] = json.loads(file.metadata()["config"])
        return config


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
    ours, theirs = saved(trained / "runs" / "digits", 8), saved(tmp_path / "runs" / "digits", 8)
    for name in ("model.safetensors", "ema.safetensors", "optimizer.safetensors"):
        assert ours[name] == theirs[name], name
    run = Run(tmp_path / "runs" / "digits")
    assert run.data_fingerprint() is None

    result = command(*training(), folder=tmp_path)

    assert result.code == 0, result.err
    assert "from step 8" in result.err
    assert saved(run.path, 12)["model.safetensors"] == saved(trained / "runs" / "digits", 12)["model.safetensors"]
    assert saved(run.path, 12)["ema.safetensors"] == saved(trained / "runs" / "digits", 12)["ema.safetensors"]
    assert run.data_fingerprint() == Run(trained / "runs" / "digits").data_fingerprint()
    run.update_experiment(attrs.evolve(experiment, note="kept"))
    assert run.data_fingerprint() == Run(trained / "runs" / "digits").data_fingerprint()


def test_the_same_file_again_changes_nothing(own: tuple[Experiment, Path], tmp_path: Path) -> None:
    experiment, path = own
    run, folder = imported(tmp_path, experiment, path)
    before = files(run.path)
    again = import_checkpoint(run, experiment, read_published(path))
    assert (again.outcome, again.folder) == ("already there", folder)
    assert files(run.path) == before


def test_another_optimizer_state_of_a_step_is_refused(own: tuple[Experiment, Path], tmp_path: Path) -> None:
    experiment, path = own
    run, _ = imported(tmp_path, experiment, path)
    states: list[Any] = torch.load(path, weights_only=True)
    states[1]["state"][3]["exp_avg"] += 1
    with pytest.raises(NcsnxError, match=r"already exists with other contents than .*\(optimizer\.safetensors\)"):
        import_checkpoint(run, experiment, read_published(write(tmp_path / "other.pth", states)))


def test_other_contents_of_a_step_are_refused(own: tuple[Experiment, Path], tmp_path: Path) -> None:
    experiment, path = own
    run, _ = imported(tmp_path, experiment, path)
    before = files(run.path)
    states: list[Any] = torch.load(path, weights_only=True)
    states[4]["end_conv.bias"] += 1
    with pytest.raises(NcsnxError, match=r"already exists with other contents than .*\(ema\.safetensors\).*name=NAME"):
        import_checkpoint(run, experiment, read_published(write(tmp_path / "other.pth", states)))
    assert files(run.path) == before


def test_an_unsound_checkpoint_is_moved_aside(own: tuple[Experiment, Path], tmp_path: Path) -> None:
    experiment, path = own
    run, folder = imported(tmp_path, experiment, path)
    (folder / "ema.safetensors").write_bytes(b"")
    assert import_checkpoint(run, experiment, read_published(path)).outcome == "imported"
    verify(folder)
    assert sorted(entry.name for entry in run.checkpoints.iterdir()) == ["step-00000008", "step-00000008.unsound-1"]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_in_another_format_become_float32(
    kind: torch.dtype, own: tuple[Experiment, Path], tmp_path: Path
) -> None:
    experiment, path = own
    states: list[Any] = torch.load(path, weights_only=True)
    before = states[0]["module.begin_conv.weight"]
    states[0] = {name: value.to(kind) for name, value in states[0].items()}
    path = write(tmp_path / "half.pth", states)
    _, folder = imported(tmp_path, experiment, path)
    content = checkpoint.read_checkpoint(folder)
    assert all(value.dtype == torch.float32 for value in content.model.values())
    assert torch.equal(content.model["begin.weight"], before.to(kind).float())


@pytest.mark.parametrize("place", ["network", "EMA", "optimizer"])
def test_numbers_that_aren_t_finite_are_refused_and_leave_nothing(
    place: str, own: tuple[Experiment, Path], tmp_path: Path
) -> None:
    experiment, path = own
    states: list[Any] = torch.load(path, weights_only=True)
    part = {"network": states[0], "EMA": states[4], "optimizer": states[1]["state"][3]}[place]
    list(part.values())[-1].view(-1)[0] = float("inf") if place == "EMA" else float("nan")
    run = Run.create(tmp_path / "runs", "small", experiment, {}, None, None)
    with pytest.raises(NcsnxError, match="holds NaN or infinity"):
        import_checkpoint(run, experiment, read_published(write(tmp_path / "bad.pth", states)))
    assert list(run.checkpoints.iterdir()) == []


def test_tensors_that_share_memory_are_taken_apart(own: tuple[Experiment, Path], tmp_path: Path) -> None:
    experiment, path = own
    states: list[Any] = torch.load(path, weights_only=True)
    whole = torch.arange(8.0)
    states[0]["module.begin_conv.bias"] = whole[:4]
    states[0]["module.res1.0.conv1.bias"] = whole[::2]
    states[0]["module.res1.0.conv2.bias"] = whole[4:]
    _, folder = imported(tmp_path, experiment, write(tmp_path / "shared.pth", states))
    model = checkpoint.read_checkpoint(folder, ["model"]).model
    assert model["begin.bias"].tolist() == [0, 1, 2, 3]
    assert model["stages.0.0.conv1.bias"].tolist() == [0, 2, 4, 6]
    assert model["stages.0.0.conv2.bias"].tolist() == [4, 5, 6, 7]


# -------------------------------------------------------------------------------------------------- fits and misfits


def test_nothing_of_a_network_s_size_is_allocated_to_compare() -> None:
    assert all(tensor.is_meta for tensor in meta_network(resolve("bedroom128").experiment).state_dict().values())


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


def test_noise_levels_must_be_the_schedule_s() -> None:
    experiment, published = golden_experiment("ncsnv2"), read_published(golden_path("ncsnv2"))
    other = attrs.evolve(experiment, schedule=attrs.evolve(experiment.schedule, sigma_max=49.0))
    assert misfit(other, published) == ["schedule has 10 levels from 50 to 0.01 in the file, not 10 from 49 to 0.01"]


def test_a_conditional_network_may_come_with_noise_levels_which_must_be_the_schedule_s(tmp_path: Path) -> None:
    experiment, states = golden_experiment("ncsn"), golden_states("ncsn")
    states[0]["module.sigmas"] = torch.tensor(meta_network(experiment).noise_levels)
    path = write(tmp_path / "a.pth", states)
    imported(tmp_path, experiment, path)
    other = attrs.evolve(experiment, schedule=attrs.evolve(experiment.schedule, sigma_min=0.02))
    assert "schedule has" in str(misfit(other, read_published(path)))


def test_an_average_must_be_there_exactly_if_the_experiment_has_one() -> None:
    averaged, raw = read_published(golden_path("ncsnv2")), read_published(golden_path("ncsn"))
    without = attrs.evolve(golden_experiment("ncsnv2"), ema=None)
    assert misfit(without, averaged) == ["ema is none, and the file holds averaged weights"]
    with_average = attrs.evolve(golden_experiment("ncsn"), ema=golden_experiment("ncsnv2").ema)
    assert misfit(with_average, raw) == ["ema is set, and the file holds no averaged weights"]


KINDS = [Adam(), Adam(amsgrad=True), RMSProp(), RMSProp(momentum=0.9), SGD(), SGD(momentum=0.0)]


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
    published = read_published(golden_path("ncsnv2"))
    with pytest.raises(NcsnxError) as refused:
        require_fit(resolve("cifar10").experiment, published)
    assert (
        "does not fit cifar10: model.width is 4 in the file, not 128; schedule has 10 levels" in refused.value.message
    )
    words = ["model.width=4", "schedule.levels=10", "optimizer=sgd"]
    with pytest.raises(NcsnxError, match=r"optimizer is sgd, which keeps momentum_buffer for .*the file has exp_avg, "):
        require_fit(resolve("cifar10", words).experiment, published)


@pytest.mark.parametrize("change", ["one missing", "one without", "another shape"])
def test_an_optimizer_s_state_that_is_incomplete_is_refused(change: str, tmp_path: Path) -> None:
    states = golden_states("ncsnv2")
    if change == "one missing":
        states[1]["param_groups"][0]["params"].pop()
        states[1]["state"].popitem()
    elif change == "one without":
        del states[1]["state"][5]
    else:
        states[1]["state"][5]["exp_avg"] = torch.zeros(3)
    (found,) = misfit(golden_experiment("ncsnv2"), read_published(write(tmp_path / "a.pth", states)))
    assert found.startswith("optimizer is adam, which keeps exp_avg, exp_avg_sq, step for each of 153 parameters")


def test_settings_that_differ_are_told() -> None:
    experiment = attrs.evolve(golden_experiment("ncsn"), optimizer=Adam(lr=1e-3, beta1=0.5))
    told = other_settings(experiment, read_published(golden_path("ncsn")))
    assert told == ["lr 0.0001 (here 0.001)", "betas (0.9, 0.999) (here (0.5, 0.999))"]


def test_an_experiment_whose_network_cannot_be_built_says_so() -> None:
    experiment = attrs.evolve(
        golden_experiment("ncsnv2"), data=attrs.evolve(golden_experiment("ncsnv2").data, image_size=9)
    )
    with pytest.raises(NcsnxError, match="image size"):
        misfit(attrs.evolve(experiment, model=NCSNv2(width=4)), read_published(golden_path("ncsnv2")))

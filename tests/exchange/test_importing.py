"""Imported checkpoints give the published scores, the same bits as our own, and resume with a fresh optimizer."""

import hashlib
import json
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors import safe_open

from ncsnx.config import Experiment
from ncsnx.config.discovery import resolve
from ncsnx.errors import NcsnxError
from ncsnx.exchange import importing
from ncsnx.exchange.importing import import_checkpoint
from ncsnx.exchange.published_files import read_published
from ncsnx.exchange.sources.published import Published, misfit, require_fit
from ncsnx.networks import empty_network, meta_network, to_published
from ncsnx.runs import checkpoint
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import verify
from ncsnx.runs.segments import read_segments
from ncsnx.runtime import Runtime
from ncsnx.sampling.loading import load
from ncsnx.work import SILENT
from tests.golden_networks import FOLDER, TOLERANCE, load_golden, model_of, relative_error
from tests.published import (
    GOLDEN,
    OPTIMIZER,
    STEP,
    expected,
    experiment_for,
    golden_experiment,
    golden_path,
    golden_states,
    states_of,
    write,
)
from tests.spaces import space_of
from tests.training.tiny import command, files, overrides, saved, training

CPU = Runtime(device=torch.device("cpu"), threads=1)
PLAIN = attrs.evolve(CPU, plain=True)


def imported(folder: Path, experiment: Experiment, path: Path) -> tuple[Run, Path]:
    """Imports a file that must fit into a new run in `folder`; returns the run and the checkpoint's folder."""
    found = Published().read(str(path), experiment, SILENT)
    run = Run.create(folder / "runs", "small", experiment, {}, None, None, found.space)
    return run, import_checkpoint(run, found).folder


@pytest.mark.parametrize("name", GOLDEN)
@torch.no_grad()
def test_the_imported_weights_give_the_published_scores(name: str, tmp_path: Path) -> None:
    experiment, (_, tensors) = golden_experiment(name), expected(name)
    run, folder = imported(tmp_path, experiment, golden_path(name))
    verify(folder)
    content = checkpoint.read_checkpoint(folder)
    assert (content.step, "images" in content.state) == (STEP, False)
    assert content.state["imported"]["sha256"] == hashlib.sha256(golden_path(name).read_bytes()).hexdigest()
    raw = empty_network(experiment, space_of(experiment.data)).eval()
    raw.load_state_dict(content.model)
    networks = {"raw": raw}
    if experiment.ema is not None:
        networks["ema"] = load(run, STEP, runtime=PLAIN).network
    assert [f"score_{kind}" in tensors for kind in ("raw", "ema")] == [True, experiment.ema is not None]
    for kind, network in networks.items():
        x, labels = tensors["x"], tensors["labels"]
        score = network.scaled_score(x, network.sigmas[labels]) / network.sigmas[labels].view(-1, 1, 1, 1)
        assert relative_error(score, tensors[f"score_{kind}"]) < TOLERANCE, kind


@pytest.mark.parametrize("name", ["ncsn_spectral", "ncsnv2_batchnorm"])
def test_buffers_are_kept_and_are_not_averaged(name: str, tmp_path: Path) -> None:
    golden = load_golden(name)
    network = golden.network
    names = to_published(network)
    parameters = [names[key] for key, _ in network.named_parameters()]
    weights = {key.removeprefix("state."): value for key, value in golden.tensors.items() if key.startswith("state.")}
    states: list[Any] = [{f"module.{key}": value for key, value in weights.items()}, OPTIMIZER, 0, 7]
    if name.startswith("ncsnv2"):
        states.append({key: weights[key] + 1 for key in parameters})
    with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
    experiment = experiment_for(model_of(config), config["image_size"], config["sigma_begin"], config["num_classes"])
    _, folder = imported(tmp_path, experiment, write(tmp_path / "a.pth", states))
    content = checkpoint.read_checkpoint(folder)
    assert content.model.keys() == network.state_dict().keys()
    assert all(torch.equal(value, weights[names[key]]) for key, value in content.model.items())
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


def test_our_own_checkpoint_comes_back_to_the_bit_and_trains_on_with_a_fresh_optimizer(
    own: tuple[Experiment, Path], trained: Path, tmp_path: Path
) -> None:
    experiment, path = own
    words = ["import", str(path), "digits", *overrides()]
    assert "training it further begins with a fresh optimizer" in command(*words, folder=tmp_path).err
    own_run, run = Run(trained / "runs" / "digits"), Run(tmp_path / "runs" / "digits")
    for name in ("model.safetensors", "ema.safetensors"):
        assert saved(own_run.path, 8)[name] == saved(run.path, 8)[name], name
    assert run.data_fingerprint() is None

    result = command(*training(), folder=tmp_path)

    assert result.code == 0, result.err
    assert "from step 8" in result.err
    newest = checkpoint.read_checkpoint(run.checkpoints / "step-00000012")
    assert newest.optimizer["step/begin.bias"] == 12 - 8
    run.update_experiment(attrs.evolve(experiment, note="kept"))
    assert run.data_fingerprint() == own_run.data_fingerprint()


def test_an_interrupted_import_says_what_to_do_and_is_repeated(
    own: tuple[Experiment, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = own
    words = ["import", str(path), "digits", *overrides()]

    def interrupted(*arguments: object, **others: object) -> None:
        raise KeyboardInterrupt

    for name in ("write_checkpoint", "append_segment"):
        with monkeypatch.context() as interrupting:
            interrupting.setattr(importing, name, interrupted)
            assert command(*words, folder=tmp_path).code != 0
        if name == "write_checkpoint":
            for others in (["list"], ["train", "runs/digits", "--device", "cpu"], ["sample", "digits"]):
                told = command(*others, folder=tmp_path)
                assert "repeat the import, which was interrupted" in told.err + told.out
    command(*words, folder=tmp_path).done()
    run = Run(tmp_path / "runs" / "digits")
    assert [(one.from_step, one.imported is not None) for one in read_segments(run)] == [(8, True)]


def test_other_contents_of_a_step_are_refused(own: tuple[Experiment, Path], tmp_path: Path) -> None:
    experiment, path = own
    run, _ = imported(tmp_path, experiment, path)
    before = files(run.path)
    states: list[Any] = torch.load(path, weights_only=True)
    states[4]["end_conv.bias"] += 1
    told = r"already exists with other contents than .*\(ema\.safetensors\).*name=NAME"
    with pytest.raises(NcsnxError, match=told):
        import_checkpoint(run, Published().read(str(write(tmp_path / "other.pth", states)), experiment, SILENT))
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


@pytest.mark.parametrize(("place", "value"), [("network", float("nan")), ("EMA", float("inf")), ("network", 3)])
def test_wrong_numbers_leave_no_run(place: str, value: float, own: tuple[Experiment, Path], tmp_path: Path) -> None:
    states: list[Any] = torch.load(own[1], weights_only=True)
    part = {"network": states[0], "EMA": states[4]}[place]
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


def test_fields_that_differ_are_named() -> None:
    published, experiment = read_published(golden_path("ncsnv2")), golden_experiment("ncsnv2")
    schedule = attrs.evolve(experiment.schedule, sigma_max=49.0)
    for other, told in (
        ({"schedule": schedule}, "schedule has 10 levels from 50 to 0.01 in the file, not 10 from 49 to 0.01"),
        ({"ema": None}, "ema is none, and the file holds averaged weights"),
    ):
        assert misfit(attrs.evolve(experiment, **other), published) == [told]
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


def test_a_conditional_network_may_come_with_noise_levels_which_must_be_the_schedule_s(tmp_path: Path) -> None:
    experiment, states = golden_experiment("ncsn"), golden_states("ncsn")
    states[0]["module.sigmas"] = torch.tensor(meta_network(experiment).noise_levels)
    path = write(tmp_path / "a.pth", states)
    imported(tmp_path, experiment, path)
    other = attrs.evolve(experiment, schedule=attrs.evolve(experiment.schedule, sigma_min=0.02))
    assert "schedule has" in str(misfit(other, read_published(path)))

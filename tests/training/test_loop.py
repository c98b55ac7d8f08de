"""The training loop: the method step by step, what it logs and saves, resuming, and what it does not wait for."""

import random
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from safetensors.torch import load, load_file
from torch.utils._python_dispatch import TorchDispatchMode

from ncsnx.config import SGD, Adam, Experiment, RMSProp
from ncsnx.config.discovery import resolve
from ncsnx.data import TrainingBatches, cache_in_memory, open_data
from ncsnx.errors import NcsnxError, Stopped
from ncsnx.ranks.rank_group import ALONE
from ncsnx.runs.folder import Run
from ncsnx.runs.segments import read_segments
from ncsnx.stopping import StopRequest
from ncsnx.training.agreed_stop import AgreedStop
from ncsnx.training.loss_values import HeldOutBatch
from ncsnx.training.optimizers import build_optimizer, learning_rate
from tests.data.recorded import Recorded
from tests.forked import REPOSITORY
from tests.spaces import space_of, untrained
from tests.training.reference import reference_training
from tests.training.tiny import CPU, command, events, lines, overrides, saved, steps_of, training
from tests.training.watched import Events, Training

CPU_DEVICE = torch.device("cpu")
FLIPPED = ("data.random_flip=true", "data.dequantization=uniform")


def experiment(*changes: str) -> Experiment:
    return resolve("digits", overrides(*changes)).experiment


def trained_weights(folder: Path, *changes: str) -> dict[str, torch.Tensor]:
    """Weights after 12 steps of the tiny experiment with these changes."""
    folder.mkdir(exist_ok=True)
    assert command(*training("snapshots=none", *changes), folder=folder).code == 0
    return load_file(folder / "runs/digits/checkpoints/step-00000012/model.safetensors")


def distance(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], start: Experiment) -> float:
    """Largest difference between two trainings, relative to how far the weights moved."""
    before = {name: parameter.detach() for name, parameter in untrained(start).named_parameters()}
    moved = max(float((expected[name] - before[name]).abs().max()) for name in before)
    return max(float((found[name] - expected[name]).abs().max()) for name in before) / moved


@pytest.mark.parametrize(
    "changes",
    [
        # 3 · 600 images: the second epoch begins within the third batch
        ("batch_size=600", "optimizer.lr=1e-5"),
        ("batch_size=16", "optimizer.lr=1e-4", "loss.power=1.5"),
        ("batch_size=16", "optimizer.lr=1e-2", "warmup_steps=4", "clip_norm=0.5", "accumulation=2"),
    ],
)
def test_training_is_the_method_step_by_step(tmp_path: Path, changes: tuple[str, ...]) -> None:
    changed = (*FLIPPED, "optimizer=sgd", "ema.rate=0.9", *changes)
    command(*training(*changed, "steps=3", "log_every=1", "snapshots=none", "--plain"), folder=tmp_path)
    expected, average, losses = reference_training(experiment(*changed), 3)
    files = saved(tmp_path / "runs/digits", 3)
    start = experiment(*changed)
    # float32 sums over the images of a level or a batch: errors of 1e-6 per step, over a few steps
    assert distance(load(files["model.safetensors"]), expected, start) < 1e-4
    assert distance(load(files["ema.safetensors"]), average, start) < 1e-3
    logged = [record["loss"] for record in lines(tmp_path / "runs/digits/metrics.jsonl") if "loss" in record]
    assert logged == pytest.approx(losses, rel=1e-5)


SMALL_UNET = ("model=unet", "model.width=4", "model.multipliers=1,2", "model.blocks=1", "model.attention=4")
DRAWN = (*SMALL_UNET, "model.dropout=0.1", "augmentation.probability=0.3")


def test_accumulation_changes_nothing_but_rounding_also_from_the_middle_on(tmp_path: Path) -> None:
    sgd = ("snapshots=none", "optimizer=sgd", "optimizer.lr=1e-4", *DRAWN)
    folders = [tmp_path / name for name in ("whole", "parts", "resumed")]
    whole, parts = trained_weights(folders[0], *sgd), trained_weights(folders[1], *sgd, "accumulation=4")
    folders[2].mkdir()
    assert command(*training(*sgd, "steps=8"), folder=folders[2]).code == 0
    result = command(*training(*sgd, "accumulation=4"), folder=folders[2])
    assert "bit-identity with an uninterrupted run ends here: accumulation 1 → 4" in result.err
    resumed = load(saved(folders[2] / "runs/digits", 12)["model.safetensors"])
    losses = [
        [record.get("loss", record.get("held_out")) for record in lines(folder / "runs/digits/metrics.jsonl")]
        for folder in folders
    ]
    for found, seen in ((parts, losses[1]), (resumed, losses[2])):
        assert distance(found, whole, experiment(*sgd)) < 1e-4
        assert seen == pytest.approx(losses[0], rel=1e-5)


def test_bf16_trains_weights_that_are_kept_in_fp32(tmp_path: Path) -> None:
    found = trained_weights(tmp_path, "optimizer=sgd", "optimizer.lr=1e-4", "precision=bf16")
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    expected = trained_weights(tmp_path / "fp32", "optimizer=sgd", "optimizer.lr=1e-4")
    # 8 bits of precision: close but never equal
    assert 1e-4 < distance(found, expected, experiment()) < 0.2


def test_a_signal_counts_after_the_time_is_up() -> None:
    stop = StopRequest()
    agreed = AgreedStop(stop, ALONE)
    agreed.end_s = 0.0
    assert agreed.requested
    stop.request(signal.SIGINT)
    for check in (agreed.check, agreed.check_own):
        with pytest.raises(Stopped, match="stopped by Ctrl-C"):
            check()


def test_warm_up_rises_linearly_and_is_recorded(tmp_path: Path) -> None:
    trained_weights(tmp_path, "warmup_steps=8")
    rates = [
        (record["step"], record["lr"]) for record in lines(tmp_path / "runs/digits/metrics.jsonl") if "lr" in record
    ]
    expected = [(step, pytest.approx(2e-3 * min(1, step / 8))) for step in range(2, 13, 2)]
    assert rates == expected
    assert learning_rate(experiment("warmup_steps=0"), 0) == 2e-3


def test_a_logged_loss_is_the_mean_of_the_steps_since_the_last(tmp_path: Path) -> None:
    trained_weights(tmp_path, "log_every=1")
    each = [record["loss"] for record in lines(tmp_path / "runs/digits/metrics.jsonl") if "loss" in record]
    trained_weights(tmp_path / "rare", "log_every=5", "checkpoint_every=100")
    means = [
        (record["step"], record["loss"])
        for record in lines(tmp_path / "rare/runs/digits/metrics.jsonl")
        if "loss" in record
    ]
    expected = [(5, sum(each[:5]) / 5), (10, sum(each[5:10]) / 5), (12, sum(each[10:]) / 2)]
    assert means == [(step, pytest.approx(mean, rel=1e-6)) for step, mean in expected]


def test_the_held_out_loss_is_that_of_the_averaged_weights_at_every_level(trained: Path) -> None:
    run = trained / "runs/digits"
    records = [record for record in lines(run / "metrics.jsonl") if "held_out" in record]
    assert [record["step"] for record in records] == [3, 6, 9, 12]
    network = untrained(Run(run).experiment())
    network.load_state_dict(load(saved(run, 12)["ema.safetensors"]))
    held_out = HeldOutBatch(
        open_data(experiment().data, run).held_out, Run(run).experiment(), Run(run).space(), CPU_DEVICE
    )
    loss = held_out.loss(network.eval())
    assert records[-1]["held_out"] == pytest.approx(loss.mean, rel=1e-5)
    assert {int(level): value for level, value in records[-1]["held_out_levels"].items()} == pytest.approx(
        loss.levels, rel=1e-5
    )
    assert sorted(loss.levels) == [0, 1, 2, 3]
    # 16 images at 4 levels: equally many at each, so that the mean over levels is the mean over images
    assert sum(loss.levels.values()) / 4 == pytest.approx(loss.mean)
    raw = untrained(Run(run).experiment())
    raw.load_state_dict(load(saved(run, 12)["model.safetensors"]))
    assert held_out.loss(raw.eval()).mean != pytest.approx(loss.mean, rel=1e-5)


def test_with_more_levels_than_images_the_held_out_levels_are_spread_over_all() -> None:
    config = experiment("schedule.levels=100")
    held_out = HeldOutBatch(open_data(config.data, Path()).held_out, config, space_of(config.data), CPU_DEVICE)
    levels = sorted(held_out.loss(untrained(config).eval()).levels)
    assert len(levels) == 16
    gaps = {after - before for before, after in pairwise(levels)}
    assert gaps <= {6, 7}
    assert levels[0] < 7
    assert levels[-1] > 92


def test_without_an_average_the_present_weights_are_judged_and_saved_alone(tmp_path: Path) -> None:
    trained_weights(tmp_path, "ema=none")
    run = tmp_path / "runs/digits"
    assert sorted(saved(run, 12)) == ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]
    config = Run(run).experiment()
    network = untrained(config)
    network.load_state_dict(load(saved(run, 12)["model.safetensors"]))
    loss = HeldOutBatch(open_data(config.data, run).held_out, config, space_of(config.data), CPU_DEVICE).loss(
        network.eval()
    )
    assert lines(run / "metrics.jsonl")[-1]["held_out"] == pytest.approx(loss.mean, rel=1e-5)
    assert {record["weights"] for record in lines(run / "metrics.jsonl")} == {"raw"}
    assert [step for step, _ in events(run, "loss/held_out_raw")] == [3, 6, 9, 12]


def test_no_global_generator_is_read_or_moved(tmp_path: Path) -> None:
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
    trained_weights(tmp_path, *FLIPPED)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # type: ignore[index]
    torch.manual_seed(12345)
    trained_weights(tmp_path / "seeded", *FLIPPED)
    assert saved(tmp_path / "runs/digits", 12) == saved(tmp_path / "seeded/runs/digits", 12)


class _Watch(TorchDispatchMode):
    """Records operations that transfer a value from the device to Python, or need one to determine a shape."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"):
            self.waited.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize("extra", [(), ("clip_norm=1", "accumulation=4", "data.random_flip=true", "loss.power=1")])
def test_no_step_waits_for_the_device(tmp_path: Path, extra: tuple[str, ...]) -> None:
    # SGD, since Adam counts its steps in CPU tensors, whose reading doesn't wait
    rarely = ("checkpoint_every=100", "log_every=100", "eval_every=100", "snapshots=none")
    # a worker reads the data, since its lookups aren't on the device
    training = Training(tmp_path, "optimizer=sgd", "steps=6", *rarely, *extra, workers=1)
    waited: list[int] = []
    with _Watch() as watch:
        training.train(Events(lambda name, value: name == "step" and waited.append(len(watch.waited))))
    assert waited == [waited[0]] * 6
    assert len(watch.waited) > waited[-1]  # the checkpoint does wait


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_the_backward_pass_of_a_tf32_network_multiplies_in_tf32_too(tmp_path: Path) -> None:
    training, seen = Training(tmp_path, "steps=1", "snapshots=none"), set[str]()
    training.state.network.precision = "tf32"  # CPUs ignore the setting of the process, but it can be read
    for parameter in training.state.network.parameters():
        parameter.register_hook(lambda _: seen.add(torch.backends.cuda.matmul.fp32_precision))
    training.train(Events())
    assert seen == {"tf32"}
    assert torch.backends.cuda.matmul.fp32_precision != "tf32"


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_vanishes_in_the_middle_costs_no_step(tmp_path: Path, workers: int) -> None:
    training = Training(tmp_path, "checkpoint_every=100", "snapshots=none", workers=workers)
    config, images = training.config, training.data.train
    gone = int(TrainingBatches(images, config.batch_size, config.seed).indices(7)[3])
    training.data = attrs.evolve(training.data, train=Recorded(images, broken=[gone]))
    with pytest.raises(NcsnxError, match=r"^cat\.png: is broken; fix the data, .*it resumes from step 7$"):
        training.train(Events())
    assert steps_of(training.run.path) == [7]


def test_workers_leave_what_is_cached_in_memory_to_the_process(tmp_path: Path) -> None:
    training = Training(tmp_path, "checkpoint_every=100", "snapshots=none", workers=2)
    source = Recorded(training.data.train)
    training.data = cache_in_memory(attrs.evolve(training.data, train=source), torch.device("cpu"))
    del source.reads[:]  # the first image was read for its type
    training.train(Events())
    config = training.config
    assert len(set(source.reads)) == len(source.reads) == min(config.steps * config.batch_size, len(source))


def test_events_are_those_of_the_metrics(trained: Path) -> None:
    run = trained / "runs/digits"
    records = lines(run / "metrics.jsonl")
    for key, name in (("loss", "loss/training_raw"), ("lr", "lr"), ("held_out", "loss/held_out_ema")):
        expected = [(record["step"], pytest.approx(record[key], rel=1e-6)) for record in records if key in record]
        assert events(run, name) == expected
    assert len(events(run, "held_out_level_ema/3")) == 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (("optimizer=sgd", "optimizer.lr=1e30"), "the loss is not finite at step"),
        # an infinite update: the loss before it was still finite
        (("optimizer=sgd", "optimizer.lr=3e38", "checkpoint_every=1"), "a weight is not finite at step 1"),
    ],
)
def test_infinite_numbers_end_the_run_and_arent_saved(tmp_path: Path, changes: tuple[str, ...], reason: str) -> None:
    result = command(*training(*changes), folder=tmp_path)
    assert result.code == 1
    (line,) = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert reason in line
    assert "optimizer.lr=" in result.err
    assert "--run NAME" in result.err
    assert steps_of(tmp_path / "runs/digits") == []
    assert reason in (tmp_path / "runs/digits/log.txt").read_text()


def test_a_checkpoint_from_before_the_loss_left_the_finite_is_kept(tmp_path: Path) -> None:
    giant = ("optimizer=sgd", "optimizer.lr=1e12", "checkpoint_every=1", "snapshots=none")
    for _ in range(2):  # starting again changes nothing
        result = command(*training(*giant), folder=tmp_path)
        assert result.code == 1
        assert "the loss is not finite at step 2" in result.err
        assert steps_of(tmp_path / "runs/digits") == [1]
        weights = load(saved(tmp_path / "runs/digits", 1)["model.safetensors"])
        assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())


def test_a_grid_that_diverges_is_reported_and_ends_nothing(tmp_path: Path) -> None:
    result = command(*training("sampler.step_size=1e38"), folder=tmp_path).done()
    assert "no grid of samples for step 12: the sampler diverged" in result.err
    assert steps_of(tmp_path / "runs/digits") == [4, 8, 12]
    assert not (tmp_path / "runs/digits/snapshots").exists()


@pytest.mark.parametrize(
    "changes",
    [
        ("optimizer=rmsprop", "optimizer.momentum=0.5", "model.normalization=batch", *FLIPPED, "data.transform=logit"),
        ("optimizer.amsgrad=true", "ema=none", "warmup_steps=10", "model=ncsn", "model.spectral_norm=true"),
        DRAWN,
    ],
)
def test_a_training_in_two_parts_ends_like_one_in_one(tmp_path: Path, changes: tuple[str, ...]) -> None:
    changed = ("snapshots=none", *changes)
    for run, steps in (("parts", 4), ("parts", 6), ("whole", 6)):
        flags = ["--checkpointing"] if steps == 4 else []
        result = command(*training(*changed, f"steps={steps}", f"--run={run}", *flags), folder=tmp_path)
        assert (result.code, "bit-identity" in result.err) == (0, False)
    assert saved(tmp_path / "runs/parts", 6) == saved(tmp_path / "runs/whole", 6)
    segments = read_segments(Run(tmp_path / "runs/parts"))
    assert [segment.runtime["checkpointing"] for segment in segments] == [True, False]


def test_optimizers_have_the_settings_they_are_given() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    cases = [
        (Adam(lr=0.5, beta1=0.6, beta2=0.7, eps=0.8, weight_decay=0.1, amsgrad=True), torch.optim.Adam),
        (RMSProp(lr=0.5, alpha=0.6, eps=0.7, momentum=0.8, weight_decay=0.1), torch.optim.RMSprop),
        (SGD(lr=0.5, momentum=0.6, weight_decay=0.1), torch.optim.SGD),
    ]
    for config, expected in cases:
        optimizer = build_optimizer(config, parameters)
        assert isinstance(optimizer, expected)
        settings = attrs.asdict(config)
        if isinstance(config, Adam):
            settings["betas"] = (settings.pop("beta1"), settings.pop("beta2"))
        assert settings.items() <= optimizer.param_groups[0].items()


def test_a_sampler_of_their_own_draws_the_grids_and_changes_nothing_else(tmp_path: Path) -> None:
    fields = ("steps=3", "grid.sigma_max=1.0", "grid.sigma_min=0.1", "grid.rho=7")
    quick = ("snapshots.sampler=cas", *(f"snapshots.sampler.{field}" for field in fields))
    cases = {
        "own": training("steps=1"),
        "quick": training("steps=1", *quick),
        "as_quick": training("steps=1", "sampler=cas", *(f"sampler.{field}" for field in fields)),
    }
    cases["as_quick"].remove("sampler.steps_per_level=1")
    grids, weights = {}, set()
    for name, words in cases.items():
        (tmp_path / name).mkdir()
        command(*words, folder=tmp_path / name).done()
        run = tmp_path / name / "runs/digits"
        grids[name] = (run / "snapshots/step-00000001.png").read_bytes()
        weights.add((run / "checkpoints/step-00000001/ema.safetensors").read_bytes())
    assert grids["quick"] == grids["as_quick"] != grids["own"]
    assert len(weights) == 1
    assert command(*training("steps=2", *quick), folder=tmp_path / "own").code == 0, "a run may change it"
    assert (tmp_path / "own/runs/digits/snapshots/step-00000002.png").is_file()


SPECTRAL = training("steps=2", "model=ncsn", "model.spectral_norm=true", "--no-report", "--run=spectral")
PROGRAM = f"""
import sys
from ncsnx.cli import app
for words in {[training("steps=2", "--no-report"), SPECTRAL, ["sample", "digits", "--n", "2", *CPU]]!r}:
    app(words, standalone_mode=False)
assert not {{"sklearn", "torch._dynamo", "torch._inductor", "matplotlib"}} & set(sys.modules)
"""


@pytest.mark.slow
def test_training_and_sampling_import_no_compiler_and_no_scikit_learn(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr

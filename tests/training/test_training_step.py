"""Steps as on CUDA, as far as a CPU shows them: fused optimizers, and what crosses devices; optimizers of packages."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import attrs
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ncsnx import randomness
from ncsnx.config import Experiment, Optimizer
from ncsnx.config.discovery import resolve
from ncsnx.data import TrainingBatches, open_data
from ncsnx.data.batches import prefetched
from ncsnx.errors import NcsnxError
from ncsnx.ranks.rank_group import ALONE, RankGroup
from ncsnx.runtime import Runtime
from ncsnx.training import loop
from ncsnx.training.loss_values import PendingLosses
from ncsnx.training.optimizers import build_optimizer
from ncsnx.training.training_state import TrainingState
from ncsnx.training.training_step import TrainingStep
from tests.golden_networks import relative_error
from tests.spaces import state_of
from tests.training.tiny import command, lines, overrides, saved, steps_of, training

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CPU, META = torch.device("cpu"), torch.device("meta")
DRAWN = (
    *("model=unet", "model.width=4", "model.multipliers=1,2", "model.blocks=1", "model.attention=4"),
    *("model.dropout=0.1", "augmentation.probability=0.3", "schedule=lognormal", "schedule.sigma_max=10"),
)
KINDS = ("optimizer=adam", "optimizer=rmsprop", "optimizer=sgd")
EVERYTHING = ("clip_norm=1", "accumulation=2", "warmup_steps=5", "data.random_flip=true", "data.dequantization=uniform")


def experiment(*changes: str) -> Experiment:
    return resolve("digits", overrides("snapshots=none", *changes)).experiment


def steps_of_training(
    config: Experiment, device: torch.device, count: int, *, ranks: RankGroup = ALONE
) -> tuple[TrainingState, list[Tensor]]:
    """The state and the losses after some steps."""
    state, data = state_of(config, Runtime(device=device, threads=1)), open_data(config.data, Path())
    step = TrainingStep(state, data.train.value_range, ranks=ranks)
    batches = TrainingBatches(data.train, config.batch_size, config.seed).between(0, count)
    losses = []
    for batch in prefetched(batches, device):
        loss = step(batch.images.pixels, batch.positions, batch.images.labels, lambda: False)
        assert loss is not None
        losses.append(loss)
    return state, losses


@pytest.mark.usefixtures("as_on_cuda")
@pytest.mark.parametrize("kind", KINDS)
def test_the_optimizers_of_cuda_train_the_same_weights(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment(kind, *EVERYTHING)
    found, losses = steps_of_training(config, CPU, 4)
    monkeypatch.undo()
    expected, expected_losses = steps_of_training(config, CPU, 4)
    assert torch.allclose(torch.stack(losses), torch.stack(expected_losses), rtol=1e-4)
    for one, other in zip(found.network.parameters(), expected.network.parameters(), strict=True):
        # an update of Adam has the size of the learning rate, even for a gradient that is rounding
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["optimizer=adam", "optimizer=sgd"])
def test_a_checkpoint_goes_from_cpu_to_cuda_and_back(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(steps: int) -> dict[str, Tensor]:
        assert command(*training(kind, "snapshots=none", f"steps={steps}"), folder=tmp_path).code == 0
        return load_file(tmp_path / f"runs/digits/checkpoints/step-{steps:08d}/optimizer.safetensors")

    on_cpu = trained(2)
    request.getfixturevalue("as_on_cuda")
    on_cuda = trained(4)
    monkeypatch.undo()
    back = trained(6)
    shapes = [{name: (value.shape, value.dtype) for name, value in part.items()} for part in (on_cpu, on_cuda, back)]
    assert shapes[0] == shapes[1] == shapes[2]
    counts = {name: float(value) for name, value in back.items() if name.startswith("step/")}
    assert set(counts.values()) == (set() if kind == "optimizer=sgd" else {6.0})


@pytest.mark.parametrize(
    ("changes", "calls"), [(("data.random_flip=true",), 1), (DRAWN, 2)], ids=["flips", "dropout and augmentation"]
)
def test_a_steps_inputs_are_drawn_once(changes: tuple[str, ...], calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment(*changes)
    state, data = steps_of_training(config, CPU, 0)[0], open_data(config.data, Path()).train
    positions, counted = torch.arange(config.batch_size), list[None]()
    philox = randomness._philox
    monkeypatch.setattr(randomness, "_philox", lambda *given: counted.append(None) or philox(*given))  # type: ignore[func-returns-value]
    TrainingStep(state, data.value_range).inputs(data.read(positions).pixels, positions, positions)
    assert len(counted) == calls


def test_losses_that_are_read_later_give_the_same_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = ("snapshots=none", "log_every=2", "eval_every=3", "checkpoint_every=5")
    at_once, later = tmp_path / "at_once", tmp_path / "later"
    for folder in (at_once, later):
        folder.mkdir()
        if folder == later:
            monkeypatch.setattr(loop, "PendingLosses", partial(PendingLosses, delay=1))
        for steps in (4, 9):
            assert command(*training(*changes, f"steps={steps}"), folder=folder).code == 0
    found, expected = (folder / "runs/digits/metrics.jsonl" for folder in (later, at_once))
    assert found.read_bytes() == expected.read_bytes()
    assert saved(later / "runs/digits", 9) == saved(at_once / "runs/digits", 9)
    assert [record["step"] for record in lines(expected)] == sorted(record["step"] for record in lines(expected))


def test_a_loss_that_is_read_later_is_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "PendingLosses", partial(PendingLosses, delay=1))
    giant = ("optimizer=sgd", "optimizer.lr=1e12", "log_every=1", "checkpoint_every=2", "eval_every=100")
    result = command(*training(*giant, "snapshots=none"), folder=tmp_path)
    assert result.code == 1
    assert "the loss is not finite at step 2" in result.err
    assert steps_of(tmp_path / "runs/digits") == []


def test_losses_stay_unread_for_an_interval() -> None:
    losses = PendingLosses(CPU, delay=1)
    for step in range(1, 6):
        losses.add(torch.tensor(float(step)))
        if step % 2 == 0:
            losses.end_interval(step)
            assert list(losses.read(all=False)) == ([] if step == 2 else [(2, [1.0, 2.0])])
    losses.end_interval(5)
    assert list(losses.read(all=True)) == [(4, [3.0, 4.0]), (5, [5.0])]


@needs_cuda
@pytest.mark.parametrize("kind", KINDS)
def test_steps_on_cuda_wait_for_nothing_and_train_as_the_cpu_does(kind: str) -> None:
    config = experiment(kind, *EVERYTHING)
    device = torch.device("cuda")
    state, data = state_of(config, Runtime(device=device, threads=1)), open_data(config.data, Path())
    step = TrainingStep(state, data.train.value_range)
    losses = PendingLosses(device)
    batches = TrainingBatches(data.train, config.batch_size, config.seed).between(0, 8)
    for batch in prefetched(batches, device):
        torch.cuda.set_sync_debug_mode("error" if state.step > 3 else "default")  # kept tensors exist
        try:
            loss = step(batch.images.pixels, batch.positions, batch.images.labels, lambda: False)
            assert loss is not None
            losses.add(loss)
            losses.end_interval(state.step)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    _, expected = steps_of_training(config, CPU, 8)
    found = [loss for _, part in losses.read(all=True) for loss in part]
    assert relative_error(torch.tensor(found), torch.stack(expected)) < 1e-2


@attrs.frozen(kw_only=True)
class Normed(Optimizer):
    """Steps of one length along the gradient of each weight."""


@attrs.frozen(kw_only=True)
class Newton(Optimizer):
    """torch's L-BFGS."""


class NormedSteps(torch.optim.Optimizer):
    """Takes each weight as a vector, by `view`, as many optimizers of other packages do."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                gradient = weight.grad.view(-1)
                weight.view(-1).sub_(gradient / gradient.norm().clamp(min=1e-12), alpha=group["lr"])


@build_optimizer.register
def _(config: Normed, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return NormedSteps(parameters, {"lr": config.lr})


@build_optimizer.register
def _(config: Newton, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(parameters, lr=config.lr)


@pytest.mark.parametrize("plain", [False, True], ids=["channels_last", "contiguous"])
def test_an_optimizer_may_take_weights_as_vectors(plain: bool) -> None:
    config = attrs.evolve(experiment(), optimizer=Normed(lr=1e-3))
    state = state_of(config, Runtime(device=CPU, threads=1, plain=plain))
    data = open_data(config.data, Path()).train
    step = TrainingStep(state, data.value_range)
    before = {name: tensor.detach().clone() for name, tensor in state.network.named_parameters()}
    positions = torch.arange(config.batch_size)
    loss = step(data.read(positions).pixels, positions, positions, lambda: False)
    assert loss is not None
    for name, weight in state.network.named_parameters():
        assert float((weight.detach() - before[name]).norm()) == pytest.approx(1e-3, rel=1e-3), name


def test_an_optimizer_that_needs_a_closure_is_refused_in_one_line() -> None:
    with pytest.raises(NcsnxError, match="LBFGS evaluates the loss several times per step, by a closure"):
        state_of(attrs.evolve(experiment(), optimizer=Newton()), Runtime(device=CPU, threads=1))


def test_a_share_of_the_classes_is_withheld_by_position(tmp_path: Path) -> None:
    config = resolve("digits_edm", ["model.classes=10", "model.class_dropout=0.25", "model.width=8"]).experiment
    state, train = state_of(config, Runtime(device=CPU, threads=1)), open_data(config.data, tmp_path).train
    step, positions = TrainingStep(state, train.value_range), torch.arange(1_000, 1_000 + 1_400)
    images = train.read(torch.arange(1_400))
    *_, cond = step.inputs(images.pixels, positions, images.labels)
    withheld = cond["classes"] == -1
    # four standard errors of a share of 1/4 of 1,400
    assert float(withheld.double().mean()) == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 1_400) ** 0.5)
    assert torch.equal(cond["classes"][~withheld], images.labels[~withheld])
    *_, part = step.inputs(images.pixels[7:9], positions[7:9], images.labels[7:9])
    assert torch.equal(part["classes"], cond["classes"][7:9])

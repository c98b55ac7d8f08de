"""Steps and evaluations as on a GPU, on torch's meta device: none mixes devices, waits, or computes in float64.

Wrong kernels, races of streams and NCCL don't show. (FakeTensorMode can't index or differentiate CUDA's tensors
without it.)
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.config import AnnealedLangevin, Experiment, PredictorCorrector, Sampler
from ncsnx.config.discovery import resolve
from ncsnx.data import Preprocessing, open_data
from ncsnx.data.batches import to_device
from ncsnx.errors import NcsnxError
from ncsnx.inverse import LinearMap, LinearOperator
from ncsnx.inverse.operators import tomography
from ncsnx.inverse.operators.coils import Sense, simulated_maps
from ncsnx.inverse.operators.frequencies import Blurring, Fourier
from ncsnx.inverse.operators.matrix import MatrixOperator
from ncsnx.inverse.operators.pixels import Averaging, Graying, Masking
from ncsnx.inverse.operators.tomography import Radon
from ncsnx.inverse.task import Task
from ncsnx.networks import Execution, Network, prepare
from ncsnx.runtime import Runtime
from ncsnx.samplers.building import build_sampler
from ncsnx.samplers.contract import definition_of
from ncsnx.samplers.state import ScaledScore, State
from ncsnx.sampling.generation import TrainingImages, generate, interpolated, other_ends, sampler_draws
from ncsnx.schedules.levels import sigmas
from ncsnx.training.ema import WeightAverage
from ncsnx.training.optimizers import _execution_of
from ncsnx.training.training_step import TrainingStep, require_equal_gradient
from tests.meta_device import CPU, META, Watch
from tests.samplers.registry import all_settings
from tests.spaces import space_of, state_of, untrained

SHAPE = (1, 8, 8)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    made = torch.tensor

    def as_tensor(data: Any, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
        # torch's own copies where no mode sees it
        data = data if isinstance(data, Tensor) else made(data)
        return data.to(device=device, dtype=data.dtype if dtype is None else dtype)

    monkeypatch.setattr(torch, "as_tensor", as_tensor)
    monkeypatch.setattr(torch, "tensor", as_tensor)
    monkeypatch.setattr(Network, "autocast", lambda network, x: nullcontext())  # meta has none
    with Watch() as watching:
        yield watching


def experiment(*changes: str) -> Experiment:
    return resolve("digits", ["schedule.levels=3", "snapshots=none", "batch_size=4", *changes]).experiment


UNET = ("model=unet", "model.width=8", "model.multipliers=1,2", "model.blocks=1", "model.attention=4")
DRAWN = ("model.dropout=0.1", "augmentation.probability=0.3", "schedule=lognormal", "schedule.sigma_max=10")


class _Enough(Exception):
    """Ends a sampling."""


def of_gaussian(x: Tensor, sigma: Tensor, cond: object) -> Tensor:
    """σ times the score of data of variance 1."""
    each = sigma.view(-1, 1, 1, 1)
    return -each * x / (1 + each**2)


def waits_of_an_evaluation(
    watch: Watch, sampler: Sampler, model: ScaledScore = of_gaussian, task: Task | None = None, columns: int = 0
) -> dict[str, int]:
    """Waits of the process between the third and the fourth state, by kind."""
    config = attrs.evolve(experiment(), sampler=sampler)
    space, levels, train = space_of(config.data), sigmas(config.schedule), open_data(config.data, Path()).train
    images = TrainingImages(train, Preprocessing(config.data, space, train.value_range, 0))
    draws = sampler_draws(sampler, levels, space, 0, images)
    if task is not None:
        draws = attrs.evolve(draws, rule=task.ruled(space, 0.01, 0, 2))
    if columns:
        ends = other_ends(draws, sampler, levels, space, 0)
        draws = interpolated(draws, ends, columns, space.start_mean())
    seen: list[Counter[str]] = []

    def on_state(indices: Sequence[int], state: State) -> None:
        seen.append(watch.waits.copy())
        if len(seen) == 4:
            raise _Enough

    with pytest.raises(_Enough):
        list(
            generate(
                build_sampler(sampler), model, levels, draws, range(4), batch_size=4, device=META, on_state=on_state
            )
        )
    assert not +watch.wide
    return dict(seen[3] - seen[2])


LANGEVIN = AnnealedLangevin(step_size=1e-5, steps_per_level=5)
# an adaptive sampler decides by the values that it reads
FIXED = [sampler for sampler in all_settings(4) if not definition_of(type(sampler)).adaptive]


@pytest.mark.parametrize("sampler", FIXED, ids=str)
def test_no_sampler_waits_between_evaluations(watch: Watch, sampler: Sampler) -> None:
    assert waits_of_an_evaluation(watch, sampler) == {}


@pytest.mark.parametrize("changes", [("model.width=4",), UNET, ("model=ncsn", "model.width=4")], ids=str)
def test_no_network_waits_between_evaluations(watch: Watch, changes: tuple[str, ...]) -> None:
    network = untrained(experiment(*changes)).eval().requires_grad_(False).to(META)
    prepare(network, Execution(memory_format="channels_last", fused=True))
    assert waits_of_an_evaluation(watch, LANGEVIN, network.scaled_score) == {}


def test_interpolated_noise_is_drawn_without_waiting(watch: Watch) -> None:
    assert waits_of_an_evaluation(watch, LANGEVIN, columns=3) == {}


OPERATORS: dict[str, Callable[[], LinearOperator | LinearMap]] = {
    "mask": lambda: Masking(torch.arange(64).view(SHAPE) % 3 == 0),
    "average": lambda: Averaging(SHAPE, 2),
    "gray": lambda: Graying(SHAPE, (1.0,)),
    "blur": lambda: Blurring(SHAPE, 1.0),
    "fourier": lambda: Fourier(SHAPE, torch.arange(64).view(8, 8) % 3 == 0),
    "matrix": lambda: MatrixOperator(SHAPE, torch.eye(64)[:5]),
    "coils": lambda: Sense(simulated_maps((8, 8), 3), torch.ones(8, 8), channels=1),
    "tomography": lambda: Radon(SHAPE, torch.tensor([0.0, 90.0])),
}


@pytest.mark.parametrize("rule", ["exact", "cg", "langevin", "dps"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_measurement_copies_nothing(watch: Watch, monkeypatch: pytest.MonkeyPatch, operator: str, rule: str) -> None:
    measuring = OPERATORS[operator]()
    if isinstance(measuring, LinearOperator):
        values = torch.zeros(2, len(measuring.singular_values))
    elif rule == "exact":
        return
    else:
        kind = torch.complex64 if operator == "coils" else torch.float32
        values = torch.zeros(2, *measuring.measured_shape, dtype=kind)
    monkeypatch.setattr(tomography, "_WITHOUT_SPARSE", ("meta",))  # as on MPS; meta has no sparse products either
    task = Task(name="t", operator=measuring, values=values, rule=rule, noise=0.1)
    waits = waits_of_an_evaluation(watch, PredictorCorrector(steps=10), task=task)
    if operator == "tomography":
        assert waits.pop("to the CPU") == waits.pop("to the device") > 0
    # 20 steps of conjugate gradients, every fifth of which looks whether all images are done
    assert waits == ({"read": 4} if rule == "cg" else {})


EVERYTHING = ("clip_norm=1", "accumulation=2", "warmup_steps=5", "data.random_flip=true", "data.dequantization=uniform")


@pytest.mark.parametrize(
    "changes",
    [
        ("model.width=4", "optimizer=adam", *EVERYTHING),
        ("model=ncsn", "model.width=4", "optimizer=sgd"),
        (*UNET, *DRAWN, "optimizer=sgd"),
    ],
    ids=["ncsnv2", "ncsn", "unet"],
)
@pytest.mark.usefixtures("as_on_cuda")
def test_a_training_step_waits_for_nothing(watch: Watch, changes: tuple[str, ...]) -> None:
    config = experiment("ema=none", *changes)
    state = state_of(config, Runtime(device=CPU, threads=1))
    state.average = WeightAverage(state.network.to(META), 0.9)
    assert all(isinstance(group["lr"], float) for group in state.optimizer.param_groups), "a tensor would be copied"
    step = TrainingStep(state, (0, 16))
    pixels = torch.empty(config.batch_size, *SHAPE, dtype=torch.uint8, device=META)
    positions = torch.empty(config.batch_size, dtype=torch.int64, device=META)
    step(pixels, positions, positions, lambda: False)  # makes what is kept, such as constants of the generator
    before = watch.waits.copy()
    step(pixels, positions, positions, lambda: False)
    assert not watch.waits - before
    state.finite_norm()
    assert not +watch.wide


def test_the_gradients_of_a_compiled_network_are_compared_on_the_cpu(watch: Watch) -> None:
    state = state_of(experiment("model.width=4"), Runtime(device=CPU, threads=1))
    state.network.to(META)
    x, sigma = torch.empty(2, *SHAPE, device=META), torch.empty(2, device=META)
    with pytest.raises(NcsnxError, match="differs from the eager one by nan"):
        require_equal_gradient(state, lambda: state.network.scaled_score(x, sigma).sum())
    assert not +watch.wide


def test_only_copies_to_cuda_go_on_behind_the_process(watch: Watch) -> None:
    to_device(torch.ones(2), META)
    assert watch.waits == {"to the device": 1}


@pytest.mark.parametrize(("device", "fused"), [("cpu", False), ("cuda", True), ("mps", True), ("xpu", False)])
def test_updates_are_fused_where_torch_fuses_them(device: str, fused: bool) -> None:
    @attrs.frozen
    class Weight:
        device: torch.device

    assert _execution_of([Weight(torch.device(device))]) == ({"fused": True} if fused else {"foreach": True})  # type: ignore[list-item]

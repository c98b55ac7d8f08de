"""The work of a network evaluation, counted from its operators without running them."""

from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from ncsnx.benchmarking.tracing import is_kernel, kernel_count
from ncsnx.config.experiment import Experiment
from ncsnx.networks import Execution, ScoreFunction, meta_network, prepare
from ncsnx.training.ema import WeightAverage
from ncsnx.training.optimizers import checked_optimizer
from ncsnx.training.score_matching import add_gradients, score_matching_loss
from ncsnx.training.steps.training_step import update_weights


@attrs.frozen(kw_only=True)
class NetworkWork:
    """Work of an evaluation of one image in fp32, in the default execution, and of a step; number of parameters."""

    operations: int
    """Floating-point operations of convolutions and matrix products; an addition and a multiplication count as two."""
    other_bytes: int
    """Bytes that all other operators read and write."""
    operators: int
    """Number of operators without views: about as many kernels on a GPU."""
    step_operators: int
    """Number of operators without views of a training step: both passes, update of weights and average."""
    parameters: int


def network_work(experiment: Experiment) -> NetworkWork:
    """Counts an evaluation of the experiment's network; takes seconds, and no memory for its tensors.

    Raises NcsnxError if the network doesn't suit the images.
    """
    data = experiment.data
    network = meta_network(experiment)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        network.to_empty(device="cpu").eval()  # autocast knows no meta device
        prepare(network, Execution(memory_format="channels_last", fused=True))
        x = torch.empty(1, *data.shape)
        with _WorkCounter() as count:
            network.score(x, network.noise_levels[0])
    with FakeTensorMode(allow_non_fake_inputs=True):
        gradient_operators = _gradient_operators(network.train(), experiment)
    return NetworkWork(
        operations=count.operations,
        other_bytes=count.other_bytes,
        operators=count.operators,
        step_operators=gradient_operators + _update_operators(experiment),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )


def _gradient_operators(network: ScoreFunction, experiment: Experiment) -> int:
    """Operators of a forward and a backward pass."""
    x, levels = torch.empty(2, *experiment.data.shape), torch.zeros(2, dtype=torch.int64)

    def add() -> None:
        losses = score_matching_loss(network, x, levels, torch.empty_like(x), experiment.loss.power)
        add_gradients(network, losses.sum() / len(x))

    return _operators(add)


def _update_operators(experiment: Experiment) -> int:
    """Operators of an update of one parameter. On a GPU, each works on all parameters at once."""
    weights = nn.ParameterList([torch.zeros(1, 1, 1, 1)])
    optimizer = checked_optimizer(experiment.optimizer, weights)
    average = None if experiment.ema is None else WeightAverage(weights, experiment.ema.rate)

    def update() -> None:
        update_weights(weights, optimizer, average, experiment.clip_norm)

    weights[0].grad = torch.zeros_like(weights[0])
    update()  # the first one also makes the optimizer's state
    return _operators(update)


def _operators(job: Callable[[], object]) -> int:
    found = kernel_count(job, torch.device("cpu"), is_compiled=False)
    assert found is not None
    return found


class _WorkCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators, self.operations, self.other_bytes = 0, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not is_kernel(func):
            return result
        self.operators += 1
        if (product := flop_registry.get(func._overloadpacket)) is not None:
            self.operations += product(*args, **(kwargs or {}), out_val=result)
        else:
            tensors = [one for one in tree_leaves((args, kwargs, result)) if isinstance(one, Tensor)]
            self.other_bytes += sum(one.numel() * one.element_size() for one in tensors)
        return result

"""The work of a network evaluation, counted from its operators without running them."""

from typing import Any

import attrs
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from ncsnx.config.experiment import Experiment
from ncsnx.networks import Execution, meta_network, prepare


@attrs.frozen(kw_only=True)
class NetworkWork:
    """Work of an evaluation of one image in fp32, in the default execution, and the number of parameters."""

    operations: int
    """Floating-point operations of convolutions and matrix products; an addition and a multiplication count as two."""
    other_bytes: int
    """Bytes that all other operators read and write."""
    operators: int
    """Number of operators without views: about as many kernels on a GPU."""
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
        x = torch.empty(1, data.channels, data.image_size, data.image_size)
        with _WorkCounter() as count:
            network.score(x, network.noise_levels[0])
    return NetworkWork(
        operations=count.operations,
        other_bytes=count.other_bytes,
        operators=count.operators,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )


class _WorkCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators, self.operations, self.other_bytes = 0, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.is_view or func.namespace == "prim":
            return result
        self.operators += 1
        if (product := flop_registry.get(func._overloadpacket)) is not None:
            self.operations += product(*args, **(kwargs or {}), out_val=result)
        else:
            tensors = [one for one in tree_leaves((args, kwargs, result)) if isinstance(one, Tensor)]
            self.other_bytes += sum(one.numel() * one.element_size() for one in tensors)
        return result

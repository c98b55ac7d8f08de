"""Exponential moving average of the weights: technique 5 of Song & Ermon 2020 (arXiv 2006.09011, section 3.5)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ncsnx.errors import NcsnxError


class WeightAverage:
    """The moving average of a network's parameters, in float32 or wider; it starts at their current values.

    EMA ← μ·EMA + (1 − μ)·w at every `update`, after every optimizer step. Buffers (running statistics, the vectors of
    spectral normalization) and integer parameters aren't averaged; the network's are used. Averages are saved in their
    parameter's type, so resuming rounds those of parameters narrower than float32.
    """

    def __init__(self, network: nn.Module, rate: float) -> None:
        """`rate` is μ, in [0, 1)."""
        self.rate = rate
        self._update_all = get_ema_multi_avg_fn(rate)  # type: ignore[no-untyped-call]
        self._network = network
        self._parameters = {name: tensor for name, tensor in network.named_parameters() if tensor.is_floating_point()}
        firsts = {parameter: name for name, parameter in self._parameters.items()}
        # The state dict holds a shared parameter under each of its names.
        every_name = network.named_parameters(remove_duplicate=False)
        self._first_names = {name: firsts[parameter] for name, parameter in every_name if parameter in firsts}
        self._averages = {name: _float32_copy(tensor.detach()) for name, tensor in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average one step towards the current parameters."""
        averages, parameters = list(self._averages.values()), list(self._parameters.values())
        if averages and all(_takes_one_launch(*pair) for pair in zip(averages, parameters, strict=True)):
            self._update_all(averages, parameters, 0)
            return
        for average, parameter in zip(averages, parameters, strict=True):
            average.mul_(self.rate).add_(parameter, alpha=1 - self.rate)

    def averages(self) -> list[Tensor]:
        """The averages themselves, which `update` changes."""
        return list(self._averages.values())

    def tensors(self) -> dict[str, Tensor]:
        """The network's state dict, with averages in place of parameters; not copied, so an update changes it."""
        return self._network.state_dict() | {
            name: self._averages[first].to(self._parameters[first].dtype) for name, first in self._first_names.items()
        }

    def state(self) -> dict[str, Tensor]:
        """A copy of `tensors`."""
        return {name: tensor.detach().clone() for name, tensor in self.tensors().items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Loads averages saved by `state`. Raises NcsnxError if one is missing or has another shape."""
        for name, average in self._averages.items():
            saved = state.get(name)
            if saved is None or saved.shape != average.shape:
                found = "is missing" if saved is None else f"has shape {tuple(saved.shape)}"
                raise NcsnxError(
                    f"the averages belong to another network: the average of {name} {found}, expected shape "
                    f"{tuple(average.shape)}"
                )
            average.copy_(saved)


def _takes_one_launch(average: Tensor, parameter: Tensor) -> bool:
    """Whether torch updates such averages together; on CPUs that saves nothing and rounds otherwise."""
    return average.device.type == "cuda" and average.dtype == parameter.dtype


def _float32_copy(tensor: Tensor) -> Tensor:
    """A copy in float32, so that small steps of an average aren't lost, or in the tensor's own wider type."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32), copy=True)

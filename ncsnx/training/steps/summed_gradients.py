"""Gradients in one tensor that stays where it is, and their sum over all ranks.

A CUDA graph can then write and read them. DistributedDataParallel sums them by collectives within the backward pass,
which would be part of the graph, so that all ranks would have to capture, and replay, alike.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ncsnx.errors import Hint, NcsnxError
from ncsnx.spelling import argument


class SummedGradients:
    """The gradients of a network's weights, which all ranks sum after the same step."""

    def __init__(self, network: nn.Module) -> None:
        """Gives all ranks the weights and buffers of rank 0, as DistributedDataParallel does: those that are computed
        on different machines differ by rounding. `process_group` must be open."""
        self._weights = [weight for weight in network.parameters() if weight.requires_grad]
        self._used: list[tuple[nn.Parameter, Tensor]] | None = None
        """Weights that have gradients, and their gradients as views of `tensors`; None before the first sum."""
        self._unused: list[nn.Parameter] = []
        self.tensors: list[Tensor] = []
        """All gradients, one tensor for each type of number; empty before the first sum."""
        _give_all((*network.parameters(), *network.buffers()))

    def reset(self) -> None:
        """Sets the gradients to 0, so that those of the next backward passes are added up in place."""
        for weight in self._weights:
            weight.grad = None
        for tensor in self.tensors:
            tensor.zero_()
        for weight, gradient in self._used or ():
            weight.grad = gradient

    def add_up(self) -> None:
        """Sums the gradients over all ranks. The first sum decides which weights have gradients at all.

        Raises NcsnxError if another one gets gradients later.
        """
        if self._used is None:
            self._lay_out()
        if any(weight.grad is not None for weight in self._unused):
            raise NcsnxError(
                "weights that had no gradient in the first step have one now, which CUDA graphs cannot repeat",
                Hint("train without graphs", adds=argument("graphs", False)),
            )
        for tensor in self.tensors:
            dist.all_reduce(tensor)

    def _lay_out(self) -> None:
        """Moves the gradients into tensors. A weight without a gradient on any rank has none, so that optimizers leave
        it alone."""
        has_gradient = torch.tensor([weight.grad is not None for weight in self._weights], dtype=torch.int32)
        dist.all_reduce(has_gradient, op=dist.ReduceOp.MAX)
        pairs = list(zip(self._weights, has_gradient.tolist(), strict=True))
        self._unused = [weight for weight, is_used in pairs if not is_used]
        used = [weight for weight, is_used in pairs if is_used]
        self._used = []
        for dtype in dict.fromkeys(weight.dtype for weight in used):
            whole, views = _in_one([weight for weight in used if weight.dtype == dtype])
            self.tensors.append(whole)
            self._used += views
        for weight, gradient in self._used:
            if weight.grad is not None:
                gradient.copy_(weight.grad)
            weight.grad = gradient


def _in_one(weights: Sequence[nn.Parameter]) -> tuple[Tensor, list[tuple[nn.Parameter, Tensor]]]:
    """A tensor of zeros with room for the gradients of weights of one type, and each weight with its part of it, in the
    weight's memory order."""
    whole = weights[0].new_zeros(sum(weight.numel() for weight in weights), requires_grad=False)
    parts = torch.split(whole, [weight.numel() for weight in weights])
    return whole, [(weight, _shaped(part, weight)) for weight, part in zip(weights, parts, strict=True)]


def _shaped(part: Tensor, weight: Tensor) -> Tensor:
    is_dense = weight.is_contiguous() or (weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last))
    return part.as_strided(weight.shape, weight.stride()) if is_dense else part.view(weight.shape)


@torch.no_grad()
def _give_all(tensors: Sequence[Tensor]) -> None:
    """Gives all ranks the values of rank 0."""
    for tensor in tensors:
        values = tensor.detach().contiguous()
        dist.broadcast(values, 0)
        tensor.copy_(values)

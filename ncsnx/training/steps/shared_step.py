"""A step of one of several ranks as two CUDA graphs, between which the gradients of all ranks are summed.

The sum isn't captured, so a rank whose graphs fail continues without them while the others replay theirs.
"""

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from ncsnx.capturing import CapturedFunction
from ncsnx.runtime import Runtime
from ncsnx.training.optimizers import is_capturable
from ncsnx.training.steps.batch_gradients import BUCKET_BYTES
from ncsnx.training.steps.summed_gradients import SummedGradients
from ncsnx.training.training_state import TrainingState


def captures_shared_step(state: TrainingState, runtime: Runtime, choice: bool | None) -> bool:
    """Whether several ranks capture their steps. Decided from sizes, never from a timing, as compilation is.

    choice: the user's; None means if the gradients fit one bucket of DistributedDataParallel. That is complete when the
    backward pass ends, so nothing is lost by summing it then, while the sum of more would be hidden by the pass.
    """
    if runtime.ranks == 1 or not runtime.graphs or not is_capturable(state.optimizer):
        return False
    size = sum(weight.numel() * weight.element_size() for weight in state.network.parameters())
    return choice is True or size <= BUCKET_BYTES


class SharedStep:
    """The steps of a rank that shares each batch with others."""

    def __init__(
        self,
        network: nn.Module,
        gradients: Callable[[Tensor, Tensor], Tensor],
        update: Callable[[float | Tensor], None],
        *,
        changes: Callable[[], Iterable[Tensor]],
        report: Callable[[str], None],
    ) -> None:
        """gradients: adds the gradients of (pixels, positions), a rank's share, to those of the weights; returns its
        loss. update: updates the weights by them at a learning rate. changes: the tensors that `update` changes.
        report: called with one line if a graph fails. `process_group` must be open on all ranks."""
        self._sum = SummedGradients(network)
        self._gradients, self._update = gradients, update
        self._backward = CapturedFunction(
            self._own_gradients,
            "the backward pass of a training step",
            changes=lambda: (*self._sum.tensors, *network.buffers()),
            report=report,
        )
        self._updating = CapturedFunction(
            self._updated,
            "the update of a training step",
            changes=lambda: (*self._sum.tensors, *changes()),  # clipping scales gradients in place
            report=report,
        )

    def __call__(self, pixels: Tensor, positions: Tensor, lr: float) -> Tensor:
        """Takes a step; returns this rank's share of the loss."""
        loss = self._backward(pixels, positions)
        self._sum.add_up()
        return self._updating(loss, lr)

    def _own_gradients(self, pixels: Tensor, positions: Tensor) -> Tensor:
        self._sum.reset()
        return self._gradients(pixels, positions)

    def _updated(self, loss: Tensor, lr: float | Tensor) -> Tensor:
        """The update as a function of tensors, which a graph has to be."""
        self._update(lr)
        return loss

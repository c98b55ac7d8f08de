"""The check before compiled training: one gradient of the compiled network against eager execution.

Compilers have silently given wrong gradients (see `ncsnx.networks.resampling` and `layers`), which a training would not
show.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ncsnx.errors import Hint, NcsnxError
from ncsnx.spelling import parameter
from ncsnx.training.loss import add_gradients
from ncsnx.training.training_state import TrainingState

TOLERANCE = {"fp32": 1e-3, "tf32": 2e-2, "bf16": 0.1}
"""Largest ‖compiled − eager‖ / ‖eager‖ that rounding explains.

At width 128 rounding gave 8e-5 in fp32 and 1e-2 in bf16; a wrong gradient was off by 0.3.
"""


def require_equal_gradient(state: TrainingState, loss: Callable[[], Tensor]) -> float:
    """‖compiled − eager‖ / ‖eager‖ for the gradient of `loss()` by all weights. The state stays unchanged.

    Compiles the network for training. Raises NcsnxError if the difference exceeds what rounding explains.
    """
    compiled = _gradient(state, loss)
    with torch.compiler.set_stance("force_eager"):
        eager = _gradient(state, loss)
    difference = float((compiled - eager).norm() / eager.norm())
    if not difference <= TOLERANCE[state.experiment.precision]:
        raise NcsnxError(
            f"the compiled gradient differs from the eager one by {difference:.2g} of its norm, "
            f"which rounding does not explain (torch {torch.__version__})",
            Hint(f"leave out {parameter('compile')}"),
        )
    return difference


def _gradient(state: TrainingState, loss: Callable[[], Tensor]) -> Tensor:
    """The gradient in one vector, in float64 on the CPU."""
    buffers = list(state.network.buffers())
    before = [buffer.clone() for buffer in buffers]
    add_gradients(state.network, loss())
    parts = [p.grad.detach().flatten().cpu().double() for p in state.network.parameters() if p.grad is not None]
    state.take_back(buffers, before)
    return torch.cat(parts)

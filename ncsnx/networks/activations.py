"""The activation functions available to networks."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

import torch.nn.functional as F
from torch import Tensor

ActivationFunction: TypeAlias = Callable[[Tensor], Tensor]

ACTIVATIONS: Mapping[str, ActivationFunction] = {
    "elu": F.elu,
    "relu": F.relu,
    "leaky_relu": partial(F.leaky_relu, negative_slope=0.2),
    "swish": F.silu,
}

"""A stack of tensors that are made when they are read, such as thousands of pictures in files."""

import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import TypeAlias

import attrs
import torch
from torch import Tensor

from ncsnx.data.transforms import real_parts


@attrs.frozen(eq=False)
class LazyStack:
    """`count` tensors of one shape, in place of one tensor (count, …): indexing gives a tensor of the chosen ones."""

    count: int
    make: Callable[[int], Tensor]
    """Returns the tensor at an index, always the same one. Raises NcsnxError."""

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, chosen: slice | Tensor) -> Tensor:
        """The tensors of a slice, or at indices (n,), stacked: at least one."""
        indices = range(*chosen.indices(self.count)) if isinstance(chosen, slice) else chosen.tolist()
        return torch.stack([self.make(index) for index in indices])

    @property
    def shape(self) -> torch.Size:
        """Shape of the whole stack."""
        return torch.Size((self.count, *self.make(0).shape))

    def map(self, function: Callable[[Tensor], Tensor]) -> "LazyStack":
        """The stack of function(tensor), where the function takes and returns a batch of one."""
        return LazyStack(self.count, lambda index: function(self.make(index)[None])[0])

    @cached_property
    def sha256(self) -> str:
        """The sha256 of all values in float64. Makes each tensor once."""
        return _sha256(self)


Stack: TypeAlias = Tensor | LazyStack


def sha256_of_values(stack: Stack) -> str:
    """The sha256 (hexadecimal) of the values of a tensor or stack, in float64 and in order."""
    return stack.sha256 if isinstance(stack, LazyStack) else _sha256(stack)


def _sha256(stack: Stack) -> str:
    hasher = hashlib.sha256()
    for index in range(len(stack)):
        one = stack[index : index + 1].detach().cpu()
        hasher.update(real_parts(one).double().contiguous().numpy().tobytes())
    return hasher.hexdigest()

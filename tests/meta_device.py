"""torch's meta device as a GPU, with a mode that counts what a process waits for.

Tensors of the meta device have no values: a number that is read is 1, and a copy on the CPU has zeros.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU, META = torch.device("cpu"), torch.device("meta")
_WIDE = (torch.float64, torch.complex128)


class Watch(TorchDispatchMode):
    """Counts what a process waits for, and what the device computes in float64, which MPS lacks.

    Raises TypeError for operations on tensors of the device and the CPU, but for numbers, as CUDA does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits, self.wide = Counter[str](), Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        is_there = any(tensor.device == META for tensor in given)
        if name == "_local_scalar_dense" and is_there:
            self.waits["read"] += 1
            return True if given[0].dtype == torch.bool else 1
        if name in ("_to_copy", "copy_"):
            result = self._copied(func, args, kwargs, given)
        elif is_there and any(tensor.device == CPU and tensor.dim() > 0 for tensor in given):
            raise TypeError(f"{name} gets tensors of {[tensor.device.type for tensor in given]}")
        else:
            result = func(*args, **kwargs)
        results = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        self.wide[name] += sum(tensor.device == META and tensor.dtype in _WIDE for tensor in results)
        return result

    def _copied(self, func: Any, args: Any, kwargs: Any, given: list[Tensor]) -> Any:
        source = given[-1]
        target = given[0].device if len(given) > 1 else kwargs.get("device") or source.device
        is_waited_for = not (kwargs.get("non_blocking") or (len(given) > 1 and args[2:] == (True,)))
        if source.device != target and is_waited_for:
            self.waits["to the device" if target == META else "to the CPU"] += 1
        if source.device == META and target == CPU:
            return torch.zeros(source.shape, dtype=kwargs.get("dtype") or source.dtype)
        return func(*args, **kwargs)

"""Kernels that are rounded to bfloat16 once for all evaluations, not at each one."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ncsnx.networks.convolution import Convolution


class RoundedConvolution(Convolution):
    """A convolution that keeps its kernel in autocast's type between evaluations without gradients.

    Autocast itself forgets its casts at the end of each evaluation. Only frozen kernels are kept, which no optimizer
    changes: fused ones leave no mark. The kept kernel is renewed when the parameter was loaded or moved; writes through
    `.data` aren't noticed. A captured CUDA graph casts at each replay, since it can't notice new values.
    """

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        if torch.is_grad_enabled() or self.weight.requires_grad or torch.compiler.is_compiling():
            return super().forward(x)
        if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
            return super().forward(x)
        if x.is_cuda and torch.cuda.is_current_stream_capturing():
            return super().forward(x)
        kernel = self._rounded(torch.get_autocast_dtype(device))
        return F.conv2d(x, kernel, self.bias, padding=self.padding, dilation=self.dilation)

    def _rounded(self, dtype: torch.dtype) -> Tensor:
        kernel = self.kernel()
        if kernel.is_inference():  # it doesn't count its changes
            return kernel
        mark = (kernel._version, kernel.data_ptr(), kernel.stride(), dtype)
        kept: tuple[object, Tensor, Tensor] | None = self.__dict__.get("_kept")
        if kept is None or kept[0] != mark:
            # The alias keeps the memory from being used again, so that equal addresses mean the same kernel.
            kept = self.__dict__["_kept"] = (mark, kernel.detach().to(dtype), kernel.detach())
        return kept[1]

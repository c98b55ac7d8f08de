"""Pools folded into their convolutions."""

import torch.nn.functional as F
from torch import Tensor

from ncsnx.networks.convolution import PooledConvolution


class FoldedPooledConvolution(PooledConvolution):
    """The pool folded into the convolution: 3×3 and 2×2 mean become one 4×4 convolution of stride 2.

    Its kernel is computed from the 3×3 kernel at every forward pass, so that gradients reach it. A 1×1 convolution
    commutes with the pool, so it is applied after it, to fewer pixels.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.size == 1:
            out: Tensor = self.conv(F.avg_pool2d(x, 2))
            return out
        # The mean of the kernel at four places is its 2×2 mean pool of stride 1.
        folded = F.avg_pool2d(F.pad(self.conv.kernel(), (1, 1, 1, 1)), 2, stride=1)
        return F.conv2d(x, folded, self.conv.bias, stride=2, padding=self.conv.padding)

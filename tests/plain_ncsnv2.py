"""NCSNv2, NCSNv2Deeper and NCSNv2Deepest in plain torch, from tensors with their published names.

Written from the papers alone (Song & Ermon 2020, arXiv 2006.09011, and RefineNet, arXiv 1611.06612), sharing no code
with ncsnx, to check its networks at sizes for which there are no published numbers. Only InstanceNorm++ and ELU.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]

STAGES = {
    "NCSNv2": {"res1": None, "res2": "pool", "res3": 2, "res4": 4},
    "NCSNv2Deeper": {"res1": None, "res2": "pool", "res3": "pool", "res4": 2, "res5": 4},
    "NCSNv2Deepest": {"res1": None, "res2": "pool", "res3": "pool", "res31": "pool", "res4": 2, "res5": 4},
}
"""Name of a stage on the way down → how it begins: as it is, with a pool, or with a dilation."""
REFINE = {
    "NCSNv2": ("refine1", "refine2", "refine3", "refine4"),
    "NCSNv2Deeper": ("refine1", "refine2", "refine3", "refine4", "refine5"),
    "NCSNv2Deepest": ("refine1", "refine2", "refine31", "refine3", "refine4", "refine5"),
}
"""Names of the refine blocks, from the deepest stage up."""


def plain_score(network: str, weights: Weights, x: Tensor, sigma: Tensor) -> Tensor:
    """s(x, σ) of images (B, C, H, W) in [0, 1]. sigma: (B,)."""
    h = _convolved(weights, "begin_conv", 2 * x - 1)
    found = []
    for name, kind in STAGES[network].items():
        h = _residual_block(weights, f"{name}.0", h, kind, begins=True)
        h = _residual_block(weights, f"{name}.1", h, kind, begins=False)
        found.append(h)
    deeper: list[Tensor] = []
    for number, name in enumerate(REFINE[network]):
        is_last = number == len(REFINE[network]) - 1
        deeper = [_refined(weights, name, [found.pop(), *deeper], output_blocks=3 if is_last else 1)]
    h = F.elu(_normalized(weights, "normalizer", deeper[0]))
    return _convolved(weights, "end_conv", h) / sigma.view(-1, 1, 1, 1)


def _convolved(weights: Weights, name: str, x: Tensor, dilation: int = 1) -> Tensor:
    kernel = weights[f"{name}.weight"]
    padding = dilation * (kernel.shape[-1] // 2)
    return F.conv2d(x, kernel, weights.get(f"{name}.bias"), padding=padding, dilation=dilation)


def _normalized(weights: Weights, name: str, x: Tensor) -> Tensor:
    """InstanceNorm++."""
    means = x.mean(dim=(2, 3))
    spread = means.var(dim=1, keepdim=True, unbiased=True)
    shift = (means - means.mean(dim=1, keepdim=True)) / torch.sqrt(spread + 1e-5)
    variance = x.var(dim=(2, 3), keepdim=True, unbiased=False)
    h = (x - means[:, :, None, None]) / torch.sqrt(variance + 1e-5)
    gamma, alpha, beta = (weights[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("gamma", "alpha", "beta"))
    return gamma * (h + alpha * shift[:, :, None, None]) + beta


def _residual_block(weights: Weights, name: str, x: Tensor, kind: str | int | None, *, begins: bool) -> Tensor:
    dilation = kind if isinstance(kind, int) else 1
    h = _convolved(weights, f"{name}.conv1", F.elu(_normalized(weights, f"{name}.normalize1", x)), dilation)
    h = F.elu(_normalized(weights, f"{name}.normalize2", h))
    if begins and kind == "pool":
        halved = F.avg_pool2d(_convolved(weights, f"{name}.conv2.conv", h), 2)
        return halved + F.avg_pool2d(_convolved(weights, f"{name}.shortcut.conv", x), 2)
    shortcut = _convolved(weights, f"{name}.shortcut", x, dilation) if begins and dilation > 1 else x
    return _convolved(weights, f"{name}.conv2", h, dilation) + shortcut


def _rcu(weights: Weights, name: str, x: Tensor, blocks: int) -> Tensor:
    """Residual convolution units of two convolutions each."""
    for block in range(1, blocks + 1):
        h = x
        for stage in (1, 2):
            h = _convolved(weights, f"{name}.{block}_{stage}_conv", F.elu(h))
        x = x + h
    return x


def _refined(weights: Weights, name: str, inputs: list[Tensor], output_blocks: int) -> Tensor:
    adapted = [_rcu(weights, f"{name}.adapt_convs.{number}", h, blocks=2) for number, h in enumerate(inputs)]
    h = adapted[0]
    if len(adapted) > 1:
        size = inputs[0].shape[2:]
        fused = [_convolved(weights, f"{name}.msf.convs.{number}", part) for number, part in enumerate(adapted)]
        resized = [F.interpolate(part, size=size, mode="bilinear", align_corners=True) for part in fused]
        h = torch.stack(resized).sum(dim=0)
    h = path = F.elu(h)
    for number in range(2):
        path = _convolved(weights, f"{name}.crp.convs.{number}", F.max_pool2d(path, 5, stride=1, padding=2))
        h = h + path
    return _rcu(weights, f"{name}.output_convs", h, output_blocks)

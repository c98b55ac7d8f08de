"""TensorFloat-32, the format in which tensor cores of NVIDIA GPUs multiply float32 tensors.

A factor keeps the 8 bits of exponent of float32 and 10 of its 23 bits of mantissa; sums are in float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def tf32_products() -> Iterator[None]:
    """Convolutions and matrix products on CUDA use TF32 within the block; the earlier settings return after it.

    The settings belong to the process, and autograd's threads read them too: a backward pass needs the block as well.
    """
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    products = torch.backends.cuda.matmul
    before = convolutions.fp32_precision, products.fp32_precision
    allow_tf32(convolutions=True, products=True)
    try:
        yield
    finally:
        allow_tf32(convolutions=before[0] == "tf32", products=before[1] == "tf32")
        convolutions.fp32_precision, products.fp32_precision = before


def allow_tf32(*, convolutions: bool, products: bool) -> None:
    """Whether convolutions and matrix products on CUDA use TF32.

    These properties set `fp32_precision` too. After that is set by itself, reading them raises, and TorchInductor reads
    them: compilation can fail (pytorch #166387, #179445). torch 2.10 warns once that they are the older names.
    """
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.backends.cuda.matmul.allow_tf32 = products

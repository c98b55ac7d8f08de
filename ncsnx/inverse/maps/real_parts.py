"""Complex values as real ones."""

import torch
from torch import Tensor

from ncsnx.quantities import counted


def real_parts(x: Tensor) -> Tensor:
    """x itself, or of complex values their real and imaginary parts in a further, last axis."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def without_numbers(x: Tensor) -> str | None:
    """The values that are NaN or infinite in float32, as text: '3 NaN or infinite values'; None if there are none."""
    found = int((~torch.isfinite(x.to(torch.complex64 if x.is_complex() else torch.float32))).sum())
    return counted(found, "NaN or infinite value") if found else None

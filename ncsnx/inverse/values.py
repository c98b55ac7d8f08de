"""Numbers of a task that can be used, and their hash."""

import hashlib

import torch
from torch import Tensor

from ncsnx.data.transforms import real_parts
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted, them


def require_finite(x: Tensor, what: str) -> None:
    """Raises NcsnxError for values that are NaN, infinite or too large for float32. what: the values, in words."""
    count = int((~torch.isfinite(x.to(torch.complex64 if x.is_complex() else torch.float32))).sum())
    if count:
        raise NcsnxError(f"{what}: found {counted(count, 'NaN, infinite or too large value')}; replace {them(count)}")


def sha256_of_values(x: Tensor) -> str:
    """The sha256 (hexadecimal) of all values in float64 and in order."""
    return hashlib.sha256(real_parts(x.detach().cpu()).double().contiguous().numpy().tobytes()).hexdigest()

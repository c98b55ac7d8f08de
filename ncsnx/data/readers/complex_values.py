"""Complex images as real ones: complex channel k is the channels 2k (real part) and 2k + 1 (imaginary part)."""

import torch
from torch import Tensor

from ncsnx.config.data_sets import Data
from ncsnx.errors import Hint, NcsnxError


def as_channels(values: Tensor) -> Tensor:
    """(N, C, H, W) complex → (N, 2C, H, W) real, each real part before its imaginary part; real ones unchanged."""
    if not values.is_complex():
        return values
    return torch.view_as_real(values).movedim(-1, 2).flatten(1, 2)


def real_parts(values: Tensor) -> Tensor:
    """Values as they are, or of complex ones the real and imaginary parts in a further, last axis."""
    return torch.view_as_real(values.resolve_conj()) if values.is_complex() else values


def require_declared(title: str, data: Data, *, is_complex: bool, type_name: str, channels: int) -> None:
    """Raises NcsnxError unless the data set is declared complex where its values are, and only there.

    title: the values, for messages. type_name: their type. channels: of the images as they are read.
    """
    if is_complex == data.is_complex:
        return
    held, declared = ("complex", "real") if is_complex else ("real", "complex")
    declared_as = "data.complex=true data.range=unbounded" if is_complex else "data.complex=false"
    raise NcsnxError(
        f"{title}: the type of the values is {held} ({type_name}), but the data set is declared {declared}",
        Hint("declare it", adds=f"{declared_as} data.channels={channels}"),
    )

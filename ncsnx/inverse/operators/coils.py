"""Magnetic resonance with several receiver coils: sampled frequencies of the image times each coil's sensitivity.

    y_c = M F (S_c x),    F: the unitary Fourier transform, M: the mask of the sampled frequencies

as in SENSE (Pruessmann et al. 1999, Magn. Reson. Med. 42, 952–962). Frequencies are in the order of `torch.fft.fft2`,
(0, 0) first.
"""

import math
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Self

import attrs
import torch
from torch import Tensor

from ncsnx.errors import Hint, NcsnxError
from ncsnx.inverse.operators.linear_operator import PlacedTensor
from ncsnx.inverse.operators.measurement_map import LinearMap, require_scale
from ncsnx.randomness import Purpose, Stream
from ncsnx.spelling import argument


@attrs.frozen(eq=False)
class Sense(LinearMap):
    """Multi-coil Cartesian sampling of images with two channels (real, imaginary), or one (real).

    `normal` takes one coil after the other, so that its memory is a few times that of the images. Raises NcsnxError for
    maps or masks of other shapes, and for those of a picture of which nothing is measured.
    """

    maps: Tensor = attrs.field(converter=torch.as_tensor)
    """Sensitivity of the coils, (coils, H, W) complex; (P, coils, H, W) if each picture has its own."""
    mask: Tensor = attrs.field(converter=torch.as_tensor)
    """1 or True where a frequency was measured, (H, W); (P, H, W) if each picture has its own."""
    channels: int = attrs.field(default=2, kw_only=True)
    """2 for complex images, 1 for real ones."""

    def __attrs_post_init__(self) -> None:
        maps, mask, size = self.maps, self.mask, tuple(self.maps.shape[-2:])
        fits = maps.dim() in (3, 4) and mask.dim() in (2, 3) and tuple(mask.shape[-2:]) == size
        counts = {len(part) for part, axes in ((maps, 4), (mask, 3)) if part.dim() == axes} - {1}
        if not fits or not maps.is_complex() or len(counts) > 1:
            raise NcsnxError(
                "expected complex coil maps (coils, H, W) or (P, coils, H, W), and a mask (H, W) or (P, H, W); found "
                f"{maps.dtype} {tuple(maps.shape)} and {tuple(mask.shape)}"
            )
        if not bool(torch.isfinite(torch.view_as_real(maps.resolve_conj())).all()):
            raise NcsnxError("coil maps contain NaN or infinity")
        require_scale(maps if maps.dim() == 4 else maps[None], "coil maps")
        if not bool(((mask == 0) | (mask == 1)).all() and (mask == 1).flatten(-2).any(dim=-1).all()):
            raise NcsnxError("expected a mask of zeros and ones, with a 1 where a frequency was measured")
        if self.channels not in (1, 2):
            raise NcsnxError(f"coils measure images of 1 or 2 channels, not {self.channels}")

    @cached_property
    def _maps(self) -> PlacedTensor:
        return PlacedTensor(self.maps if self.maps.dim() == 4 else self.maps[None])

    @cached_property
    def _mask(self) -> PlacedTensor:
        return PlacedTensor((self.mask if self.mask.dim() == 3 else self.mask[None]).double())

    @property
    def shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """(C, H, W) of the images."""
        height, width = self.maps.shape[-2:]
        return self.channels, height, width

    @property
    def coils(self) -> int:
        """Number of coils."""
        return self.maps.shape[-3]

    @property
    def measured_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(coils, H, W)."""
        return tuple(self.maps.shape[-3:])

    @property
    def pictures(self) -> int | None:
        """Number of pictures with maps or masks of their own."""
        count = max(len(self._maps.tensor), len(self._mask.tensor))
        return None if count == 1 else count

    def of(self, pictures: Tensor) -> Self:
        """The maps and masks of these pictures."""
        if self.pictures is None:
            return self
        places, parts = pictures.cpu(), (self._maps.tensor, self._mask.tensor)
        maps, mask = (part[places] if len(part) > 1 else part for part in parts)
        return attrs.evolve(self, maps=maps, mask=mask)

    def apply(self, x: Tensor) -> Tensor:
        """Frequencies, 0 where they aren't measured: (B, C, H, W) → (B, coils, H, W) complex."""
        return torch.stack(list(self._frequencies(x)), dim=1)

    def adjoint(self, y: Tensor) -> Tensor:
        """Σ_c S̄_c F⁻¹ M y_c, (B, coils, H, W) complex → (B, C, H, W)."""
        return self._combined(y.unbind(1), y)

    def normal(self, x: Tensor) -> Tensor:
        """Aᴴ A x, one coil after the other."""
        return self._combined(self._frequencies(x), x)

    def _frequencies(self, x: Tensor) -> Iterator[Tensor]:
        """Measured frequencies of images (B, C, H, W), (B, H, W) of one coil after the other."""
        real, imaginary = x[:, 0], x[:, 1] if self.channels == 2 else torch.zeros_like(x[:, 0])
        image, mask = torch.complex(real, imaginary), self._mask.like(x)
        for coil in self._maps.like(x).unbind(1):
            yield mask * torch.fft.fft2(coil * image, norm="ortho")

    def _combined(self, frequencies: Iterable[Tensor], like: Tensor) -> Tensor:
        """Images (B, C, H, W) of the frequencies of each coil, in the precision of `like`."""
        mask = self._mask.like(like)
        coils = zip(self._maps.like(like).unbind(1), frequencies, strict=True)
        parts = (coil.conj() * torch.fft.ifft2(mask * y, norm="ortho") for coil, y in coils)
        image = sum(parts, torch.zeros(()))
        return torch.stack((image.real, image.imag)[: self.channels], dim=1)

    @cached_property
    def norm(self) -> float:
        """An upper bound of ‖A‖, reached if all frequencies are measured: the largest √(Σ_c |S_c|²) of a pixel."""
        return float(root_sum_of_squares(self._maps.tensor).max())


def root_sum_of_squares(coils: Tensor) -> Tensor:
    """√(Σ_c |x_c|²): (…, coils, H, W) → (…, H, W)."""
    total: Tensor = coils.abs().square().sum(dim=-3).sqrt()
    return total


def simulated_maps(size: tuple[int, int], coils: int, seed: int = 0) -> Tensor:
    """Smooth coil maps, (coils, H, W) complex64 with Σ_c |S_c|² = 1 at each pixel.

    The coils stand around the image at equal angles, with seeded shifts. Sensitivity falls as the field of a small
    source, 1/(d² + d_0²)^(3/4) at the distance d, and the phase turns by a seeded amount across the image.
    """
    if coils < 1:
        raise NcsnxError(f"expected at least 1 coil, found {coils}")
    height, width = size
    down, across = torch.linspace(-1, 1, height).view(-1, 1), torch.linspace(-1, 1, width)
    draws = Stream(seed, Purpose.SIMULATED_COILS).normal(torch.arange(coils), (4,), step=0)
    maps = []
    for number, (shift, lean, turn, slope) in enumerate(draws.tolist()):
        angle = 2 * math.pi * (number + 0.2 * math.tanh(shift)) / coils
        x, y = 1.2 * math.cos(angle), 1.2 * math.sin(angle)
        distance = (across - x) ** 2 + (down - y) ** 2
        phase = math.pi * turn + slope * across + lean * down
        maps.append(torch.polar((distance + 0.3) ** -0.75, phase.expand(height, width)))
    whole = torch.stack(maps)
    return whole / root_sum_of_squares(whole)


def estimated_maps(kspace: Tensor, mask: Tensor) -> Tensor:
    """Coil maps from the fully sampled center of measured frequencies, (…, coils, H, W) complex, Σ_c |S_c|² = 1.

    The low-resolution image of each coil over the root sum of squares of all (McKenzie et al. 2002, Magn. Reson. Med.
    47, 529–538). The center is the largest block around frequency 0 that is measured, seen through a Hann window
    against ringing. Where there is no signal, the maps are noise. kspace: (…, coils, H, W), in the order of
    `torch.fft.fft2`; mask: (H, W). Raises NcsnxError if the block has fewer than 4 frequencies in a direction.
    """
    measured = torch.fft.fftshift(mask.bool(), dim=(-2, -1))
    height, width = measured.shape
    reach = _center(measured)
    if min(reach) < 2:
        raise NcsnxError(
            f"coil maps are estimated from fully sampled frequencies around 0, at least 4×4, found "
            f"{2 * reach[0]}×{2 * reach[1]}",
            Hint("give the maps", adds=argument("maps", "FILE")),
        )
    window = _hann(height, reach[0])[:, None] * _hann(width, reach[1])
    low: Tensor = torch.fft.ifft2(kspace * torch.fft.ifftshift(window, dim=(-2, -1)), norm="ortho")
    total = root_sum_of_squares(low)
    maps: Tensor = low / total.clamp_min(1e-6 * float(total.max())).unsqueeze(-3)
    return maps


def _center(measured: Tensor) -> tuple[int, int]:
    """Half the height and width of the largest measured block around the center; mask (H, W) after fftshift."""
    middle = measured.shape[0] // 2, measured.shape[1] // 2
    most, best = 0, (0, 0)
    across = middle[1]
    for down in range(1, middle[0] + 1):
        rows = measured[middle[0] - down : middle[0] + down]
        while across > 0 and not bool(rows[:, middle[1] - across : middle[1] + across].all()):
            across -= 1
        if down * across > most:
            most, best = down * across, (down, across)
    return best


def _hann(size: int, reach: int) -> Tensor:
    """A Hann window over the frequencies up to `reach` of the middle, (size,)."""
    away = (torch.arange(size) - size // 2).double()
    return torch.where(away.abs() < reach, 0.5 + 0.5 * torch.cos(math.pi * away / reach), 0.0)

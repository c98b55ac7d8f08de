"""Slices of the brain template that nilearn ships, as complex images of 48×40 pixels.

    python docs/images/brain.py     # pip install nilearn

writes ./given/brain/slices.npy, which `docs/images/brain48x40.py` trains on. The template (MNI152 2009, T1, of 1 mm) is
an average of 152 brains, so that it is smoother than a scan. A pixel is the mean of 4×4 mm of an axial slice of 1 mm.
Neighbouring slices are nearly copies: the middle 20 are held out as a block, and 4 on either side of it are left out.
Each slice comes with eight seeded phases that vary slowly, one after the other.
"""

from pathlib import Path

import numpy as np
from nilearn.datasets import load_mni152_template
from numpy.typing import NDArray

SLICES = Path("given", "brain", "slices.npy")
FIRST, LAST, SPACING = 10, 150, 4
"""Axial slices with a brain in them, and the pixel's side, in mm."""
HELD_OUT, GAP, PHASES, SEED = 20, 4, 8, 0
MIDDLE = (FIRST + LAST) // 2


def main() -> None:
    """Writes the slices, (N, 48, 40) complex64 with magnitudes from 0 to 1, in the order of their height."""
    volume = load_mni152_template(resolution=1).get_fdata()
    inside = np.argwhere(volume[..., FIRST:LAST] > 0.05 * volume.max())
    left, back = (inside.min(axis=0) + inside.max(axis=0))[:2] // 2 - np.array([20, 24]) * SPACING
    plane = volume[left : left + 40 * SPACING, back : back + 48 * SPACING]
    across = plane.reshape(40, SPACING, 48, SPACING, -1).mean(axis=(1, 3))
    magnitudes = np.flip(across.transpose(2, 1, 0), axis=1)[kept()]  # seen from above, the front up
    magnitudes = magnitudes / magnitudes.max()
    phases = slow_phases(len(magnitudes), *magnitudes.shape[1:])
    SLICES.parent.mkdir(parents=True, exist_ok=True)
    slices = magnitudes[:, None] * np.exp(1j * phases)
    np.save(SLICES, slices.reshape(-1, *magnitudes.shape[1:]).astype(np.complex64))
    print(f"{SLICES}: {len(magnitudes)} slices with {PHASES} phases each")


def kept() -> list[int]:
    """The slices without those beside the block that is held out."""
    half = HELD_OUT // 2
    beside = {*range(MIDDLE - half - GAP, MIDDLE - half), *range(MIDDLE + half, MIDDLE + half + GAP)}
    return [height for height in range(FIRST, LAST) if height not in beside]


def slow_phases(slices: int, height: int, width: int) -> NDArray[np.float64]:
    """(slices, PHASES, H, W) in radians: a constant from the whole circle plus a polynomial of second degree."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x**2 - y**2, 2 * x * y])
    most = np.array([np.pi, 1.2, 1.2, 1.2, 1.2])
    factors = np.random.default_rng(SEED).uniform(-most, most, size=(slices, PHASES, len(most)))
    return np.tensordot(factors, terms, axes=1)


if __name__ == "__main__":
    main()

"""Noise estimated from a single picture: the level of white noise, and gain and read noise of shot noise.

Everywhere the noise is what small patches vary by in the directions in which the picture itself varies least: the
smallest eigenvalues of their covariance (σ² in every direction for white noise). References: Liu, Tanaka and Okutomi
2013 (IEEE Trans. Image Process. 22, 5226–5237), Chen, Zhu and Heng 2015 (ICCV, 477–485), Foi, Trimeche, Katkovnik and
Egiazarian 2008 (IEEE Trans. Image Process. 17, 1737–1754). On JPEGs, whose encoder removes just these directions,
Donoho and Johnstone's 1994 median of the finest wavelet coefficients (Biometrika 81, 425–455).
"""

import functools
import math
from typing import TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma

Array: TypeAlias = NDArray[np.float64]

_MOST_PATCHES = 2**16
"""Patches that are looked at, in larger pictures a random subset: 100 MB for colors."""
_WEAK_SIZES, _COLOR_SIZES = (7, 5, 3), (8, 6, 4, 3)
"""Heights and widths of patches in pixels, for weak texture and for principal components. Small pictures have too few
large patches."""
_CONFIDENCE = 1 - 1e-6
"""Probability that the texture strength of a patch of noise alone is below the threshold (Liu et al., section III)."""
_JPEG_FACTOR = 1.15
"""What the median is raised by, fitted on JPEGs of quality 75 to 90: their encoder removes noise."""
_DB2 = np.array([-0.48296291314453416, 0.8365163037378079, -0.2241438680420134, -0.12940952255126037])
"""High-pass filter of Daubechies' wavelet with two vanishing moments."""


def estimated_noise(picture: Array) -> float:
    """Standard deviation of white noise, in the picture's values; 0 where nothing can be said.

    The larger one of weak texture, the root mean square of the channels, and for colors of principal components, which
    textures of less than all channels do not disturb. Clipping makes noise smaller, and the estimate with it. picture:
    (C, H, W), black 0 and white 1, or unbounded.
    """
    channels = [_weak_texture(channel[None]) for channel in picture]
    variance = float(np.mean(channels))
    if len(picture) > 1:
        variance = max(variance, _principal_components(picture))
    return math.sqrt(variance)


def _weak_texture(channel: Array) -> float:
    """Variance of the noise by Liu et al. 2013, algorithm 1: (1, H, W).

    The smallest eigenvalue, from the patches whose gradients the noise of the last round can explain.
    """
    patches = _patches(channel, _WEAK_SIZES, per_dimension=16)
    texture, threshold = _texture_strength(round(math.sqrt(patches.shape[1])))
    strengths = np.einsum("ni,ni->n", patches @ texture, patches)
    variance, weak = _smallest(patches), patches
    for _ in range(8):
        weak = patches[strengths < variance * threshold]
        if len(weak) < 4 * patches.shape[1]:
            break
        before, variance = variance, _smallest(weak)
        if abs(variance - before) <= 1e-4 * before:
            break
    return variance


@functools.cache
def _texture_strength(size: int) -> tuple[Array, float]:
    """The quadratic form (size², size²) that sums the squared gradients of a patch, and its threshold for σ = 1.

    Of white noise the form has about a gamma distribution (Liu et al., equation 13), here of its exact mean and
    variance.
    """
    gradient = (np.eye(size)[2:] - np.eye(size)[:-2]) / 2
    squared = gradient.T @ gradient
    form = np.kron(np.eye(size), squared) + np.kron(squared, np.eye(size))
    mean, variance = float(np.trace(form)), 2 * float(np.trace(form @ form))
    return form, float(gamma.ppf(_CONFIDENCE, mean**2 / variance, scale=variance / mean))


def _smallest(patches: Array) -> float:
    """Smallest eigenvalue of the covariance of patches (N, D), above 0.

    Of N patches of white noise it is σ² (1 − √(D/N))² (Marchenko and Pastur 1967), overlapping ones included, as
    simulations say.
    """
    count, dimensions = patches.shape
    if count < 2 * dimensions:
        return 0.0
    return float(max(_eigenvalues(patches)[0], 0.0)) / (1 - math.sqrt(dimensions / count)) ** 2


def _principal_components(picture: Array) -> float:
    """Variance of the noise by Chen et al. 2015, algorithm 1: the mean of as many eigenvalues as have it as median."""
    patches = _patches(picture, _COLOR_SIZES, per_dimension=50)
    if len(patches) < 4 * patches.shape[1]:
        return 0.0
    eigenvalues = np.maximum(_eigenvalues(patches), 0.0)
    for count in range(len(eigenvalues), 0, -1):
        mean = float(eigenvalues[:count].mean())
        if mean <= float(np.median(eigenvalues[:count])):
            return mean
    return 0.0


def _eigenvalues(patches: Array) -> Array:
    """Eigenvalues of the covariance of patches (N, D), ascending."""
    centered = patches - patches.mean(axis=0)
    eigenvalues: Array = np.linalg.eigvalsh(centered.T @ centered / len(patches))
    return eigenvalues


def _patches(picture: Array, sizes: tuple[int, ...], per_dimension: int) -> Array:
    """Patches (N, D) of a picture (C, H, W), of the largest size of which there are N ≥ per_dimension · D.

    Without patches that are clipped by more than a half, of which there is nothing to learn, unless few others remain.
    """
    channels, height, width = picture.shape
    counts = {size: max(height - size + 1, 0) * max(width - size + 1, 0) for size in sizes}
    size = next((size for size in sizes if counts[size] >= per_dimension * channels * size**2), sizes[-1])
    if not counts[size]:
        return np.zeros((0, channels * size**2))
    windows = np.lib.stride_tricks.sliding_window_view(picture, (size, size), axis=(1, 2))
    places = np.arange(counts[size])
    if len(places) > _MOST_PATCHES:
        places = np.random.default_rng(0).integers(len(places), size=_MOST_PATCHES)
    rows, columns = np.divmod(places, width - size + 1)
    patches = windows[:, rows, columns].swapaxes(0, 1).reshape(len(places), -1)
    low, high = min(picture.min(), 0.0), max(picture.max(), 1.0)
    kept = ((patches <= low) | (patches >= high)).mean(axis=1) <= 0.5
    return patches[kept] if kept.sum() >= 4 * patches.shape[1] else patches


def estimated_noise_of_jpeg(picture: Array) -> float:
    """Standard deviation of the noise that a JPEG was made with, in the picture's values; 0 where nothing can be said.

    Of the luma, since chroma is smoothed; without what the quantization tables imply. picture: the decoded (C, H, W),
    black 0 and white 1.
    """
    luma = np.tensordot([0.299, 0.587, 0.114], picture, axes=1) if len(picture) == 3 else picture.mean(axis=0)
    return _JPEG_FACTOR * _median_of_wavelets(luma)


def _median_of_wavelets(channel: Array) -> float:
    """Standard deviation of white noise by the median of the finest diagonal coefficients of db2, (H, W).

    The coefficients that are exactly 0 do not count: they come from parts without noise.
    """
    details = _finest(_finest(channel).T)
    magnitudes = np.abs(details[details != 0])
    return float(np.median(magnitudes)) / 0.6744897501960817 if magnitudes.size else 0.0


def _finest(channel: Array) -> Array:
    """The finest detail coefficients of each column, (H, W) → (⌊(H + 3)/2⌋, W), mirrored at the borders."""
    padded = np.pad(channel, ((3, 3), (0, 0)), mode="symmetric")
    filtered = sum(weight * padded[3 - i : len(padded) - i] for i, weight in enumerate(_DB2))
    return np.asarray(filtered)[1::2]

"""Noise estimated from a single picture: the level of white noise, and gain and read noise of shot noise.

White noise has the variance σ² in every direction of the space of small patches, while clean pictures hardly vary in
most of them. So the smallest eigenvalues of the patches' covariance estimate σ²: Liu, Tanaka and Okutomi 2013 (IEEE
Trans. Image Process. 22, 5226–5237); Chen, Zhu and Heng 2015 (ICCV, 477–485). For shot noise, patches are grouped by
brightness: Foi, Trimeche, Katkovnik and Egiazarian 2008 (IEEE Trans. Image Process. 17, 1737–1754). JPEG encoders set
just these directions to zero, so JPEGs need the median of wavelet coefficients: Donoho and Johnstone 1994 (Biometrika
81, 425–455).
"""

import functools
import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma

from ncsnx.shot_noise import ShotNoise

Array: TypeAlias = NDArray[np.float64]

_MOST_PATCHES = 2**16
"""Largest number of patches, a random subset in larger pictures: 100 MB of memory for colors."""
_WEAK_SIZES, _COLOR_SIZES = (7, 5, 3), (8, 6, 4, 3)
"""Heights and widths of patches in pixels, for weak texture and for principal components. Small pictures have too few
patches of the larger sizes."""
_CONFIDENCE = 1 - 1e-6
"""Probability that the texture strength of a patch of pure noise is below the threshold (Liu et al. 2013)."""
_JPEG_FACTOR = 1.15
"""Correction for the noise that JPEG encoders remove, fitted on twelve photographs of quality 75 and 90."""
_WHITE = 0.98
"""Least value of what is called white: 250 of 255."""
_FEWEST_LEVELS = 4
_GROWTH, _CONCORDANCE, _MISFIT, _WHITENESS = 1.5, 0.7, 0.1, 0.5
"""Criteria of shot noise: least ratio of the fitted variances of the brightest and the darkest level, least Kendall's τ
of brightness and variance, largest median relative distance from the fit, and least whiteness (see `_levels`). Of 312
pictures with white noise or none, 2 met all; of 104 with shot noise, 86 did."""
_LUMA = np.array([0.299, 0.587, 0.114])
_DB2 = np.array([-0.48296291314453416, 0.8365163037378079, -0.2241438680420134, -0.12940952255126037])
"""High-pass filter of Daubechies' wavelet with two vanishing moments."""


def estimated_noise(picture: Array) -> float:
    """Standard deviation of white noise, in the picture's values; 0 where nothing can be said.

    The estimate from weak texture (root mean square over channels) or, for colors, the one from principal components
    if it is larger. Clipping at black or white reduces the noise, and thus the estimate. picture: (C, H, W), black 0
    and white 1, or unbounded.
    """
    channels = [_weak_texture(channel[None]) for channel in picture]
    variance = float(np.mean(channels))
    if len(picture) > 1:
        variance = max(variance, _principal_components(picture))
    return math.sqrt(variance)


def _weak_texture(channel: Array) -> float:
    """Variance of the noise by Liu et al. 2013, algorithm 1: (1, H, W)."""
    return float(_weak_eigenvalues(_patches(channel, _WEAK_SIZES, per_dimension=16))[0])


def _weak_eigenvalues(patches: Array) -> Array:
    """Eigenvalues of the covariance of patches (N, D) of weak texture without their means, (D − 1,), ascending.

    Weak texture: gradients no larger than noise whose variance is the smallest eigenvalue explains, found by iteration.
    For N patches of white noise the smallest eigenvalue is about σ² (1 − √(D/N))² (Marchenko and Pastur 1967; in
    simulations of overlapping patches too), so all are divided by that factor. N counts all patches: the factor of the
    weak ones alone overestimated the noise of textured pictures. Zeros for too few patches.
    """
    count, dimensions = patches.shape
    if count < 2 * dimensions:
        return np.zeros(dimensions - 1)
    patches = patches - patches.mean(axis=1, keepdims=True)
    form, threshold = _texture_strength(round(math.sqrt(dimensions)))
    strengths = np.einsum("ni,ni->n", patches @ form, patches)
    factor = (1 - math.sqrt(dimensions / count)) ** 2
    eigenvalues = _eigenvalues(patches)[1:] / factor  # the first belongs to the mean
    for _ in range(8):
        weak = patches[strengths < eigenvalues[0] * threshold]
        if len(weak) < 8 * dimensions:
            break
        before, eigenvalues = eigenvalues[0], _eigenvalues(weak)[1:] / factor
        if abs(eigenvalues[0] - before) <= 1e-4 * before:
            break
    return eigenvalues


@functools.cache
def _texture_strength(size: int) -> tuple[Array, float]:
    """The quadratic form (size², size²) that sums the squared gradients of a patch, and its threshold for σ = 1.

    For white noise the sum has approximately a gamma distribution (Liu et al. 2013), here with the exact mean and
    variance.
    """
    gradient = (np.eye(size)[2:] - np.eye(size)[:-2]) / 2
    squared = gradient.T @ gradient
    form = np.kron(np.eye(size), squared) + np.kron(squared, np.eye(size))
    mean, variance = float(np.trace(form)), 2 * float(np.trace(form @ form))
    return form, float(gamma.ppf(_CONFIDENCE, mean**2 / variance, scale=variance / mean))


def _principal_components(picture: Array) -> float:
    """Variance of the noise by Chen et al. 2015, algorithm 1.

    The mean of the smallest eigenvalues, of as many as have a median that is no smaller than their mean: larger ones
    belong to the picture.
    """
    patches = _patches(picture, _COLOR_SIZES, per_dimension=50)
    if len(patches) < 4 * patches.shape[1]:
        return 0.0
    eigenvalues = _eigenvalues(patches)
    for count in range(len(eigenvalues), 0, -1):
        mean = float(eigenvalues[:count].mean())
        if mean <= float(np.median(eigenvalues[:count])):
            return mean
    return 0.0


def _eigenvalues(patches: Array) -> Array:
    """Eigenvalues of the covariance of patches (N, D), ascending, at least 0."""
    centered = patches - patches.mean(axis=0)
    return np.maximum(np.linalg.eigvalsh(centered.T @ centered / len(patches)), 0.0)


def _patches(picture: Array, sizes: tuple[int, ...], per_dimension: int) -> Array:
    """Patches (N, D) of a picture (C, H, W), of the largest size for which N ≥ per_dimension · D.

    Patches of which more than half is clipped are left out, unless too few others remain.
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
    kept = _clipped(patches).mean(axis=1) <= 0.5
    return patches[kept] if kept.sum() >= 4 * patches.shape[1] else patches


def _clipped(values: Array) -> NDArray[np.bool_]:
    """Whether each value is black or white; in unbounded data, the lowest or highest."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 1.0)
    clipped: NDArray[np.bool_] = (values <= low) | (values >= high)
    return clipped


def estimated_noise_of_jpeg(picture: Array) -> float:
    """Standard deviation of the noise that a picture had before it became a JPEG; 0 where nothing can be said.

    By the median of the finest diagonal coefficients of db2, of the luma, since encoders smooth chroma. Saturated parts
    are left out; other constant parts count, since they have no noise. Of a picture that is mostly white nothing can be
    said: in documents and drawings, edges are most of what varies. Errors of the quantization are for the caller to
    add. picture: the decoded JPEG (C, H, W), black 0 and white 1.
    """
    kept = ~(_fills_windows(picture <= 0) | _fills_windows(picture >= 1))
    if np.median(picture.min(axis=0)) > _WHITE or not kept.any():
        return 0.0
    weights = _LUMA if len(picture) == 3 else np.ones(len(picture))
    luma = np.tensordot(weights, picture, axes=1) / np.linalg.norm(weights)  # as much noise as a channel
    magnitudes = np.abs(_finest(_finest(luma).T)).T
    return _JPEG_FACTOR * float(np.median(magnitudes[kept])) / 0.6744897501960817


def _fills_windows(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a mask (C, H, W) is true in all that each diagonal coefficient of `_finest` comes from."""
    padded = np.pad(mask.all(axis=0), 3, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (len(_DB2), len(_DB2)))
    filled: NDArray[np.bool_] = np.all(windows[1::2, 1::2], axis=(2, 3))
    return filled


def _finest(channel: Array) -> Array:
    """The finest detail coefficients of each column, (H, W) → (⌊(H + 3)/2⌋, W), mirrored at the borders."""
    padded = np.pad(channel, ((3, 3), (0, 0)), mode="symmetric")
    filtered = sum(weight * padded[3 - i : len(padded) - i] for i, weight in enumerate(_DB2))
    return np.asarray(filtered)[1::2]


def estimated_shot_noise(picture: Array) -> ShotNoise | None:
    """Shot noise and read noise of a picture, or None unless the variance clearly grows with brightness.

    Fits a line to variance over brightness (Foi et al. 2008) by the median of slopes (Theil and Sen). picture:
    (C, H, W), black 0 and white 1, or unbounded; gain and read noise are the same in all channels.
    """
    levels = _levels(picture)
    if len(levels) < _FEWEST_LEVELS:
        return None
    value, variance, whiteness = levels.T
    first, second = np.triu_indices(len(levels), 1)
    steps, rises = value[second] - value[first], variance[second] - variance[first]
    if steps.min() <= 0 or variance.min() <= 0:
        return None
    gain = float(np.median(rises / steps))
    constant = float(np.median(variance - gain * value))
    if constant < 0:
        gain, constant = float(np.median(variance / value)), 0.0
    line = gain * value + constant
    clear = (
        gain > 0
        and line[-1] > _GROWTH * line[0] > 0
        and line[-1] > 3 * constant  # two thirds of the variance in the brightest level are shot noise
        and np.sign(rises).mean() > _CONCORDANCE
        and np.median(np.abs(variance / line - 1)) < _MISFIT
        and np.median(whiteness) > _WHITENESS
    )
    return ShotNoise(gain, math.sqrt(constant)) if clear else None


def _levels(picture: Array) -> Array:
    """Brightness, variance of the noise and whiteness of groups of equally bright patches, (L, 3), dark to bright.

    Whiteness is the smallest eigenvalue over the median one: about 0.8 for white noise, near 0 for textures and JPEGs.
    Groups in which clipping reduces the noise are left out.
    """
    patches = np.concatenate([_patches(channel[None], (5,), per_dimension=0) for channel in picture])
    groups = min(14, len(patches) // (8 * patches.shape[1]))
    if groups < _FEWEST_LEVELS:
        return np.zeros((0, 3))
    clipped = _clipped(patches).mean(axis=1)
    levels = []
    for group in np.array_split(np.argsort(patches.mean(axis=1), kind="stable"), groups):
        eigenvalues = _weak_eigenvalues(patches[group])
        if clipped[group].mean() < 0.03 and eigenvalues[0] > 0:
            levels.append((patches[group].mean(), eigenvalues[0], eigenvalues[0] / np.median(eigenvalues)))
    return np.array(levels).reshape(-1, 3)

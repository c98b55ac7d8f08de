"""Undersampled k-space of 4 coils, and the reconstructions that `restore` is compared with.

    python docs/images/undersampled.py     # pip install scikit-image

writes ./given/phantoms/ (scan.npz for `--measure`, truth.npy for `--truth`), and prints PSNR, SSIM, NMSE and the time
per picture of three methods without a network: the zero-filled picture, SENSE by conjugate gradients, and total
variation, whose strengths are those that do best on eight training images.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor

import ncsnx
from ncsnx.data import open_data
from ncsnx.data.dataset import Dataset
from ncsnx.images import complex_parts
from ncsnx.inverse.operators.coils import Sense, simulated_maps
from ncsnx.inverse.posterior.image_quality import image_distances
from ncsnx.inverse.rules.likelihood import conjugate_gradients

EXPERIMENT, FOLDER = "phantom64x48", Path("given", "phantoms")
COILS, FASTER, CENTER, NOISE, SEED = 4, 4, 6, 0.01, 0
"""Coils; columns per measured one; columns around frequency 0 that are all measured; noise of real and imaginary parts;
seed of coils and columns."""
PICTURES, TUNED_ON = 16, 8
STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


def main() -> None:
    """Writes the measurement, and prints how well it is reconstructed without a network."""
    splits = open_data(ncsnx.experiment(EXPERIMENT).data, Path())
    truth = some_of(splits.held_out, PICTURES)
    _, _, height, width = truth.shape
    sense = Sense(simulated_maps((height, width), COILS, SEED), columns(height, width))
    y = measured(sense, truth, seed=1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    np.savez(FOLDER / "scan.npz", kspace=y.numpy(), mask=sense.mask.numpy(), maps=sense.maps.numpy())
    np.save(FOLDER / "truth.npy", torch.complex(truth[:, 0], truth[:, 1]).numpy())

    known = some_of(splits.train, TUNED_ON)
    y_known = measured(sense, known, seed=2)
    row("zero-filled", sense.adjoint, y, truth)
    for title, method in (("SENSE", least_squares), ("total variation", total_variation)):
        scores = {value: distances(method(sense, y_known, value), known)[0] for value in STRENGTHS}
        best = max(scores, key=lambda value: scores[value])
        row(f"{title}, strength {best:g}", partial(method, sense, strength=best), y, truth)


def some_of(split: Dataset, count: int) -> Tensor:
    """Images (count, 2, H, W), evenly spaced in the split, so that neighboring slices are few."""
    return split.read(torch.arange(count) * (len(split) // count)).pixels.float()


def columns(height: int, width: int) -> Tensor:
    """Mask (H, W), frequency (0, 0) first: the columns around frequency 0, and random ones up to a fourth of all."""
    away = np.abs(np.fft.fftfreq(width, 1 / width) + 0.5)
    inner = np.flatnonzero(away < CENTER / 2)
    outer = np.random.default_rng(SEED).permutation(np.flatnonzero(away >= CENTER / 2))
    mask = np.zeros((height, width))
    mask[:, [*inner, *outer[: width // FASTER - len(inner)]]] = 1
    return torch.from_numpy(mask)


def measured(sense: Sense, images: Tensor, seed: int) -> Tensor:
    """k-space with noise."""
    noise = torch.randn(len(images), *sense.measured_shape, 2, generator=torch.Generator().manual_seed(seed))
    return sense.apply(images) + NOISE * sense.mask * torch.view_as_complex(noise)


def least_squares(sense: Sense, y: Tensor, strength: float) -> Tensor:
    """argmin ½‖Ax − y‖² + ½ λ ‖x‖²."""
    ridge = torch.full((len(y), 1, 1, 1), strength)
    return conjugate_gradients(sense.normal, ridge, sense.adjoint(y), iterations=50, tolerance=1e-6)


def total_variation(sense: Sense, y: Tensor, strength: float) -> Tensor:
    """argmin ½‖Ax − y‖² + λ TV(x), real and imaginary part together, by FISTA (Beck & Teboulle 2009); ‖A‖ is 1."""
    x = ahead = back = sense.adjoint(y)
    momentum = 1.0
    for _ in range(100):
        step = ahead + back - sense.normal(ahead)
        found = [
            denoise_tv_chambolle(one.permute(1, 2, 0).numpy(), weight=strength, channel_axis=-1, max_num_iter=30)
            for one in step
        ]
        following = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)
        after = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        x, ahead, momentum = following, following + (momentum - 1) / after * (following - x), after
    return x


def distances(images: Tensor, truth: Tensor) -> list[float]:
    """Means of PSNR, SSIM and NMSE of the magnitudes, with the range of each true picture."""
    pairs = zip(torch.hypot(*complex_parts(images)), torch.hypot(*complex_parts(truth)), strict=True)
    found = [image_distances(one[None], true[None], float(true.max())) for one, true in pairs]
    return [float(value) for value in torch.cat(found).mean(dim=0)]


def row(title: str, method: Callable[[Tensor], Tensor], y: Tensor, truth: Tensor) -> None:
    """Prints a row of the table."""
    start_s = time.perf_counter()
    images = method(y)
    each_s = (time.perf_counter() - start_s) / len(y)
    psnr, ssim, nmse = distances(images, truth)
    print(f"| {title} | {psnr:.2f} dB | {ssim:.4f} | {nmse:.5f} | {each_s:.2f} s |")


if __name__ == "__main__":
    main()

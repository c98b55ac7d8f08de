"""What a newcomer tries with photographs, beside classical methods, on standard pictures that nobody trained on.

    pip install '.[science]' scikit-image scikit-learn bm3d opencv-python-headless
    python docs/images/newcomer.py [MODEL [WORD …]]     # photographs; cases whose name has a WORD

prints a table of PSNR (dB), each the mean of its pictures: centers of rocket, cat and retina (scikit-image) and china
and flower (scikit-learn). ncsnx is used as `ncsnx restore` is without further options, except where a cell says so.
BM3D and non-local means take scikit-image's estimate of the noise; total variation, unsharp masking and Wiener's filter
are the best of a list by the truth (*). All takes 20 minutes on a core.
"""

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import bm3d
import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter
from skimage import metrics, restoration
from sklearn.datasets import load_sample_image

import ncsnx

Picture = NDArray[np.float64]
"""(H, W, 3) in [0, 1]."""
Mask = NDArray[np.bool_]
Methods = dict[str, Callable[[], Picture]]
DENOISED, DRAWN = ("rocket", "cat", "retina", "china", "flower"), ("rocket", "cat", "china")
"""Pictures of the cases that take an evaluation or few, and of those whose alternatives are drawn."""
SEED, BLUR = 0, 2.0


def center(name: str, width: int, height: int) -> Picture:
    whole = load_sample_image(f"{name}.jpg") if name in ("china", "flower") else getattr(skimage.data, name)()
    top, left = (whole.shape[0] - height) // 2, (whole.shape[1] - width) // 2
    part: Picture = whole[top : top + height, left : left + width] / 255
    return part


def eight_bits(picture: Picture) -> NDArray[np.uint8]:
    return (255 * picture.clip(0, 1)).round().astype(np.uint8)


def noisy(truth: Picture, level: float) -> Picture:
    return truth + level / 255 * np.random.default_rng(SEED).standard_normal(truth.shape)


@dataclass
class Given:
    """A picture as somebody has it in a file, and what is done about it."""

    truth: Picture
    file: Path
    ours: dict[str, dict[str, Any]]  # arguments of `ncsnx.restore` by what is said of them
    others: Callable[[Picture, Picture], Methods]  # of the picture in the file, and the truth
    judged: Mask | None = None  # where PSNR is measured; None: everywhere


def written(picture: Picture, file: Path) -> Path:
    """The file, a PNG or, if it is named by a quality such as 85.jpg, a JPEG of it."""
    Image.fromarray(eight_bits(picture)).save(file, quality=int(file.stem) if file.suffix == ".jpg" else -1)
    return file


def psnr(found: Picture, truth: Picture, judged: Mask | None = None) -> float:
    where = slice(None) if judged is None else judged
    return float(metrics.peak_signal_noise_ratio(truth[where], found.clip(0, 1)[where], data_range=1.0))


def best(method: Callable[[float], Picture], strengths: Iterable[float], truth: Picture) -> Picture:
    """The result of the strength that is nearest to the truth."""
    return max((method(one) for one in strengths), key=lambda found: psnr(found, truth))


similar = partial(restoration.denoise_nl_means, patch_size=5, patch_distance=6, channel_axis=2)
smooth = partial(restoration.denoise_tv_chambolle, channel_axis=2)


def denoisers(seen: Picture, truth: Picture) -> Methods:
    sigma = float(np.mean(restoration.estimate_sigma(seen, channel_axis=2)))
    return {
        "BM3D": lambda: bm3d.bm3d_rgb(seen, max(sigma, 1e-4)),
        "NLM": lambda: similar(seen, h=0.8 * sigma, sigma=sigma),
        "TV*": partial(best, lambda weight: smooth(seen, weight), (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15), truth),
    }


def gray_denoisers(seen: Picture, truth: Picture) -> Methods:
    one = seen.mean(axis=2)
    return {"BM3D": lambda: bm3d.bm3d(one, float(restoration.estimate_sigma(one)))[..., None].repeat(3, axis=2)}


def enlargers(seen: Picture, truth: Picture) -> Methods:
    size = truth.shape[1::-1]
    return {
        "Lanczos": lambda: np.asarray(Image.fromarray(eight_bits(seen)).resize(size, Image.Resampling.LANCZOS)) / 255
    }


def sharpeners(seen: Picture, truth: Picture) -> Methods:
    point = np.zeros((17, 17))
    point[8, 8] = 1
    kernel = gaussian_filter(point, BLUR)

    def unsharp(percent: float) -> Picture:
        mask = ImageFilter.UnsharpMask(radius=BLUR, percent=int(percent), threshold=0)
        return np.asarray(Image.fromarray(eight_bits(seen)).filter(mask)) / 255

    def wiener(balance: float) -> Picture:
        bands = np.moveaxis(seen, 2, 0)
        return np.stack([restoration.wiener(band, kernel, balance, clip=False) for band in bands], axis=2)

    return {
        "unsharp*": partial(best, unsharp, (50, 100, 150, 250, 400), truth),
        "Wiener*": partial(best, wiener, (0.001, 0.003, 0.01, 0.03, 0.1, 0.3), truth),
    }


def fillers(hidden: Mask, seen: Picture, truth: Picture) -> Methods:
    where = eight_bits(hidden.astype(float))
    return {
        "Telea": lambda: cv2.inpaint(eight_bits(seen), where, 3, cv2.INPAINT_TELEA) / 255,
        "biharmonic": lambda: restoration.inpaint_biharmonic(seen, hidden, channel_axis=2),
    }


def denoising(form: str, level: float, name: str, folder: Path, scale: float = 1.0) -> Given:
    """Noise of `level` of 255 in a file named `form`. scale: what makes the picture dark."""
    truth = scale * center(name, 256, 192)
    file = written(noisy(truth, level), folder / form)
    return Given(truth, file, {"auto": {"denoise": file}}, denoisers)


def blocks(name: str, folder: Path) -> Given:
    truth = center(name, 256, 192)
    file = written(truth, folder / "25.jpg")
    return Given(truth, file, {"--jpeg": {"jpeg": file}, "--denoise": {"denoise": file}}, denoisers)


def gray(name: str, folder: Path) -> Given:
    truth = (center(name, 256, 192) @ (0.299, 0.587, 0.114))[..., None].repeat(3, axis=2)
    file = folder / "gray.png"
    Image.fromarray(eight_bits(noisy(truth, 25))[..., 0]).save(file)
    return Given(truth, file, {"auto": {"denoise": file}}, gray_denoisers)


def screenshot(name: str, folder: Path) -> Given:
    """A window with a picture and text."""
    image = Image.new("RGB", (256, 192), (236, 236, 240))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, 255, 17), fill=(52, 86, 140))
    pen.text((6, 3), f"{name}.jpg - viewer", fill="white")
    image.paste(Image.fromarray(eight_bits(center(name, 96, 96))), (148, 28))
    for line, text in enumerate(
        ("File: 2048 x 1536", "Taken in August", "ISO 3200, 1/30 s", "f/2.8, 35 mm", "no flash")
    ):
        pen.text((10, 28 + 18 * line), text, fill="black")
    truth = np.asarray(image) / 255
    file = written(noisy(truth, 25), folder / "screenshot.png")
    return Given(truth, file, {"auto": {"denoise": file}}, denoisers)


def drawn(**given: Any) -> dict[str, dict[str, Any]]:
    return {"default": given, "--quick": {**given, "quick": True}}


def enlarging(name: str, folder: Path) -> Given:
    truth = center(name, 144, 96)
    file = written(truth.reshape(32, 3, 48, 3, 3).mean(axis=(1, 3)), folder / "small.png")
    return Given(truth, file, drawn(super_resolve=file, factor=3), enlargers)


def deblurring(form: str, name: str, folder: Path) -> Given:
    truth = center(name, 144, 96)
    file = written(gaussian_filter(truth, (BLUR, BLUR, 0), mode="reflect"), folder / form)
    ours = drawn(deblur=file, blur=BLUR)
    ours |= {f"--noise {noise:.2g}": {**ours["default"], "noise": noise} for noise in (0.0011, 0.01)}
    return Given(truth, file, ours, sharpeners)


def stamped(hidden: Mask, name: str, folder: Path) -> Given:
    """A hole, of which the picture in the file is orange, as a date stamp."""
    truth = center(name, 208, 96)
    file = written(np.where(hidden[..., None], (1.0, 0.55, 0.1), truth), folder / "stamped.png")
    return Given(truth, file, drawn(inpaint=file, mask=hidden.astype(float)), partial(fillers, hidden), hidden)


def rectangle() -> Mask:
    hidden = np.zeros((96, 208), bool)
    hidden[28:68, 32:177] = True
    return hidden


def letters() -> Mask:
    """A date stamp in the same rectangle, and a pixel around it."""
    image = Image.new("L", (208, 96))
    small = Image.new("L", (66, 12))
    ImageDraw.Draw(small).text((2, 0), "12.08.2003", fill=255)
    image.paste(small.resize((145, 28), Image.Resampling.NEAREST), (32, 34))
    return np.asarray(image.filter(ImageFilter.MaxFilter(3))) > 127


CASES: dict[str, tuple[tuple[str, ...], Callable[[str, Path], Given]]] = {
    "phone, noise 10, JPEG 85": (DENOISED, partial(denoising, "85.jpg", 10)),
    "noise 25, PNG": (DENOISED, partial(denoising, "noisy.png", 25)),
    "noise 25, JPEG 90": (DENOISED, partial(denoising, "90.jpg", 25)),
    "blocks, JPEG 25": (DENOISED, blocks),
    "screenshot, noise 25": (DRAWN, screenshot),
    "dark, noise 3, PNG": (DENOISED, partial(denoising, "dark.png", 3, scale=0.15)),
    "dark, noise 3, JPEG 90": (DENOISED, partial(denoising, "90.jpg", 3, scale=0.15)),
    "gray, noise 25": (DENOISED, gray),
    "enlarging by 3": (DRAWN, enlarging),
    "blur of 2 px, PNG": (DRAWN, partial(deblurring, "blurred.png")),
    "blur of 2 px, JPEG 90": (DRAWN, partial(deblurring, "90.jpg")),
    "hole of 145×40": (DRAWN, partial(stamped, rectangle())),
    "hole, letters alone": (DRAWN, partial(stamped, letters())),
}


def figures(model: ncsnx.Model, given: Given) -> Iterator[tuple[str, str, float]]:
    """Column, method and PSNR."""
    seen, truth = np.asarray(Image.open(given.file).convert("RGB")) / 255, given.truth
    if seen.shape == truth.shape:
        yield "given", "", psnr(seen, truth, given.judged)
    for name, arguments in given.ours.items():
        out = given.file.parent / f"restored {name}"
        mean = ncsnx.restore(model, out=out, seed=SEED, progress=False, **arguments).means()[0]
        yield "ncsnx", name, psnr(mean.permute(1, 2, 0).double().numpy(), truth, given.judged)
    for name, method in given.others(seen, truth).items():
        yield "others", name, psnr(method(), truth, given.judged)


def main(name: str = "photographs", *words: str) -> None:
    model = ncsnx.load(name)
    print("| case | given | ncsnx | others |\n|---|--:|---|---|")
    for title, (names, case) in CASES.items():
        if words and not any(word in title for word in words):
            continue
        columns: dict[str, dict[str, list[float]]] = {"given": {}, "ncsnx": {}, "others": {}}
        for picture in names:
            with tempfile.TemporaryDirectory() as folder:
                for column, method, value in figures(model, case(picture, Path(folder))):
                    columns[column].setdefault(method, []).append(value)
        cells = [
            ", ".join(f"{of} {np.mean(psnrs):.2f}".strip() for of, psnrs in one.items()) for one in columns.values()
        ]
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

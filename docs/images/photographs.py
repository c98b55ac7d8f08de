"""A prior of photographs beside classical methods, on standard pictures that it wasn't trained on.

    pip install '.[science]' scikit-image PyWavelets bm3d opencv-python-headless
    python docs/images/photographs.py [MODEL [TASK …]]     # photographs, which comes with ncsnx; all tasks

prints PSNR (dB) and SSIM of centers of astronaut, chelsea, coffee and rocket in color, camera, moon and coins in gray:
denoised as one evaluation of known noise, without a number, and with shot noise, 256×256; in gray and as JPEGs,
192×192; and enlarged, sharpened and filled in by the mean of 9 alternatives of 40 steps (filled in: 100), 128×128, with
their calibration. The strength of each classical method but BM3D and wavelets is the best one of a list for each
picture, by its truth.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import bm3d
import cv2
import deepinv
import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.interpolate import griddata
from scipy.ndimage import gaussian_filter
from skimage import metrics, restoration

import ncsnx

Picture = NDArray[np.float64]
Row = tuple[float, float, float]
"""PSNR, SSIM, seconds."""
COLOR, GRAY = ("astronaut", "chelsea", "coffee", "rocket"), ("camera", "moon")
SEVEN = ("camera", "moon", "coins", *COLOR)
"""In gray."""
ALTERNATIVES, STEPS, FILLING_STEPS, SEED = 9, 40, 100, 0
BLUR, BLUR_NOISE = 1.6, 2 / 255


def center(name: str, side: int) -> Picture:
    """(side, side, 3) in [0, 1]; a gray picture has it in each channel."""
    picture: Picture = getattr(skimage.data, name)() / 255
    top, left = ((size - side) // 2 for size in picture.shape[:2])
    part = picture[top : top + side, left : left + side]
    return part if part.ndim == 3 else np.repeat(part[..., None], 3, axis=2)


def quality(found: Picture, truth: Picture) -> tuple[float, float]:
    found = found.clip(0, 1)
    similarity = metrics.structural_similarity(truth, found, channel_axis=2, data_range=1.0)
    return metrics.peak_signal_noise_ratio(truth, found, data_range=1.0), similarity


def best(method: Callable[[float], Picture], strengths: Iterable[float], truth: Picture) -> Picture:
    """The result of the strength that is nearest to the truth."""
    return max((method(one) for one in strengths), key=lambda found: quality(found, truth)[0])


def denoisers(noisy: Picture, sigma: float, truth: Picture) -> dict[str, Callable[[], Picture]]:
    similar = partial(restoration.denoise_nl_means, noisy, sigma=sigma, patch_size=5, patch_distance=6, channel_axis=2)
    return {
        "total variation": lambda: best(
            lambda weight: restoration.denoise_tv_chambolle(noisy, weight=weight, channel_axis=2),
            sigma * np.array([0.6, 0.9, 1.2, 1.6]),
            truth,
        ),
        "non-local means": lambda: best(lambda h: similar(h=h), sigma * np.array([0.4, 0.6, 0.8, 1.0]), truth),
        "wavelets": lambda: restoration.denoise_wavelet(
            noisy, sigma=sigma, channel_axis=2, convert2ycbcr=True, rescale_sigma=True
        ),
        "total generalized variation": lambda: best(
            lambda strength: by_deepinv(deepinv.models.TGVDenoiser(n_it_max=200), noisy, strength),
            sigma * np.array([1, 2, 4, 8]),
            truth,
        ),
        "OpenCV, non-local means": lambda: best(
            partial(by_opencv, noisy), 255 * sigma * np.array([0.4, 0.7, 1.0]), truth
        ),
        "BM3D": lambda: bm3d.bm3d_rgb(noisy, sigma),
    }


def by_opencv(noisy: Picture, strength: float) -> Picture:
    given = eight_bits(noisy)
    return cv2.fastNlMeansDenoisingColored(given, None, strength, strength, 7, 21) / 255


def eight_bits(picture: Picture) -> NDArray[np.uint8]:
    return (255 * picture.clip(0, 1)).round().astype(np.uint8)


def gray_denoisers(noisy: Picture, sigma: float, truth: Picture) -> dict[str, Callable[[], Picture]]:
    """Of one channel, in all three."""
    gray = noisy[..., 0]

    def three(picture: Picture) -> Picture:
        return np.repeat(picture[..., None], 3, axis=2)

    return {
        "total variation": lambda: best(
            lambda weight: three(restoration.denoise_tv_chambolle(gray, weight=weight)),
            sigma * np.array([0.6, 0.9, 1.2, 1.6]),
            truth,
        ),
        "non-local means": lambda: best(
            lambda h: three(restoration.denoise_nl_means(gray, h=h, sigma=sigma, patch_size=5, patch_distance=6)),
            sigma * np.array([0.4, 0.6, 0.8, 1.0]),
            truth,
        ),
        "BM3D": lambda: three(bm3d.bm3d(gray, sigma)),
    }


def by_deepinv(denoiser: Any, noisy: Picture, strength: float) -> Picture:
    given = torch.from_numpy(noisy).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        return denoiser(given, strength)[0].permute(1, 2, 0).double().numpy()


def letters(side: int) -> NDArray[np.bool_]:
    """A text over a picture, True where it hides it."""
    image = Image.new("L", (side, side))
    pen = ImageDraw.Draw(image)
    for line in range(side // 16):
        pen.text((4, 16 * line + 2), "the quick brown fox jumps", fill=255)
    return np.asarray(image) > 127


def filled(truth: Picture, hidden: NDArray[np.bool_]) -> dict[str, Callable[[], Picture]]:
    known = np.argwhere(~hidden)
    everywhere = tuple(np.indices(hidden.shape))
    return {
        "biharmonic": lambda: restoration.inpaint_biharmonic(
            np.where(hidden[..., None], 0, truth), hidden, channel_axis=2
        ),
        "nearest and linear": lambda: np.where(
            np.isnan(linear := griddata(known, truth[~hidden], everywhere)),
            griddata(known, truth[~hidden], everywhere, method="nearest"),
            linear,
        ),
    }


def enlarged(small: Picture, side: int) -> dict[str, Callable[[], Picture]]:
    def by(kernel: Image.Resampling) -> Picture:
        bands = [Image.fromarray(small[..., band].astype(np.float32)) for band in range(3)]
        return np.stack([np.asarray(band.resize((side, side), kernel)) for band in bands], axis=2).astype(float)

    return {"bicubic": lambda: by(Image.Resampling.BICUBIC), "Lanczos": lambda: by(Image.Resampling.LANCZOS)}


def sharpened(blurred: Picture, truth: Picture) -> dict[str, Callable[[], Picture]]:
    point = np.zeros((15, 15))
    point[7, 7] = 1
    kernel = gaussian_filter(point, BLUR)

    def each(method: Callable[[Picture], Picture]) -> Picture:
        return np.stack([method(blurred[..., band]) for band in range(3)], axis=2)

    return {
        "Wiener": lambda: best(
            lambda balance: each(lambda band: restoration.wiener(band, kernel, balance, clip=False)),
            (0.003, 0.01, 0.03, 0.1, 0.3),
            truth,
        ),
        "Richardson–Lucy": lambda: best(
            lambda steps: each(lambda band: restoration.richardson_lucy(band, kernel, int(steps))),
            (5, 10, 20, 40),
            truth,
        ),
    }


def print_rows(title: str, names: tuple[str, ...], rows: dict[str, list[Row]]) -> None:
    """A line for each method: PSNR of each picture, means of the color ones, or of all if none is."""
    averaged = [name in COLOR or names == SEVEN for name in names]
    print(f"\n{title}\n| method | {' | '.join(names)} | mean | SSIM | s |\n|---|{'--:|' * (len(names) + 3)}")
    for name, found in rows.items():
        psnrs, ssims, seconds = (np.array(values) for values in zip(*found, strict=True))
        numbers = " | ".join(f"{value:.2f}" for value in [*psnrs, psnrs[averaged].mean()])
        print(f"| {name} | {numbers} | {ssims[averaged].mean():.3f} | {seconds.mean():.1f} |", flush=True)


Given = tuple[dict[str, Callable[[], Picture]], dict[str, Any]]
"""Classical methods, and the arguments of `ncsnx.restore`."""


def denoised(model: ncsnx.Model, noisy: Picture, sigma: float) -> Picture:
    """D(y, σ)."""
    given = torch.from_numpy(noisy).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        found = model.as_denoiser()(given, sigma)
    return found[0].permute(1, 2, 0).double().numpy()


def by_command(model: ncsnx.Model, **given: Any) -> Picture:
    """The mean that `ncsnx restore` writes first, of a file or an array."""
    with tempfile.TemporaryDirectory() as folder:
        made = ncsnx.restore(model, out=Path(folder) / "out", n=0, seed=SEED, progress=False, **given)
        return made.means()[0].permute(1, 2, 0).double().numpy()


def gray_pictures(model: ncsnx.Model) -> None:
    for level in (15, 25, 50):
        rows: dict[str, list[Row]] = {}
        for number, name in enumerate(SEVEN):
            truth, sigma = center(name, 192).mean(axis=2, keepdims=True).repeat(3, axis=2), level / 255
            noisy = truth + sigma * np.random.default_rng(SEED + number).standard_normal(truth.shape[:2])[..., None]
            ours = partial(by_command, model, denoise=noisy, noise=sigma)
            measure(rows, {**gray_denoisers(noisy, sigma, truth), "ncsnx, 4 evaluations": ours}, truth)
        print_rows(f"gray, σ = {level} of 255", SEVEN, rows)


def unknown_noise(model: ncsnx.Model) -> None:
    """PNGs of unknown noise."""
    for level in (0, 5, 10, 25, 50):
        rows: dict[str, list[Row]] = {}
        for number, name in enumerate(COLOR):
            truth = center(name, 256)
            noisy = truth + level / 255 * np.random.default_rng(SEED + number).standard_normal(truth.shape)
            noisy = eight_bits(noisy) / 255
            found = restoration.estimate_sigma(noisy, channel_axis=2, average_sigmas=True)
            methods = {
                "given": lambda noisy=noisy: noisy,
                "BM3D, σ by wavelets": partial(bm3d.bm3d_rgb, noisy, found),
                "ncsnx": partial(by_command, model, denoise=noisy),
                "ncsnx, σ said": partial(by_command, model, denoise=noisy, noise=max(level, 1.5) / 255),
            }
            measure(rows, methods, truth)
        print_rows(f"unknown noise, σ = {level} of 255", COLOR, rows)


def shot_noise(model: ncsnx.Model) -> None:
    for counts, read in ((200, 0.01), (30, 0.02)):
        rows: dict[str, list[Row]] = {}
        for number, name in enumerate(COLOR):
            truth, random = center(name, 256), np.random.default_rng(SEED + number)
            noisy = random.poisson(counts * truth) / counts + read * random.standard_normal(truth.shape)
            sigma = float(np.sqrt(truth.mean() / counts + read**2))
            methods = {
                **denoisers(noisy, sigma, truth),
                "ncsnx, one σ, the best": lambda noisy=noisy, sigma=sigma, truth=truth: best(
                    lambda of: by_command(model, denoise=noisy, noise=of * sigma), (0.8, 0.9, 1.0, 1.1, 1.2), truth
                ),
                "ncsnx, one σ": partial(by_command, model, denoise=noisy, noise=sigma),
                "ncsnx": partial(by_command, model, denoise=noisy),
                "ncsnx, gain said": partial(by_command, model, denoise=noisy, gain=1 / counts, noise=read),
            }
            measure(rows, methods, truth)
        print_rows(f"shot noise, {counts} counts at white, read noise {read}", COLOR, rows)


def jpegs(model: ncsnx.Model) -> None:
    """Blocks alone, then noise of 10 of 255 in the picture that was compressed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "given.jpg"
        for level, quality in ((0, 10), (0, 20), (0, 40), (0, 75), (0, 90), (10, 75), (10, 90), (25, 90)):
            rows: dict[str, list[Row]] = {}
            for number, name in enumerate(COLOR):
                truth = center(name, 192)
                noisy = truth + level / 255 * np.random.default_rng(SEED + number).standard_normal(truth.shape)
                Image.fromarray(eight_bits(noisy)).save(file, quality=quality, subsampling="4:2:0")
                given = np.asarray(Image.open(file)) / 255
                found = restoration.estimate_sigma(given @ np.array([0.299, 0.587, 0.114]))
                methods = {
                    "decoded": lambda given=given: given,
                    "total variation": partial(
                        best,
                        lambda weight, given=given: restoration.denoise_tv_chambolle(
                            given, weight=weight, channel_axis=2
                        ),
                        (0.005, 0.01, 0.02, 0.04, 0.08),
                        truth,
                    ),
                    "OpenCV, non-local means": partial(best, partial(by_opencv, given), (1, 2, 4, 8, 16), truth),
                    "BM3D": partial(
                        best,
                        lambda sigma, given=given: bm3d.bm3d_rgb(given, sigma / 255),
                        np.array([0.7, 1.4]) * max(level, 60 / quality**0.5),
                        truth,
                    ),
                    "ncsnx --denoise": partial(by_command, model, denoise=file),
                    "ncsnx --denoise, σ 1.3 times the wavelets'": partial(
                        by_command, model, denoise=file, noise=max(1.3 * found, 0.0051)
                    ),
                }
                if not level:
                    methods["ncsnx --jpeg"] = partial(by_command, model, jpeg=file)
                measure(rows, methods, truth)
            print_rows(f"JPEG, quality {quality}, noise of {level} of 255", COLOR, rows)


def enlarging(factor: int, truth: Picture, random: np.random.Generator) -> Given:
    side = len(truth) // factor
    small = truth.reshape(side, factor, side, factor, 3).mean(axis=(1, 3))
    return enlarged(small, len(truth)), {"super_resolve": small, "factor": factor}


def deblurring(truth: Picture, random: np.random.Generator) -> Given:
    blurred = gaussian_filter(truth, (BLUR, BLUR, 0), mode="reflect")
    blurred = blurred + BLUR_NOISE * random.standard_normal(truth.shape)
    return sharpened(blurred, truth), {"deblur": blurred, "blur": BLUR, "noise": BLUR_NOISE}


def inpainting(
    of: Callable[[int, np.random.Generator], NDArray[np.bool_]], truth: Picture, random: np.random.Generator
) -> Given:
    hidden = of(len(truth), random)
    return filled(truth, hidden), {"inpaint": truth, "mask": hidden.astype(float)}


SECTIONS = {"gray": gray_pictures, "unknown": unknown_noise, "shot": shot_noise, "jpeg": jpegs}
TASKS: dict[str, Callable[[Picture, np.random.Generator], Given]] = {
    "enlarging by 2, means of squares": partial(enlarging, 2),
    "enlarging by 4": partial(enlarging, 4),
    "deblurring, a Gaussian of 1.6 px and noise of 2 of 255": deblurring,
    "inpainting, 80 % of the pixels missing": partial(
        inpainting, lambda side, random: random.random((side, side)) < 0.8
    ),
    "inpainting, a text over the picture": partial(inpainting, lambda side, random: letters(side)),
}


def restored(model: ncsnx.Model, truth: Picture, given: dict[str, Any], calibrations: list[Any]) -> Picture:
    """The mean of the alternatives; their calibration is appended."""
    changes = f"sampler.steps={FILLING_STEPS if 'inpaint' in given else STEPS}"
    with tempfile.TemporaryDirectory() as folder:
        made = ncsnx.restore(
            model, changes, truth=truth, n=ALTERNATIVES, seed=SEED, out=Path(folder) / "out", progress=False, **given
        )
        calibrations.append(made.calibration)
        return made.maps().mean[0].permute(1, 2, 0).double().numpy()


def main(model: str = "photographs", *chosen: str) -> None:
    loaded = ncsnx.load(model)
    tiled = loaded.in_tiles(256)
    for level in (15, 25, 50) if not chosen or "denoising" in chosen else ():
        rows: dict[str, list[Row]] = {}
        for number, name in enumerate(COLOR):
            truth, sigma = center(name, 256), level / 255
            noisy = truth + sigma * np.random.default_rng(SEED + number).standard_normal(truth.shape)
            methods = {
                **denoisers(noisy, sigma, truth),
                "ncsnx, one evaluation": partial(denoised, tiled, noisy, sigma),
            }
            measure(rows, methods, truth)
        print_rows(f"denoising, σ = {level} of 255", COLOR, rows)
    for named, section in SECTIONS.items():
        if not chosen or named in chosen:
            section(loaded)
    for title, task in TASKS.items():
        if chosen and not any(word in title for word in chosen):
            continue
        rows, calibrations, names = {}, list[Any](), (*COLOR, *GRAY)
        for number, name in enumerate(names):
            truth = center(name, 128)
            methods, given = task(truth, np.random.default_rng(SEED + number))
            ours = partial(restored, loaded, truth, given, calibrations)
            measure(rows, {**methods, f"ncsnx, mean of {ALTERNATIVES}": ours}, truth)
        print_rows(title, names, rows)
        shares = [[interval.share for interval in one.intervals[:2]] for one in calibrations]
        print("truths inside the central 50 and 80 %:", np.round(100 * np.mean(shares, axis=0), 1), flush=True)


def measure(rows: dict[str, list[Row]], methods: dict[str, Callable[[], Picture]], truth: Picture) -> None:
    """Adds PSNR, SSIM and seconds of each method."""
    for name, method in methods.items():
        begin = time.monotonic()
        found = method()
        rows.setdefault(name, []).append((*quality(found, truth), time.monotonic() - begin))


if __name__ == "__main__":
    main(*sys.argv[1:])

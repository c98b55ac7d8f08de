"""Slices of the brain template that nilearn ships, in an array that `docs/images/brain.py` writes.

Noise levels are those that `ncsnx new` proposes for these images; the network is narrow enough for a CPU.
"""

from ncsnx.config import (
    Adam,
    AnnealedLangevin,
    ConsistentAnnealed,
    Ema,
    Experiment,
    Geometric,
    NCSNv2,
    Snapshots,
    Volumes,
    register,
)

brain48x40 = register(
    Experiment(
        name="brain48x40",
        data=Volumes(
            path="given/brain/slices.npy",
            image_size=(48, 40),
            channels=2,
            complex=True,
            held_out=20 / 132,
            random_flip=True,
        ),
        schedule=Geometric(sigma_max=57.42, sigma_min=0.01, levels=264),
        model=NCSNv2(width=24),
        optimizer=Adam(lr=5e-4),
        sampler=AnnealedLangevin(step_size=5.62e-6, steps_per_level=5),
        ema=Ema(rate=0.999),
        batch_size=8,
        steps=3_000,
        checkpoint_every=500,
        snapshots=Snapshots(n=8, sampler=ConsistentAnnealed(steps=40)),
        seed=1234,
    )
)

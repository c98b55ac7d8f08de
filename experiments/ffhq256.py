"""FFHQ at 256 px, as published (Song & Ermon 2020, appendix B)."""

from ncsnx.config import FFHQ, Adam, AnnealedLangevin, Ema, Experiment, Geometric, NCSNv2Deepest, register

ffhq256 = register(
    Experiment(
        name="ffhq256",
        data=FFHQ(image_size=256, random_flip=True),
        schedule=Geometric(sigma_max=348.0, sigma_min=0.01, levels=2311),
        model=NCSNv2Deepest(width=128),
        optimizer=Adam(lr=1e-4, eps=1e-3),
        sampler=AnnealedLangevin(step_size=9e-7, steps_per_level=3),
        ema=Ema(rate=0.999),
        batch_size=32,
        steps=80_000,
        checkpoint_every=5_000,
        seed=1234,
    )
)

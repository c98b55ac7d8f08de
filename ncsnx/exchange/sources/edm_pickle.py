"""Networks of Karras et al. 2022 (arXiv 2206.00364): `edm-….pkl` and `network-snapshot-….pkl`, of their DDPM++."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ncsnx.config import Experiment, Heun, Karras, LogNormal, Pretrained, Provenance, UNet
from ncsnx.data.augmentation import LABELS
from ncsnx.errors import NcsnxError, quoted
from ncsnx.exchange.model_source import FoundModel, ModelSource, plain_name, source
from ncsnx.exchange.persistent_pickles import NetworkPickle, read_network_pickle
from ncsnx.networks.edm_names import from_edm
from ncsnx.quantities import listed
from ncsnx.work import Work

_WANTED: dict[str, Any] = {
    "model_type": "SongUNet",
    "encoder_type": "standard",
    "decoder_type": "standard",
    "embedding_type": "positional",
    "channel_mult_noise": 1,
    "channel_mult_emb": 4,
}
"""Arguments of DDPM++. Without model_type the published code takes the network of ImageNet, for the others these."""
_STEPS = {32: 18, 64: 40}
"""Steps of Heun's method by the width of images, as the paper has them; for other widths those of the next larger."""
_SIGMA_MAX, _SIGMA_MIN = 80.0, 0.002


@source
class EdmPickle(ModelSource):
    """A pickle of the published code."""

    kind = "edm"
    form = "an edm-….pkl of its DDPM++ (vp)"

    def recognizes(self, address: str) -> bool:
        return Path(address).suffix == ".pkl"

    def read(self, address: str, experiment: Experiment | None, work: Work) -> FoundModel:
        path = Path(address)
        found = read_network_pickle(path)
        stated = ["shape", "model", "labels", *(["sigma_data"] if "sigma_data" in found.arguments else [])]
        state = partial(from_edm, published=found.tensors, where=str(path))
        return FoundModel.of(_declared(path, found), state, found.size, stated=stated, own=(0.0, 255.0))


def _declared(path: Path, found: NetworkPickle) -> Pretrained:
    """The model that the arguments of the network's constructor describe. Raises NcsnxError for another network."""
    asked = found.arguments
    others = {name: asked.get(name, default) for name, default in _WANTED.items()} | {
        "model_type": asked.get("model_type")
    }
    if found.class_name != "EDMPrecond" or others != _WANTED:
        said = ", ".join(f"{name}={value}" for name, value in others.items() if value != _WANTED[name])
        differing = f" with {quoted(said)}" if said else ""
        raise NcsnxError(
            f"{path} is a {quoted(found.class_name)}{differing}; only EDM's DDPM++ is imported, as in edm-*-vp.pkl"
        )
    try:
        size, channels = int(asked["img_resolution"]), int(asked["img_channels"])
        multipliers = tuple(asked.get("channel_mult", (1, 2, 2, 2)))
        steps = next((steps for side, steps in _STEPS.items() if size <= side), max(_STEPS.values()))
        sides = [size >> stage for stage in range(len(multipliers))]
        attention = tuple(side for side in asked.get("attn_resolutions", (16,)) if side in sides)
        declared = Pretrained(
            name=plain_name(path.stem),
            source=Provenance(kind="edm", address=path.name, sha256=found.sha256),
            shape=(channels, size, size),
            ends=(-1.0, 1.0),
            sigma_data=float(asked.get("sigma_data", 0.5)),
            schedule=LogNormal(sigma_max=_SIGMA_MAX, sigma_min=_SIGMA_MIN, levels=steps),
            model=UNet(
                width=asked.get("model_channels", 128),
                multipliers=multipliers,
                blocks=asked.get("num_blocks", 4),
                attention=attention,  # the published code ignores other sides
                dropout=float(asked.get("dropout", 0.1)),
                **_classes(asked),
            ),
            labels=_labels(path, asked.get("augment_dim", 0)),
            sampler=Heun(steps=steps, grid=Karras(sigma_max=_SIGMA_MAX, sigma_min=_SIGMA_MIN, rho=7.0)),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise NcsnxError(f"{path}: its network has impossible arguments: {quoted(str(error))}") from error
    if not attention:
        raise NcsnxError(
            f"{path}: its network attends in the middle alone, since none of its stages, of "
            f"{listed(list(map(str, sides)))} px, is in attn_resolutions; only networks that attend in a stage are read"
        )
    return declared


def _classes(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a network that is conditional on classes; "no class" was trained only with dropout of labels."""
    count = asked.get("label_dim", 0)
    return {"classes": count, "class_dropout": float(asked.get("label_dropout", 0.0))} if count else {}


def _labels(path: Path, asked: Any) -> int:
    if asked not in (0, LABELS):
        raise NcsnxError(f"{path} takes {quoted(asked)} labels of augmentation; expected {LABELS} or none")
    return int(asked)

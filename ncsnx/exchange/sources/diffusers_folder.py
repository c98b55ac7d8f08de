"""Folders of the package diffusers: unconditional models whose network is a `UNet2DModel`.

    model_index.json  unet/config.json  unet/diffusion_pytorch_model.safetensors  scheduler/scheduler_config.json

or the same files without the folders `unet` and `scheduler`.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors

from ncsnx import bounded_reads
from ncsnx.config import Diffusers, Experiment, Heun, Karras, Listed, Pretrained, Provenance
from ncsnx.config.user_code import foreign_errors
from ncsnx.errors import Hint, NcsnxError, UsageError, quoted
from ncsnx.exchange.model_source import MOST_BYTES, FoundModel, ModelSource, plain_name, read_json_object, source
from ncsnx.exports.hub import HubAddress, fetch_files, hub_address
from ncsnx.networks.diffusers_unet import completed, require_modest
from ncsnx.networks.optional_packages import required
from ncsnx.runs.checkpoint import Tensors
from ncsnx.work import Work

INDEX, CONFIG, WEIGHTS, SCHEDULER = (
    "model_index.json",
    "config.json",
    "diffusion_pytorch_model.safetensors",
    "scheduler_config.json",
)
_CARD, _MOST_CARD_BYTES = "README.md", 4 << 20
_MOST_SIGMA = 1e6
LARGEST_START = 200.0
"""First σ of the default grid, at most: beyond it images are all noise, and float32 states lose them."""
_STEPS = 18
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of attention layers before diffusers 0.15 → those of today."""
_LICENSE = re.compile(r"^license: *[\"']?([a-z0-9][a-z0-9.+-]{0,62})[\"']? *(?:#.*)?$", re.IGNORECASE | re.MULTILINE)
_CLIPPING = ("DDPM", "DDIM")
"""Beginnings of the names of schedulers that clip images unless they are told not to."""
_MOST_STEPS = 100_000
_MOST_HEADER_BYTES = 4 << 20
"""Longest list of tensors in a safetensors file; a network of 800 tensors has some 100 kB."""


@source
class DiffusersFolder(ModelSource):
    """A folder of diffusers, or its repository on the Hugging Face Hub."""

    kind = "diffusers"
    form = "a folder of an unconditional diffusers model, or hf://USER/MODEL"

    def recognizes(self, address: str) -> bool:
        folder = Path(address)
        is_network = (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file()
        return hub_address(address) is not None or is_network or any(place.is_file() for place in _marks(folder))

    def read(self, address: str, experiment: Experiment | None, work: Work) -> FoundModel:
        folder = Path(address)
        if (hub := hub_address(address)) is not None:
            folder, commit = fetch_files(hub, partial(_small, hub), work)
            _require_unconditional(folder, _place(folder))  # before gigabytes are downloaded
            folder, _ = fetch_files(hub.at(commit), _weights, work)
            return read_folder(folder, plain_name(hub.name), str(hub.at(commit)))
        name = folder.resolve().name
        return read_folder(folder, plain_name(name), name)


def _marks(folder: Path) -> tuple[Path, ...]:
    return folder / INDEX, folder / "unet" / CONFIG, folder / SCHEDULER, folder / "scheduler" / SCHEDULER


def _place(folder: Path) -> Path:
    """The folder of the network."""
    return folder / "unet" if (folder / "unet").is_dir() else folder


def _small(address: HubAddress, files: Mapping[str, int]) -> Sequence[str]:
    """The descriptions among the files of a repository. Raises UsageError for an exported model of ncsnx."""
    if {"model.safetensors", CONFIG} <= set(files) and INDEX not in files:
        raise UsageError(f"{address} needs no import", Hint("draw from it", f"ncsnx sample {address}"))
    wanted = (INDEX, f"unet/{CONFIG}", CONFIG, f"scheduler/{SCHEDULER}", SCHEDULER, _CARD)
    return [name for name in wanted if files.get(name, _MOST_CARD_BYTES + 1) <= _MOST_CARD_BYTES]


def _weights(files: Mapping[str, int]) -> Sequence[str]:
    """The weights among the files of a repository: those of the network's own folder, if there is one."""
    return [name for name in (f"unet/{WEIGHTS}", WEIGHTS) if 0 < files.get(name, 0) <= MOST_BYTES][:1]


def read_folder(folder: Path, name: str, address: str) -> FoundModel:
    """The model in a folder. address: that of the record. Raises NcsnxError."""
    place = _place(folder)
    _require_unconditional(folder, place)
    unet = read_json_object(place / CONFIG)
    if (kind := unet.get("class_embed_type")) is not None:
        raise NcsnxError(f"{folder} embeds its classes by {quoted(kind)}, and only numbers of classes are read")
    places = [one for one in _marks(folder)[2:] if one.is_file()]
    if not places:
        raise NcsnxError(
            f"{folder} has no {SCHEDULER} beside its network or in scheduler/, which says its noise levels"
        )
    scheduler = read_json_object(places[0])
    sigmas = _sigmas(folder, scheduler)
    content, sha256 = _read_weights(place)
    classes = {} if (count := unet.get("num_class_embeds")) is None else {"classes": count}
    try:
        described = completed(unet)
    except NcsnxError as error:
        raise NcsnxError(f"{place / CONFIG}: {error.message}", *error.hints) from error
    model = Diffusers(unet=described, prediction=_prediction(folder, scheduler), **classes)
    is_clipping = str(scheduler.get("_class_name")).startswith(_CLIPPING)
    clips = is_clipping and scheduler.get("clip_sample", True) and not scheduler.get("thresholding")
    declared = Pretrained(
        name=name,
        source=Provenance(
            kind="diffusers",
            address=address,
            sha256=sha256,
            license=_license(folder),
            made_with=f"diffusers {required('diffusers', 'diffusers', 'this model').__version__}",
            remark="diffusers clips images to [-1, 1] in each of its steps (clip_sample), and ncsnx does not: scores "
            "that were published for it are of other images"
            if clips
            else "",
        ),
        shape=_shape(place, unet),
        ends=(-1.0, 1.0),
        schedule=Listed(sigmas=sigmas, sigma_max=sigmas[0], sigma_min=sigmas[-1], levels=len(sigmas)),
        model=model,
        sampler=Heun(steps=_STEPS, grid=Karras(sigma_max=min(sigmas[0], LARGEST_START), sigma_min=sigmas[-1])),
    )
    stated = ["shape", "model", "schedule", *(["source.license"] if declared.source.license != "unknown" else [])]
    tensors = _parsed(place / WEIGHTS, content)
    return FoundModel.of(declared, tensors, len(content), stated=stated, own=(0.0, 255.0))


def _require_unconditional(folder: Path, place: Path) -> None:
    """Raises NcsnxError for a pipeline of other parts, named by what it is."""
    index = read_json_object(folder / INDEX) if (folder / INDEX).is_file() else {}
    parts = {name for name, value in index.items() if not name.startswith("_") and isinstance(value, list)}
    kind = read_json_object(place / CONFIG).get("_class_name") if (place / CONFIG).is_file() else None
    if others := sorted(parts - {"unet", "scheduler"}):
        raise NcsnxError(
            f"{folder} is a {quoted(index.get('_class_name'))} with {quoted(', '.join(others))}, and only "
            "unconditional models of pixels are imported: a UNet2DModel and its scheduler"
        )
    if kind != "UNet2DModel":
        found = "has no network" if kind is None else f"has a network of class {quoted(kind)}"
        raise NcsnxError(f"{folder} {found}; expected a UNet2DModel in {place / CONFIG}")


def _sigmas(folder: Path, scheduler: Mapping[str, Any]) -> tuple[float, ...]:
    """σ_1 > … > σ_L of the steps, with ᾱ rounded as diffusers rounds it; without steps of noise alone."""
    name = scheduler.get("_class_name")
    if not {"beta_start", "beta_schedule", "trained_betas"} & set(scheduler):
        raise NcsnxError(f"{folder} has a scheduler of class {quoted(name)}, and only those with betas are read")
    fields = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
    asked = {name: scheduler[name] for name in (*fields, "rescale_betas_zero_snr") if name in scheduler}
    require_modest(asked, f"{folder}: its scheduler", most=_MOST_STEPS)
    with foreign_errors(f"{folder}: diffusers refuses its scheduler"):
        made = required("diffusers", "diffusers", "this model").DDPMScheduler.from_config(asked)
        kept = made.alphas_cumprod.double().flatten()
    kept = kept[:-1] if len(kept) and kept[-1] == 0 else kept
    sigmas = tuple(((1 - kept) / kept).sqrt().flip(0).tolist())
    if len(sigmas) < 2 or not all(_MOST_SIGMA > before > after > 0 for before, after in pairwise(sigmas)):
        raise NcsnxError(f"{folder}: the noise of its scheduler does not grow with the steps")
    return sigmas


def _prediction(folder: Path, scheduler: Mapping[str, Any]) -> Any:
    found = scheduler.get("prediction_type", "epsilon")
    if found not in ("epsilon", "v_prediction", "sample"):
        raise NcsnxError(
            f"{folder}: expected a network that predicts epsilon, v_prediction or sample, found {quoted(found)}"
        )
    return found


def _shape(place: Path, unet: Mapping[str, Any]) -> tuple[int, int, int]:
    channels, size = unet.get("in_channels", 3), unet.get("sample_size")
    found = (channels, *(size if isinstance(size, list) else [size, size]))
    if len(found) != 3 or not all(type(one) is int and 0 < one <= 16_384 for one in found):
        told = f"{quoted(channels)} and {quoted(size)}"
        raise NcsnxError(f"{place / CONFIG}: expected in_channels and sample_size, found {told}")
    if unet.get("out_channels", channels) not in (channels, 2 * channels):  # twice with learned variances
        raise NcsnxError(f"{place / CONFIG}: expected out_channels {channels}, found {quoted(unet['out_channels'])}")
    return found


def _read_weights(place: Path) -> tuple[bytes, str]:
    """The file of the weights, and its sha256."""
    path = place / WEIGHTS
    if not path.is_file():
        others = sorted(one.name for one in place.glob("*.bin"))
        also = f" (it has {', '.join(others)}, pickles, which are not read)" if others else ""
        raise NcsnxError(f"{path} is missing{also}", Hint("get the folder with its safetensors file"))
    with bounded_reads.reading(path):
        content = bounded_reads.read_bytes(path, MOST_BYTES)
    return content, hashlib.sha256(content).hexdigest()


def _parsed(path: Path, content: bytes) -> Tensors:
    if (header := int.from_bytes(content[:8], "little")) > _MOST_HEADER_BYTES:
        raise NcsnxError(f"{path} has a list of tensors of {header:,} bytes; expected at most {_MOST_HEADER_BYTES:,}")
    try:
        tensors = parse_tensors(content)
    except (SafetensorError, KeyError, AttributeError) as error:  # the library lacks some types, such as F4
        raise NcsnxError(f"{path} is not a safetensors file that is read: {quoted(str(error))}") from error
    return {f"unet.{_today(name)}": tensor for name, tensor in tensors.items()}


def _today(name: str) -> str:
    """The name of a tensor of attention as diffusers has it since 0.15."""
    pattern = r"(attentions\.\d+)\.(query|key|value|proj_attn)\."
    return re.sub(pattern, lambda found: f"{found[1]}.{_OLD_ATTENTION[found[2]]}.", name)


def _license(folder: Path) -> str:
    """The license that the card states in its metadata."""
    try:
        card = bounded_reads.read_bytes(folder / _CARD, _MOST_CARD_BYTES).decode("utf-8-sig", "replace")
    except OSError:
        return "unknown"
    lines = card.splitlines()
    if not lines or lines[0].strip() != "---" or "---" not in lines[1:]:
        return "unknown"
    found = _LICENSE.search("\n".join(lines[1 : lines.index("---", 1)]))
    return "unknown" if found is None else found[1].lower()

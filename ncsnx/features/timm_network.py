"""Networks of the package timm as features, such as DINOv2 (Oquab et al. 2023, arXiv 2304.07193).

Images are resized whole, and normalized, as each network asks. The sha256 of weights that timm downloads is recorded
at their first use and checked at every later one.
"""

import hashlib
import logging
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from ncsnx.bounded_reads import read_bytes, reading
from ncsnx.config.feature_networks import Timm
from ncsnx.config.user_code import foreign_errors, message_of
from ncsnx.errors import Hint, NcsnxError, UsageError, quoted
from ncsnx.features.feature_network import Extracted
from ncsnx.networks.optional_packages import required
from ncsnx.paths import checked_path
from ncsnx.storage import atomic
from ncsnx.work import Work


class TimmNetwork:
    """The features of a network without its last layer; of a vision transformer those that it classifies by."""

    has_logits = False

    def __init__(self, config: Timm, module: nn.Module, device: torch.device) -> None:
        timm, asked = required("timm", "timm", f"features {config.title}"), preprocessing(config, module)
        self._preprocess = timm.data.create_transform(**asked, is_training=False)
        self._module, self._device = module.to(device).eval(), device
        self.dimensions = int(module.num_features)  # type: ignore[arg-type]
        sha256 = weights_sha256(module)
        self.name = f"{config.title} {sha256[:8]}"
        self.facts: dict[str, Any] = {
            "type": "timm",
            "network": config.network,
            "sha256": sha256,
            "dimensions": self.dimensions,
            "images": {name: asked[name] for name in ("input_size", "interpolation", "mean", "std")},
            "version": timm.__version__,
        }

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Extracted:
        """Features of (B, C, H, W) uint8. Raises NcsnxError unless C is 1 or 3."""
        if images.shape[1] not in (1, 3):
            raise NcsnxError(f"{self.name} compares gray or color pictures, not {images.shape[1]} channels")
        pixels = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
        x = torch.stack([self._preprocess(Image.fromarray(one)) for one in pixels]).to(self._device)
        features: Tensor = self._module(x)
        return Extracted(features.float().cpu(), None)


def preprocessing(config: Timm, module: nn.Module) -> dict[str, Any]:
    """How the network wants images, as timm says it: `input_size` (C, H, W), `interpolation`, `mean`, `std`, …"""
    timm = required("timm", "timm", f"features {config.title}")
    asked = {**timm.data.resolve_model_data_config(module), "crop_pct": 1.0, "crop_mode": "squash"}
    return asked if config.image_size is None else asked | {"input_size": (3, config.image_size, config.image_size)}


def open_timm(config: Timm, cache: Path, device: torch.device, work: Work) -> TimmNetwork:
    """The network with its published weights, or those of `features.file`.

    Raises UsageError for an unknown network and without weights, NcsnxError for a file that doesn't fit and for
    weights that changed since their first use.
    """
    timm = required("timm", "timm", f"features {config.title}")
    options = {"num_classes": 0, **({} if config.image_size is None else {"img_size": config.image_size})}
    if not timm.is_model(config.network):
        raise UsageError(
            f"features {config.title}: timm has no network {quoted(config.network)}",
            Hint("list what it has", 'python -c "import timm; print(timm.list_pretrained())"'),
        )
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        if config.file is not None:
            module = timm.create_model(config.network, **options)
            load_weights(module, checked_path(config.file, of="features.file"))
        else:
            work.info(f"features {config.title}: weights of timm, downloaded unless they are in its cache")
            module = timm.create_model(config.network, pretrained=True, **options)
            _require_recorded(config, module, cache)
    except NcsnxError:
        raise
    except Exception as error:  # timm raises whatever its parts and the Hub's client do
        raise UsageError(
            f"features {config.title}: timm gives no {config.network} with its weights: {message_of(error)}",
            Hint("give a file of the weights", adds="features.file=FILE"),
        ) from error
    return TimmNetwork(config, module, device)


def load_weights(module: nn.Module, path: Path) -> None:
    """Loads a file of timm's weights, safetensors or of torch; nothing in it is executed. Raises NcsnxError."""
    with foreign_errors(f"{path} does not hold the weights of this network"), reading(path):
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
        module.load_state_dict({name: tensor for name, tensor in state.items() if name in module.state_dict()})


def weights_sha256(module: nn.Module) -> str:
    """sha256 (hexadecimal) of the network's tensors, in the order of their names."""
    hasher = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        hasher.update(name.encode() + tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


def _require_recorded(config: Timm, module: nn.Module, cache: Path) -> None:
    """Records the sha256 of downloaded weights at their first use. Raises NcsnxError if it changed since.

    Embeddings of positions are resized to the size of the images, so that each size has a hash of its own.
    """
    size = "" if config.image_size is None else f"-{config.image_size}px"
    record, found = cache / "timm" / f"{config.network}{size}.sha256", weights_sha256(module)
    try:
        known = read_bytes(record, 200).decode().strip()
    except OSError:
        atomic.make_folder(record.parent)
        atomic.write_bytes(record, found.encode())
        return
    if known != found:
        raise NcsnxError(
            f"the weights of {config.network} have the sha256 {found}, not {known} as at their first use",
            Hint("if you trust the new ones, forget the old", f"rm {record}"),
        )

"""Denoisers of the package deepinv, by their name: `deepinv:DRUNet`, or `deepinv:DRUNet=FILE` with weights at hand.

The weights are files of torch, which are read here, and not by deepinv, so that nothing in them is executed.
"""

from collections.abc import Mapping
from pathlib import Path

import attrs
import torch

from ncsnx.config import Deepinv, Experiment, Geometric, Heun, Pretrained, Provenance
from ncsnx.data.download import PublishedFile, download
from ncsnx.errors import NcsnxError, UsageError, shortened
from ncsnx.exchange.model_source import FoundModel, ModelSource, source
from ncsnx.exchange.torch_files import read_torch_file
from ncsnx.networks.optional_packages import required
from ncsnx.paths import checked_path
from ncsnx.runs.checkpoint import Tensors
from ncsnx.storage.cache import cache_folder
from ncsnx.work import Work

_HUB = "https://huggingface.co/deepinv"


@attrs.frozen
class _Known:
    """A denoiser whose noise is known, of color pictures in [0, 1]."""

    sigma_max: float
    """Largest noise of the training."""
    weights: str
    """Address of its weights in deepinv's source."""
    side: int = 128
    """Height and width that it draws; it takes others too."""
    remark: str = "a denoiser, which restores pictures whose parts are all there, and draws none"


_KNOWN: Mapping[str, _Known] = {
    # Zhang et al. 2021, arXiv 2008.13751, section 4.1
    "DRUNet": _Known(50 / 255, f"{_HUB}/drunet/resolve/main/drunet_deepinv_color_finetune_22k.pth"),
    # Zhang et al. 2018, arXiv 1710.04026, section IV-B
    "FFDNet": _Known(75 / 255, f"{_HUB}/FFDNet/resolve/main/ffdnet_color.pth"),
    # Karras et al. 2022, arXiv 2206.00364, table 1, where pictures are in [−1, 1]
    "NCSNpp": _Known(80 / 2, f"{_HUB}/edm/resolve/main/edm-ffhq-64x64-uncond-ve.pt", 64, remark="faces (FFHQ)"),
}
_SIGMA_MIN = 0.001


@source
class DeepinvDenoiser(ModelSource):
    """A denoiser of deepinv."""

    kind = "deepinv"
    form = f"deepinv:NAME or deepinv:NAME=FILE, for {', '.join(_KNOWN)}"

    def recognizes(self, address: str) -> bool:
        return address.startswith("deepinv:")

    def read(self, address: str, experiment: Experiment | None, work: Work) -> FoundModel:
        name, has_file, file = address.removeprefix("deepinv:").partition("=")
        if name not in _KNOWN or bool(has_file) != bool(file):
            raise UsageError(
                f"{shortened(ascii(address))}: expected one of {', '.join(_KNOWN)}; in Python, "
                "ncsnx.Model.of takes any denoiser of deepinv"
            )
        known = _KNOWN[name]
        version = required("deepinv", "science", "this model").__version__
        path = checked_path(file, of="SOURCE") if file else _downloaded(name, work)
        tensors, sha256, size = _read_weights(path)
        declared = Pretrained(
            name=f"deepinv-{name.lower()}",
            source=Provenance(
                kind="deepinv",
                address=path.name,
                sha256=sha256,
                made_with=f"deepinv {version}",
                remark=f"trained for noise of at most {known.sigma_max:.3g} of images in [0, 1]: {known.remark}",
            ),
            shape=(_channels(name, tensors), known.side, known.side),
            ends=(0.0, 1.0),
            schedule=Geometric(sigma_max=known.sigma_max, sigma_min=_SIGMA_MIN, levels=20),
            model=Deepinv(denoiser=name),
            sampler=Heun(steps=20),
        )
        state = {f"denoiser.{name}": tensor for name, tensor in tensors.items()}
        return FoundModel.of(declared, state, size, stated=(), own=(0.0, 255.0))


def _channels(name: str, tensors: Tensors) -> int:
    """Channels of the images, of which the last convolution of FFDNet gives four parts."""
    last = next((tensor for tensor in reversed(tensors.values()) if tensor.dim() == 4), None)
    return 3 if last is None else min(max(1, last.shape[0] // (4 if name == "FFDNet" else 1)), 16_384)


def _downloaded(name: str, work: Work) -> Path:
    path = cache_folder() / "deepinv" / Path(_KNOWN[name].weights).name
    download(PublishedFile(_KNOWN[name].weights), path, work, otherwise=f", or type deepinv:{name}=FILE")
    return path


def _read_weights(path: Path) -> tuple[Tensors, str, int]:
    """Tensors by name, sha256 and size of a file of torch."""
    found, sha256, size = read_torch_file(path, "a file of weights")
    if not isinstance(found, dict) or not all(isinstance(one, torch.Tensor) for one in found.values()):
        raise NcsnxError(f"{path} holds no tensors by name")
    return found, sha256, size

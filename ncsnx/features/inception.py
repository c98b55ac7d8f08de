"""clean-fid's Inception network: the features of FID (Heusel et al., arXiv 1706.08500) and of the Inception score.

The file is a TorchScript translation of the network inception-2015-12-05 that came with StyleGAN2-ADA. As in clean-fid,
features are x → layers((x − 128)/128). The file is downloaded once from its fixed address; its sha256 is checked then
and at every later use.

Only the published file is called 'Inception', so only its scores are called FID, KID and IS. Any other file with this
structure that `features.file` names is used with a warning and named after the beginning of its sha256, such as
'Inception file 1a2b3c4d'.

The logits follow StyleGAN2-ADA's Inception score, which calls the same file with no_output_bias=True: the features
times the weight of the last layer, `output`, without bias, as in Salimans et al. (arXiv 1606.03498). The name `layers`
is from clean-fid's source, `output` from published code that inspects the file; a file without `output` gives features
only. The tests use a small stand-in with this structure, so the two names weren't confirmed with the published weights.
A wrong name would be an error, or give no logits.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ncsnx.bounded_reads import sha256_of
from ncsnx.config.feature_networks import Inception
from ncsnx.data.download import DownloadError, PublishedFile, download
from ncsnx.errors import Hint, NcsnxError
from ncsnx.features.feature_network import INCEPTION, Extracted, distance_name
from ncsnx.features.torchscript import INCEPTION_SIZE, CleanResizer, last_line, load_script
from ncsnx.paths import checked_path
from ncsnx.quantities import counted
from ncsnx.spelling import argument, parameter
from ncsnx.storage.cache import cache_lock
from ncsnx.work import Work

INCEPTION_FILE = "inception-2015-12-05.pt"
SOURCE = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{INCEPTION_FILE}"
"""Address in clean-fid's downloads_helper.py."""
SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
"""sha256 of the published file. k-diffusion (k_diffusion/evaluation.py) checks downloads from that address against it,
and H2CEvaluator (Leoxing/H2CEvaluator on Hugging Face) its own copy."""
_DIMENSIONS = 2048


class InceptionNetwork:
    """Features as in clean-fid, and logits without bias."""

    dimensions = _DIMENSIONS

    def __init__(self, path: Path, device: torch.device, published: str = SHA256) -> None:
        module, sha256 = load_script(path, device)
        self.name = INCEPTION if sha256 == published else f"{INCEPTION} file {sha256[:8]}"
        self._device = device
        self._resizer = CleanResizer(INCEPTION_SIZE)
        self._layers = _layers(module, path, device)
        self._weight = _output_weight(module)
        self.has_logits = self._weight is not None
        self.facts: dict[str, Any] = {
            "type": "inception",
            "sha256": sha256,
            "dimensions": self.dimensions,
            "images": self._resizer.description,
        }

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Extracted:
        """Features and logits of (B, C, H, W) uint8. Raises NcsnxError unless C is 1 or 3."""
        x = self._resizer(images).to(self._device)
        features = self._layers((x - 128) / 128).view(len(x), _DIMENSIONS)
        logits = None if self._weight is None else F.linear(features, self._weight).cpu()
        return Extracted(features.cpu(), logits)


def open_inception(
    config: Inception,
    cache: Path,
    device: torch.device,
    work: Work,
    *,
    source: str = SOURCE,
    published: str = SHA256,
) -> InceptionNetwork:
    """The network in the file that `config` names, or in the cached file, which is downloaded from `source` if needed.

    Warns if the sha256 of a named file isn't the published one. Raises NcsnxError if the file can't be downloaded or
    read, or has another structure, and for a cached one with another sha256.
    """
    if config.file is not None:
        path = checked_path(config.file, of="features.file")
    else:
        path = _downloaded(cache / "inception" / INCEPTION_FILE, work, source, published)
    network = InceptionNetwork(path, device, published)
    if network.name != INCEPTION:
        work.warning(
            f"{path} is not the published {INCEPTION_FILE}: its sha256 is {network.facts['sha256']}, not {published}; "
            f"its scores are called {distance_name(network.name)} and the like, not FID"
        )
    return network


def _downloaded(path: Path, work: Work, source: str, published: str) -> Path:
    """The path, at which the published file is."""

    def contradiction(file: Path) -> str | None:
        found = sha256_of(file)
        return None if found == published else f"has the sha256 {found}, not the published {published}"

    otherwise = f", or name it with {parameter('features')} inception:FILE"
    try:
        with cache_lock(path.parent, INCEPTION_FILE, work):
            download(PublishedFile(source, check=contradiction), path, work, otherwise=otherwise)
    except DownloadError as error:
        own = Hint("or compare by a classifier of the run's own images", adds=argument("features", "classifier"))
        raise DownloadError(error.message, *error.hints, own) from error
    return path


def _layers(module: torch.jit.ScriptModule, path: Path, device: torch.device) -> torch.jit.ScriptModule:
    """The part of the network that computes features, checked on a gray image."""
    try:
        with torch.no_grad():
            features = module.layers(torch.zeros(1, 3, INCEPTION_SIZE, INCEPTION_SIZE, device=device))
        if features.numel() == _DIMENSIONS:
            return module.layers  # type: ignore[no-any-return]
        found = f"it gives {tuple(features.shape)}"
    except (AttributeError, RuntimeError) as error:
        found = last_line(error)
    raise NcsnxError(
        f"{path} is not the Inception network {INCEPTION_FILE}: expected a part `layers` that gives "
        f"{counted(_DIMENSIONS, 'feature')} per image, but {found}",
        Hint("use another network", adds=argument("features", f"torchscript:{path}")),
    )


def _output_weight(module: torch.jit.ScriptModule) -> Tensor | None:
    """Weight (K, 2048) of the last layer; None if the file has none."""
    weight = getattr(getattr(module, "output", None), "weight", None)
    if isinstance(weight, Tensor) and weight.shape[1:] == (_DIMENSIONS,):
        return weight.detach().to(torch.float32)
    return None

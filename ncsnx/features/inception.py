"""clean-fid's Inception network: the features of FID (Heusel et al., arXiv 1706.08500) and of the Inception score.

The file is a TorchScript translation of the network inception-2015-12-05 that came with StyleGAN2-ADA. As in clean-fid,
features are x → layers((x − 128)/128). The file is downloaded once from its fixed address; its sha256 is recorded then
and checked at every later use.

Only the published file, identified by its sha256, is called 'Inception', so only its scores are called FID, KID and IS.
Any other file with this structure, given or downloaded, is used with a warning and named after the beginning of its
sha256, such as 'Inception file 1a2b3c4d'.

The logits follow StyleGAN2-ADA's Inception score, which calls the same file with no_output_bias=True: the features
times the weight of the last layer, `output`, without bias, as in Salimans et al. (arXiv 1606.03498). The name `layers`
is from clean-fid's source, `output` from published code that inspects the file; a file without `output` gives features
only. The tests use a small stand-in with this structure, so the two names weren't confirmed with the published weights.
A wrong name would be an error, or give no logits.
"""

import hashlib
from pathlib import Path
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from ncsnx.config.feature_networks import Inception
from ncsnx.data.download import DownloadError, PublishedFile, download
from ncsnx.errors import Hint, NcsnxError
from ncsnx.features.feature_network import INCEPTION, Extracted, distance_name
from ncsnx.features.resizing import INCEPTION_SIZE, CleanResizer
from ncsnx.features.torchscript import first_line, load_script, read_file
from ncsnx.paths import typed_path
from ncsnx.quantities import counted
from ncsnx.spelling import argument, parameter
from ncsnx.storage.cache import cache_lock
from ncsnx.storage.documents import document, read_document, write_document
from ncsnx.storage.zips import is_zip
from ncsnx.work import Work

INCEPTION_FILE = "inception-2015-12-05.pt"
SOURCE = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{INCEPTION_FILE}"
"""Address in clean-fid's downloads_helper.py."""
SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
"""sha256 of the published file. k-diffusion (k_diffusion/evaluation.py) checks downloads from that address against it,
and H2CEvaluator (Leoxing/H2CEvaluator on Hugging Face) its own copy."""
INCEPTION_RECORD = "inception-2015-12-05.json"
_DIMENSIONS = 2048


@document("the record of a download", advice=f"remove it and {INCEPTION_FILE} beside it, then repeat the command")
@attrs.frozen(kw_only=True)
class InceptionRecord:
    """Record of the file in the cache, from its first download or use."""

    file: str
    sha256: str
    """sha256 in hexadecimal."""
    bytes: int
    source: str | None
    """Address of the download; None for a file that was put there by hand."""


class InceptionNetwork:
    """Features as in clean-fid, and logits without bias."""

    dimensions = _DIMENSIONS

    def __init__(self, content: bytes, path: Path, device: torch.device, published: str = SHA256) -> None:
        sha256 = hashlib.sha256(content).hexdigest()
        self.name = INCEPTION if sha256 == published else f"{INCEPTION} file {sha256[:8]}"
        self._device = device
        self._resizer = CleanResizer(INCEPTION_SIZE)
        module = load_script(content, path, device)
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

    Warns if the sha256 isn't the published one. Raises NcsnxError if the file can't be downloaded or read, isn't the
    recorded one, or has another structure.
    """
    if config.file is not None:
        path = typed_path(config.file, of="features.file")
        network = InceptionNetwork(read_file(path), path, device, published)
    else:
        path = cache / "inception" / INCEPTION_FILE
        network = _cached(path, device, work, source, published)
    if network.name != INCEPTION:
        work.warning(
            f"{path} is not the published {INCEPTION_FILE}: its sha256 is {network.facts['sha256']}, not {published}; "
            f"its scores are called {distance_name(network.name)} and the like, not FID"
        )
    return network


def _cached(path: Path, device: torch.device, work: Work, source: str, published: str) -> InceptionNetwork:
    folder = path.parent
    with cache_lock(folder, INCEPTION_FILE, work):
        downloading = not path.exists()
        if downloading:
            otherwise = f", or name it with {parameter('features')} inception:FILE"
            try:
                download(PublishedFile(source, check=_contradiction), path, work, otherwise=otherwise)
            except DownloadError as error:
                own = Hint(
                    "or compare by a classifier of the run's own images", adds=argument("features", "classifier")
                )
                raise DownloadError(error.message, *error.hints, own) from error
        content = read_file(path)
        recorded = _recorded_sha256(folder / INCEPTION_RECORD)
        if recorded is not None:
            _require_same(path, recorded, hashlib.sha256(content).hexdigest())
        network = InceptionNetwork(content, path, device, published)
        if recorded is None:  # recorded only after it proved to be a valid network
            came_from = source if downloading else None
            _record(folder / INCEPTION_RECORD, network.facts["sha256"], len(content), came_from, work)
    return network


def _layers(module: torch.jit.ScriptModule, path: Path, device: torch.device) -> torch.jit.ScriptModule:
    """The part of the network that computes features, checked on a grey image."""
    layers = getattr(module, "layers", None)
    found = "has no part named layers"
    if layers is not None:
        grey = torch.zeros(1, 3, INCEPTION_SIZE, INCEPTION_SIZE, device=device)
        try:
            with torch.no_grad():
                features = layers(grey)
            found = f"gives {tuple(features.shape)} for one image"
        except RuntimeError as error:
            found = f"fails on an image of {INCEPTION_SIZE}×{INCEPTION_SIZE} pixels ({first_line(error)})"
        else:
            if features.numel() == _DIMENSIONS:
                return layers  # type: ignore[no-any-return]
    raise NcsnxError(
        f"{path} is not the Inception network {INCEPTION_FILE}: expected a part `layers` that gives "
        f"{counted(_DIMENSIONS, 'feature')} per image, but it {found}",
        Hint("use another network", adds=argument("features", f"torchscript:{path}")),
    )


def _output_weight(module: torch.jit.ScriptModule) -> Tensor | None:
    """Weight (K, 2048) of the last layer; None if the file has none."""
    weight = getattr(getattr(module, "output", None), "weight", None)
    if isinstance(weight, Tensor) and weight.dim() == 2 and weight.shape[1] == _DIMENSIONS:
        return weight.detach().to(torch.float32)
    return None


def _contradiction(path: Path) -> str | None:
    return None if is_zip(path) else "is not a TorchScript file"


def _recorded_sha256(record: Path) -> str | None:
    """The recorded sha256; None before the first download."""
    try:
        return read_document(record, InceptionRecord).sha256
    except FileNotFoundError:
        return None


def _require_same(path: Path, recorded: str, found: str) -> None:
    if found != recorded:
        raise NcsnxError(
            f"{path}: its sha256 is {found}, not {recorded} as recorded at its first download; remove it, then repeat "
            "the command to download it again"
        )


def _record(record: Path, sha256: str, size: int, source: str | None, work: Work) -> None:
    """Writes the record of the cached file. source: None for a file that was put there by hand."""
    write_document(record, InceptionRecord(file=INCEPTION_FILE, sha256=sha256, bytes=size, source=source))
    work.info(f"recorded the sha256 of {INCEPTION_FILE} in {record}: {sha256}")

"""clean-fid's Inception network: the features of FID (Heusel et al., arXiv 1706.08500) and of the Inception score.

The file is a TorchScript translation of the network inception-2015-12-05 that came with StyleGAN2-ADA; clean-fid
takes its features from it as x → layers((x − 128)/128), and so does this module. It is downloaded once from its fixed
address; its sha256 is recorded then and checked ever after.

The logits follow StyleGAN2-ADA's metric for the Inception score, which calls the same file with no_output_bias=True:
the features times the weight of the last layer, `output`, without its bias, as Salimans et al. did (arXiv 1606.03498).
The name `layers` is from clean-fid's source, `output` from published code that takes the file apart; a file without
such an `output` gives features only. The tests run on a small stand-in of this structure, not on the weights
themselves, so that for the weights the names alone are unconfirmed; a wrong one is an error or gives no logits.
"""

import hashlib
import http.client
import json
import math
import os
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ncsnx.cache import making
from ncsnx.config.features import Inception
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.features import Extracted
from ncsnx.evaluation.resizing import INCEPTION_SIZE, CleanResizer
from ncsnx.evaluation.torchscript import first_line, load_script, read_file
from ncsnx.runs import atomic
from ncsnx.work import Work

FILE = "inception-2015-12-05.pt"
SOURCE = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{FILE}"
"""The address in clean-fid's downloads_helper.py."""
RECORD = "inception-2015-12-05.json"
DIMENSIONS = 2048
_MIB = 2**20
_TIMEOUT_S = 60.0


class InceptionNetwork:
    """Features as clean-fid computes them, and logits without bias."""

    name = "Inception"
    dimensions = DIMENSIONS

    def __init__(self, content: bytes, path: Path, device: torch.device) -> None:
        self._device = device
        self._resizer = CleanResizer(INCEPTION_SIZE)
        module = load_script(content, path, device)
        self._layers = _layers(module, path, device)
        self._weight = _output_weight(module)
        self.has_logits = self._weight is not None
        self.facts: dict[str, Any] = {
            "type": "inception",
            "sha256": hashlib.sha256(content).hexdigest(),
            "dimensions": self.dimensions,
            "images": self._resizer.description,
        }

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Extracted:
        """Features and logits of (B, C, H, W) uint8. Raises NcsnxError unless C is 1 or 3."""
        x = self._resizer(images).to(self._device)
        features = self._layers((x - 128) / 128).view(len(x), DIMENSIONS)
        logits = None if self._weight is None else F.linear(features, self._weight).cpu()
        return Extracted(features.cpu(), logits)


def open_inception(
    config: Inception, cache: Path, device: torch.device, work: Work, source: str = SOURCE
) -> InceptionNetwork:
    """The network of the file that `config` names, else of the one in the cache, downloaded from `source` if need be.

    Raises NcsnxError where it can't be had, isn't the file that was recorded, or is another network.
    """
    if config.file is not None:
        path = Path(config.file).expanduser()
        return InceptionNetwork(read_file(path), path, device)
    folder = cache / "inception"
    path = folder / FILE
    with making(folder, FILE, work):
        if not path.exists():
            download(source, path, work)
        content = read_file(path)
        recorded = _recorded_sha256(folder / RECORD)
        if recorded is not None:
            _require_same(path, recorded, hashlib.sha256(content).hexdigest())
        network = InceptionNetwork(content, path, device)
        if recorded is None:  # only what turned out to be such a network is recorded
            _record(folder / RECORD, network.facts["sha256"], len(content), source, work)
    return network


def _layers(module: torch.jit.ScriptModule, path: Path, device: torch.device) -> torch.jit.ScriptModule:
    """The part of the network that makes features, tried on a grey image."""
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
            if features.numel() == DIMENSIONS:
                return layers  # type: ignore[no-any-return]
    raise NcsnxError(
        f"{path}: expected the Inception network {FILE}, whose layers give {DIMENSIONS:,} features an image; this one "
        f"{found}; for another network use --features torchscript:{path}"
    )


def _output_weight(module: torch.jit.ScriptModule) -> Tensor | None:
    """(K, 2048): the weight of the last layer; None where the file has none."""
    weight = getattr(getattr(module, "output", None), "weight", None)
    if isinstance(weight, Tensor) and weight.dim() == 2 and weight.shape[1] == DIMENSIONS:
        return weight.detach().to(torch.float32)
    return None


def download(source: str, path: Path, work: Work) -> None:
    """Gets `source` into `path`, which is there whole or not at all. Raises NcsnxError."""
    temporary = atomic.temporary_sibling(path)
    try:
        try:
            with urllib.request.urlopen(source, timeout=_TIMEOUT_S) as response:
                expected, received = _receive(response, temporary, path, work)
        except urllib.error.HTTPError as error:
            with error:  # it is the answer too, and holds the connection
                raise _unavailable(source, path, f"the server answers {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise _unavailable(source, path, str(reason) or type(error).__name__) from error
        if expected is not None and received != expected:
            raise _unavailable(source, path, f"it broke off after {received:,} of {expected:,} bytes")
        if not zipfile.is_zipfile(temporary):
            raise _unavailable(source, path, f"what came, {received:,} bytes, is no TorchScript file")
        with atomic.reporting(path):
            temporary.replace(path)
            atomic.sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _receive(response: http.client.HTTPResponse, temporary: Path, path: Path, work: Work) -> tuple[int | None, int]:
    """Writes what comes into a new file; gives the bytes that were announced and those that came."""
    length = response.headers.get("Content-Length")
    expected = int(length) if length and length.isdecimal() else None
    received = 0
    total = math.ceil((expected or 0) / _MIB)
    with atomic.reporting(path, expected):
        file = temporary.open("xb")
    with file, work.progress(f"downloading {path.name}", total=total, unit="MiB") as advance:
        while chunk := response.read(_MIB):
            work.check_stop()
            with atomic.reporting(path, expected):
                file.write(chunk)
            received += len(chunk)
            advance()
        with atomic.reporting(path, expected):
            file.flush()
            os.fsync(file.fileno())
    return expected, received


def _unavailable(source: str, path: Path, reason: str) -> NcsnxError:
    return NcsnxError(
        f"can't download {path.name} from {source}: {reason}; repeat the command, or get the file elsewhere and put it "
        f"into {path.parent}, or name it with --features inception:FILE"
    )


def _recorded_sha256(record: Path) -> str | None:
    """What was recorded at the first download; None before it."""
    try:
        return str(json.loads(record.read_bytes())["sha256"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NcsnxError(
            f"{record}: expected the recorded sha256 of {FILE}, which can't be read from it ({error}); remove it and "
            f"{record.with_name(FILE)}, then repeat the command"
        ) from error


def _require_same(path: Path, recorded: str, found: str) -> None:
    if found != recorded:
        raise NcsnxError(
            f"{path}: expected the file whose sha256 was recorded at its first download, {recorded}, found {found}; "
            "remove it, then repeat the command to download it again"
        )


def _record(record: Path, sha256: str, size: int, source: str, work: Work) -> None:
    atomic.write_json(record, {"file": FILE, "sha256": sha256, "bytes": size, "source": source})
    work.info(f"recorded the sha256 of {FILE} in {record}: {sha256}")

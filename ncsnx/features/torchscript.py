"""TorchScript files as feature networks.

The files are executed, so they come from the command line or a known address only.

The network gets (B, 3, S, S) float32 in 0 … 255, resized as in clean-fid, or, with `image_size=None`, images that
aren't resized, (B, C, H, W) float32 in 0 … 255. It returns (B, D) features, or a tuple of (B, D) features and (B, K)
logits.
"""

import hashlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncsnx.bounded_reads import read_bytes
from ncsnx.config.feature_networks import TorchScript
from ncsnx.errors import NcsnxError
from ncsnx.features.feature_network import Extracted
from ncsnx.paths import checked_path
from ncsnx.quantities import counted

AS_THEY_ARE = "as they are"
INCEPTION_SIZE = 299
MOST_BYTES = 8 * 2**30
"""Most bytes of a network file, far above those of feature networks in use."""


def load_script(path: Path, device: torch.device) -> tuple[torch.jit.ScriptModule, str]:
    """The TorchScript module in a file, in evaluation mode, and the sha256 of the file. Raises NcsnxError."""
    try:
        content = read_bytes(path, MOST_BYTES)
    except OSError as error:
        raise NcsnxError(f"{path}: cannot be read: {error.strerror or error}; check the name of the file") from error
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, message="`torch.jit.load` is deprecated")
        try:
            module: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]
                io.BytesIO(content), map_location=device
            )
        except Exception as error:
            size = counted(len(content), "byte")
            raise NcsnxError(
                f"{path} ({size}) cannot be loaded as a TorchScript file, as torch.jit.save writes: {last_line(error)}"
            ) from error
    return module.eval(), hashlib.sha256(content).hexdigest()


def last_line(error: Exception) -> str:
    """Last line of an error of TorchScript, which says what went wrong after showing where."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


class CleanResizer:
    """Resizes images to a square by clean-fid (Parmar, Zhang & Zhu, CVPR 2022, arXiv 2104.11222).

    That is bicubic with antialiasing, each channel as float32, without rounding to 8 bits.
    """

    def __init__(self, size: int = INCEPTION_SIZE) -> None:
        from cleanfid.resize import make_resizer  # its import takes a second

        self.size = size
        self._resize: Callable[[NDArray[Any]], NDArray[Any]] = make_resizer("PIL", False, "bicubic", (size, size))

    @property
    def description(self) -> str:
        """Description for protocols."""
        return f"clean-fid bicubic {self.size}"

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 → (B, 3, size, size) float32 in 0 … 255, on the CPU; a single channel is repeated.

        Raises NcsnxError unless C is 1 or 3.
        """
        count, channels, height, width = images.shape
        if channels not in (1, 3):
            raise NcsnxError(
                f"features that need resizing take images of 1 or 3 channels, not {channels}; take a classifier, or a "
                "TorchScript network with features.image_size=none"
            )
        planes = images.cpu().reshape(-1, height, width).numpy()
        resized = np.empty((len(planes), self.size, self.size), dtype=np.float32)
        with warnings.catch_warnings():
            # some versions of Pillow deprecate the argument by which clean-fid passes the type of its pixels
            warnings.filterwarnings("ignore", category=DeprecationWarning, message="'mode' parameter")
            for start in range(0, len(planes), 3):  # channels are resized independently, so any planes can be channels
                three = planes[start : start + 3]
                padded = np.concatenate([three, three[:1].repeat(3 - len(three), axis=0)])
                resized[start : start + 3] = self._resize(padded.transpose(1, 2, 0)).transpose(2, 0, 1)[: len(three)]
        each = torch.from_numpy(resized).view(count, channels, self.size, self.size)
        return each.expand(-1, 3, -1, -1).contiguous()


class TorchScriptNetwork:
    """A user's own network with the interface described in this module's docstring."""

    def __init__(self, path: Path, image_size: int | None, shape: tuple[int, int, int], device: torch.device) -> None:
        self._path = path
        self._device = device
        self._module, sha256 = load_script(path, device)
        self._resizer = CleanResizer(image_size) if image_size is not None else None
        seen = self(torch.zeros(1, *shape, dtype=torch.uint8))
        self.dimensions = seen.features.shape[1]
        self.has_logits = seen.logits is not None
        self.name = f"TorchScript {path.name} {sha256[:8]}"
        self.facts: dict[str, Any] = {
            "type": "torchscript",
            "sha256": sha256,
            "dimensions": self.dimensions,
            "images": self._resizer.description if self._resizer else AS_THEY_ARE,
        }

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Extracted:
        """Features, and logits if the network gives them. Raises NcsnxError if it fails or returns anything else."""
        x = self._resizer(images) if self._resizer else images.to(torch.float32)
        try:
            returned = self._module(x.to(self._device))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise NcsnxError(
                f"{self._path}: the network fails on images of shape {tuple(x.shape)}, float32 in 0 … 255: "
                f"{last_line(error)}"
            ) from error
        features, logits = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)
        for part in (features,) if logits is None else (features, logits):
            if not isinstance(part, Tensor) or part.dim() != 2 or len(part) != len(images) or part.shape[1] == 0:
                found = f"of shape {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
                raise NcsnxError(
                    f"{self._path}: for {counted(len(images), 'image')} the network returned {found}; expected "
                    f"features of shape ({len(images)}, D), or a tuple of them and logits of shape ({len(images)}, K)"
                )
        return Extracted(features.float().cpu(), None if logits is None else logits.float().cpu())


def open_torchscript(
    config: TorchScript, shape: tuple[int, int, int] | None, device: torch.device
) -> TorchScriptNetwork:
    """The network in the file that `config` names, after a trial call.

    shape: (C, H, W) of the images, needed if they aren't resized. Raises NcsnxError for a file that is unreadable or
    not TorchScript, and for a network that breaks the contract.
    """
    path = checked_path(config.file, of="features.file")
    if config.image_size is not None:
        shape = (3, config.image_size, config.image_size)
    if shape is None:
        raise NcsnxError(f"{path}: without a data set the shape of images is unknown; set image_size to resize them")
    return TorchScriptNetwork(path, config.image_size, shape, device)

"""Images that were drawn into a folder, as `sample` returns them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import safetensors.torch

from ncsnx.images import ImageBatch
from ncsnx.quantities import counted
from ncsnx.results import Result
from ncsnx.sampling.sample_folder import SampleFolder


@attrs.frozen(kw_only=True, repr=False)
class SampledImages(Result):
    """Images in a folder, with the protocol that reproduces them."""

    output: SampleFolder = attrs.field(repr=False)

    @property
    def folder(self) -> Path:
        """Folder of everything that was written."""
        return self.output.path

    @property
    def samples(self) -> Path:
        """File of all images: safetensors, one tensor `samples`, float32 in [0, 1], or own values of unbounded data."""
        return self.output.samples_path

    @property
    def protocol(self) -> Mapping[str, Any]:
        """Values that determine the images."""
        return self.output.protocol

    @property
    def grid(self) -> Path:
        """A PNG with the first images."""
        return self.folder / "grid.png"

    @property
    def images(self) -> tuple[Path, ...]:
        """A PNG for each image."""
        return tuple(sorted((self.folder / "images").glob("*.png")))

    def tensor(self) -> ImageBatch:
        """All images, (N, C, H, W) float32 on the CPU: in [0, 1], or unbounded; read at each call."""
        images = safetensors.torch.load_file(self.samples)["samples"]
        return ImageBatch.of(images, self.output.window)

    def to_json(self) -> object:
        return {"folder": str(self.folder), **self.protocol}

    def heading(self) -> tuple[str, str]:
        return counted(len(self.images), "image"), str(self.folder)

    def picture(self) -> bytes | None:
        return self.grid.read_bytes() if self.grid.is_file() else None

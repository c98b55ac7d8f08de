"""Intermediate sums of an unfinished reference, saved in the cache so that an interrupted build resumes.

    references/.DIGEST/gathered    a sha256, followed by the safetensors content it belongs to

The sums run over all images so far, in float64 and in image order, so an interrupted build ends with the same bits as
an uninterrupted one. They are saved when the build is stopped, and every minute in case it is killed.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ncsnx.errors import NcsnxError, Stopped
from ncsnx.features.moments import Moments
from ncsnx.quantities import counted
from ncsnx.storage import atomic, reading

_FILE = "gathered"
_EVERY_S = 60.0
_DIGEST_BYTES = hashlib.sha256().digest_size
_PARTS = ("first", "second")


@attrs.define(eq=False)
class Gathered:
    """Moments and sampled features of the first `done` images."""

    parts: tuple[Moments, Moments]
    """Moments of the two parts of the images."""
    samples: list[Tensor]
    """Sampled features, each (m, D) float32."""
    done: int = 0
    shape: tuple[int, ...] = ()
    """Shape of the last image, (C, H, W); empty before the first."""
    is_whole: bool = True
    """False while images are being added, since a signal may interrupt anywhere."""

    @classmethod
    def empty(cls, dimensions: int) -> "Gathered":
        """Sums over no images, in features of `dimensions` numbers."""
        return cls((Moments.empty(dimensions), Moments.empty(dimensions)), [torch.zeros(0, dimensions)])

    @property
    def sample(self) -> Tensor:
        """The sampled features: (m, D) float32."""
        return torch.cat(self.samples)

    def add(self, features: Tensor, in_first: Tensor, chosen: Tensor, shape: tuple[int, ...]) -> None:
        """Adds the (B, D) features of the next images.

        in_first, chosen: whether each image belongs to the first part, and to the sample; (B,) bool.
        """
        self.is_whole = False
        first, second = self.parts
        first.add(features[in_first])
        second.add(features[~in_first])
        self.samples.append(features[chosen])
        self.done += len(features)
        self.shape = shape
        self.is_whole = True

    def to_bytes(self) -> bytes:
        """A sha256, followed by the safetensors content it belongs to."""
        tensors = {"sample": self.sample, "done": torch.tensor(self.done), "shape": torch.tensor(self.shape)}
        for name, part in zip(_PARTS, self.parts, strict=True):
            tensors[f"{name}.count"] = torch.tensor(part.count)
            tensors[f"{name}.mean"], tensors[f"{name}.scatter"] = part.mean, part.scatter
        content = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
        return hashlib.sha256(content).digest() + content

    @classmethod
    def from_bytes(cls, content: bytes) -> "Gathered | None":
        """The inverse of `to_bytes`; None for any other content."""
        digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        try:
            found = safetensors.torch.load(content)
            first, second = (
                Moments(int(found[f"{name}.count"]), found[f"{name}.mean"], found[f"{name}.scatter"]) for name in _PARTS
            )
            return cls((first, second), [found["sample"]], int(found["done"]), tuple(found["shape"].tolist()))
        except (SafetensorError, KeyError):  # written by another version
            return None


class Gathering:
    """Saves intermediate sums in a folder of the cache, and loads those of an interrupted build."""

    def __init__(self, folder: Path, dimensions: int) -> None:
        self._path = folder / _FILE
        self._next_s = time.monotonic() + _EVERY_S
        self.gathered = self._found(dimensions) or Gathered.empty(dimensions)

    def _found(self, dimensions: int) -> Gathered | None:
        try:
            found = Gathered.from_bytes(reading.read_bytes(self._path))
        except OSError:
            return None
        return found if found is not None and len(found.parts[0].mean) == dimensions else None

    @contextlib.contextmanager
    def kept(self) -> Iterator[Gathered]:
        """Gives the sums to add to. Saves them if the block is stopped; an error removes them."""
        try:
            yield self.gathered
        except Stopped as stopped:
            if self.gathered.done and self.gathered.is_whole and self._keep():
                stopped.then = (
                    f"{counted(self.gathered.done, 'image')} measured, and the same command resumes after them"
                )
            raise
        except NcsnxError:
            self.discard()
            raise

    def keep_at_times(self) -> None:
        """Saves the sums, at most once per minute."""
        if time.monotonic() >= self._next_s:
            self._keep()
            self._next_s = time.monotonic() + _EVERY_S

    def discard(self) -> None:
        """Removes the saved sums."""
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _keep(self) -> bool:
        """Saves the sums; False if they can't be written, for example on a full disk."""
        try:
            atomic.write_bytes(self._path, self.gathered.to_bytes())
        except NcsnxError:
            return False
        return True

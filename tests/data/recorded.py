"""Images in memory whose data set records what is read of it, and may fail."""

import attrs
import torch
from torch import Tensor

from ncsnx.data import InMemory
from ncsnx.data.dataset import Dataset, StoredImages
from ncsnx.errors import NcsnxError


@attrs.frozen(eq=False)
class Recorded(Dataset):
    """A data set that records which images are read, and fails at some."""

    inner: InMemory
    reads: list[int] = attrs.field(factory=list)
    broken: list[int] = attrs.field(factory=list)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.inner.shape

    @property
    def value_range(self) -> tuple[float, float]:
        return self.inner.value_range

    def __len__(self) -> int:
        return len(self.inner)

    def read(self, indices: Tensor) -> StoredImages:
        self.reads.extend(indices.tolist())
        if set(self.broken) & set(indices.tolist()):
            raise NcsnxError("cat.png: is broken")
        return self.inner.read(indices)


def assert_equal(first: StoredImages, second: StoredImages) -> None:
    for field in attrs.fields(StoredImages):
        ours, theirs = getattr(first, field.name), getattr(second, field.name)
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours.cpu(), theirs)

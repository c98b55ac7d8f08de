"""What is wrong with a command line, as far as it can be told before torch is imported, which takes seconds."""

import re

from ncsnx.errors import UsageError
from ncsnx.sample_request import SampleRequest, require_count

_DEVICE = re.compile("auto|cpu|mps|cuda(:[0-9]{1,3})?")


def refuse_typos(device: str, *, n: int = 1, least: int = 1, seed: int = 0, batch_size: int = 1) -> None:
    """Sees that --device names one, and that so many images, at least `least`, can be drawn. Raises UsageError."""
    if not _DEVICE.fullmatch(device):
        raise UsageError(f"--device {device[:80]!a}: expected auto, cpu, cuda, cuda:N or mps")
    require_count(n, least)
    SampleRequest(n=n, seed=seed, batch_size=batch_size)

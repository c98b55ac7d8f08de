"""A process that tells by how much its peak memory grows in one step: `python -m tests.sampling.peak_memory CASE DIR`.

The cases stand below; each prints the growth in bytes.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch

from ncsnx.sampling import sample_folder
from ncsnx.sampling.request import SampleRequest
from ncsnx.storage.parts import Part, assembled, write_part

SHAPE, BATCH, COUNT = (3, 128, 128), 8, 320
FRAMES, SHOWN = 60, 64
FEATURES = (20_000, 1_024)


def finishing(path: Path) -> int:
    """Finishing a folder of COUNT images, of which a batch is shown."""
    sample_folder.GRID_IMAGES = BATCH
    folder = _filled(path, COUNT)
    return _growth(folder.finish)


def frames(path: Path) -> int:
    """Finishing a folder of SHOWN images with FRAMES frames of each."""
    folder = _filled(path, SHOWN, FRAMES)
    return _growth(folder.finish)


def assembling(path: Path) -> int:
    """Assembling parts of FEATURES."""
    for start in range(0, FEATURES[0], 100):
        indices = torch.arange(start, start + 100)
        write_part(path, Part(indices, {"features": torch.ones(100, FEATURES[1])}))
    return _growth(lambda: assembled(path, FEATURES[0]))


def _filled(path: Path, count: int, frames: int = 0) -> sample_folder.SampleFolder:
    request = SampleRequest(n=count, frames=frames)
    layout = sample_folder.SampleLayout(protocol={"seed": 0}, request=request, shape=SHAPE, frames=frames)
    folder = sample_folder.SampleFolder(path, layout)
    folder.open()
    for start in range(0, count, BATCH):
        seen = torch.zeros((frames, BATCH, *SHAPE), dtype=torch.uint8) if frames else None
        folder.add(range(start, start + BATCH), torch.full((BATCH, *SHAPE), start / COUNT), seen)
    return folder


def _growth(step: Callable[[], object]) -> int:
    """Growth of the resident memory's peak by a step, in bytes. The peak of this process: that of getrusage may be the
    parent's.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the peak is measured from here
    before = _status("VmHWM")
    step()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    print(globals()[sys.argv[1]](Path(sys.argv[2])))

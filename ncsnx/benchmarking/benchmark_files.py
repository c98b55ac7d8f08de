"""The files of a benchmark: all numbers as JSON, and a plot for each image size."""

from pathlib import Path

from ncsnx.benchmarking.benchmark import Benchmark
from ncsnx.benchmarking.plot_benchmark import plot_time
from ncsnx.config.image_sizes import size_in_words
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage.atomic import write_json


def write_files(folder: Path, found: Benchmark) -> list[Path]:
    """Writes benchmark.json and time-SIZEpx.png and .svg, replacing earlier ones. Raises NcsnxError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NcsnxError(f"{folder} cannot be created: {error.strerror}") from error
    numbers = folder / "benchmark.json"
    write_json(numbers, found.facts())
    machine = found.machine
    name = machine["gpu"] or f"{machine['processor']}, {counted(machine['threads'], 'thread')}"
    written = [numbers]
    for size in found.sizes:
        caption = (
            f"{name}; torch {machine['torch']}; batches of {size.batch_size}; median of "
            f"{counted(len(size.executions[0].step_s), 'round')}; load {machine['load']:.1f}. The black line is the "
            "time of the same convolutions by themselves, forward and backward."
        )
        title = f"A training step of {found.experiment} at {size_in_words(size.image_size)} px"
        written += plot_time(folder / f"time-{size_in_words(size.image_size)}px", size, title=title, caption=caption)
    return written

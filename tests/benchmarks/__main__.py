"""`python -m tests.benchmarks`: start-up of the command line, training step and evaluation on the digits.

Each line has the times of two alternating actions and their ratio, first / second.
"""

import copy
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from ncsnx.config.discovery import resolve
from ncsnx.console.messages import Messages, Verbosity
from ncsnx.console.training import TrainingView
from ncsnx.data import TrainingBatches, open_data
from ncsnx.data.transforms import Preprocessing
from ncsnx.networks import Execution, build_network, prepare
from ncsnx.randomness import Purpose, Stream
from ncsnx.sampling.noise_sources import SeededNoise
from ncsnx.training.ema import WeightAverage
from ncsnx.training.optimizers import build_optimizer
from ncsnx.training.score_matching import score_matching_loss
from tests.benchmarks.distances import distances
from tests.benchmarks.pairs import Pair, alternate
from tests.benchmarks.reading import reading

PLAIN, DEFAULT = Execution(), Execution(memory_format="channels_last", fused=True)


def report(name: str, pair: Pair) -> None:
    print(f"{name:<58} {pair}", flush=True)


def start_up() -> None:
    """`ncsnx --help` against the bare import of typer, as processes."""

    def run(*command: str) -> None:
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)

    help_page = alternate(lambda: run("-m", "ncsnx", "--help"), lambda: run("-c", "import typer"), rounds=9)
    report("ncsnx --help / import typer", help_page)
    listing = alternate(lambda: run("-m", "ncsnx", "list"), lambda: run("-c", "import typer"), rounds=9)
    report("ncsnx list / import typer", listing)


class Step:
    """One training step on the digits as in the training loop, under one kind of execution."""

    def __init__(self, execution: Execution) -> None:
        self.experiment = resolve("digits").experiment
        self.splits = open_data(self.experiment.data, Path("data"))
        self.batches = TrainingBatches(self.splits.train, self.experiment.batch_size, self.experiment.seed)
        self.preprocessing = Preprocessing(self.experiment.data, (0, 16), self.experiment.seed)
        self.network = prepare(build_network(self.experiment), execution)
        self.optimizer = build_optimizer(self.experiment.optimizer, self.network.parameters())
        self.average = WeightAverage(self.network, 0.995)
        self.step = 0

    def draw(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Data and random numbers of a step."""
        batch = self.batches.at(self.step)
        x = self.preprocessing.training(batch.images.pixels, batch.positions)
        levels = Stream(1234, Purpose.NOISE_LEVEL).integers(batch.positions, 24)
        return x, levels, Stream(1234, Purpose.TRAINING_NOISE).normal(batch.positions, (1, 8, 8))

    def __call__(self) -> None:
        x, levels, noise = self.draw()
        score_matching_loss(self.network, x, levels, noise).mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update()
        self.step += 1


def training() -> None:
    """A step in the default execution against the plain one; shares of data, randomness and console."""
    default, plain = Step(DEFAULT), Step(PLAIN)
    report("a step of digits, default / plain", alternate(default, plain, rounds=15, warm_up=3))
    report("data and randomness / step", alternate(default.draw, default, rounds=15))
    with tempfile.TemporaryDirectory() as folder:
        # quiet, so that lines go to the log only: the cost of a terminal isn't measured
        messages = Messages(Verbosity.QUIET, Path(folder) / "log.txt")
        view = TrainingView(messages, total_steps=10**9, start_step=0, batch_size=128)

        def watch() -> None:
            view.step(default.step, 128)
            view.logged(default.step, 1.0)  # every step here, every tenth step in training

        report("console / step", alternate(watch, default, rounds=15))


@torch.no_grad()
def sampling() -> None:
    """An evaluation of 64 images in the default execution against the plain one; share of a step's noise."""
    base = build_network(resolve("digits").experiment).eval()
    default, plain = prepare(copy.deepcopy(base), DEFAULT), prepare(copy.deepcopy(base), PLAIN)
    x, noise = torch.rand(64, 1, 8, 8), SeededNoise(0, torch.arange(64), (1, 8, 8))
    pair = alternate(lambda: default.score(x, 1.0), lambda: plain.score(x, 1.0), rounds=25, warm_up=3)
    report("an evaluation of 64 digits, default / plain", pair)
    report("noise of 64 digits / evaluation", alternate(lambda: noise(3), lambda: default.score(x, 1.0), rounds=25))


if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    start_up()
    training()
    sampling()
    distances()
    reading()

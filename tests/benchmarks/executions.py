"""Speed of a network's executions on this machine, timed in turn, as ratios to one of them:

    python -m tests.benchmarks.executions cifar10 --batch-size 8 --rounds 9
    python -m tests.benchmarks.executions cifar10 model.width=64 --compile --against ../ncsnv2

An evaluation and a training step (noise, passes, clipping, optimizer, EMA) of random images, in fp32 as the network is
written (plain), in the default execution, with --compile compiled, with --checkpointing, and in bf16. Ratios are to the
plain one, or with --against to the published implementation in that checkout, whose code is executed.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ncsnx.config.discovery import resolve
from ncsnx.config.experiment import Experiment
from ncsnx.config.overrides import apply_overrides, parse_overrides
from ncsnx.runtime import Runtime
from ncsnx.samplers.state import score_of
from ncsnx.training.training_state import TrainingState
from ncsnx.training.training_step import TrainingStep
from tests.benchmarks.pairs import timed
from tests.benchmarks.published_code import AGREEMENT, PublishedNetwork
from tests.spaces import space_of, state_of

Actions = dict[str, tuple[Callable[[], object], Callable[[], object]]]
"""Name of an execution → (an evaluation, a training step)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("experiment")
    parser.add_argument("changes", nargs="*", metavar="FIELD=VALUE")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="also compiled executions (minutes)")
    parser.add_argument("--against", type=Path, help="a checkout of the published implementation")
    given = parser.parse_args()
    experiment = apply_overrides(resolve(given.experiment).experiment, parse_overrides(given.changes))
    experiment = attrs.evolve(experiment, batch_size=given.batch_size, accumulation=1, precision="fp32")
    runtime = Runtime.choose(device=given.device, threads=given.threads)
    print(f"torch {torch.__version__}, {runtime.device}, {torch.get_num_threads()} threads")
    for line in table(executions(experiment, runtime, compiles=given.compile, against=given.against), given.rounds):
        print(line, flush=True)


def executions(experiment: Experiment, runtime: Runtime, *, compiles: bool, against: Path | None) -> Actions:
    """All executions, the one that ratios are taken to first."""
    pixels = torch.randint(256, (experiment.batch_size, *experiment.data.shape), dtype=torch.uint8)
    x = space_of(experiment.data).encode(pixels.to(runtime.device) / 255)
    levels = torch.arange(len(x), device=runtime.device) % experiment.schedule.levels
    bf16 = attrs.evolve(experiment, precision="bf16")
    found: Actions = {}
    if against is not None:
        state = state_of(experiment, runtime)
        theirs = PublishedNetwork(against, state.network, experiment, runtime.device)
        require_agreement(theirs, state, x, levels)
        found["published"] = (lambda: theirs.evaluate(x, levels)), (lambda: theirs.step(x))
    found["plain"] = ours(experiment, attrs.evolve(runtime, plain=True), pixels, x)
    found["default"] = ours(experiment, runtime, pixels, x)
    found["checkpointing"] = ours(experiment, attrs.evolve(runtime, checkpointing=True), pixels, x)
    found["bf16"] = ours(bf16, runtime, pixels, x)
    if compiles:
        found["compiled"] = ours(experiment, runtime.compiled(), pixels, x)
        found["bf16 compiled"] = ours(bf16, runtime.compiled(), pixels, x)
    return found


def ours(
    experiment: Experiment, runtime: Runtime, pixels: Tensor, x: Tensor
) -> tuple[Callable[[], object], Callable[[], object]]:
    """An evaluation and a training step under the choices of a runtime."""
    state = state_of(experiment, runtime)
    step = TrainingStep(state, (0.0, 255.0), compiled=runtime.compile)
    positions = torch.arange(len(pixels), device=runtime.device)
    on_device = pixels.to(runtime.device)

    @torch.no_grad()
    def evaluate() -> None:
        state.network.eval()
        score_of(state.network.scaled_score, x, state.network.noise_levels[0])

    def train() -> None:
        state.network.train()
        step(on_device, positions, positions, lambda: False)

    return evaluate, train


@torch.no_grad()
def require_agreement(theirs: PublishedNetwork, state: TrainingState, x: Tensor, levels: Tensor) -> None:
    """Raises SystemExit if the published network's outputs differ from ours."""
    state.network.eval()
    expected = state.network.scaled_score(x, state.network.sigmas[levels])
    found = theirs.evaluate(x, levels) * theirs.sigmas[levels].view(-1, 1, 1, 1)
    difference = float((found - expected).abs().max() / expected.abs().max())
    if not difference <= AGREEMENT:
        raise SystemExit(f"with the same weights the published network differs by {difference:.1e} of the largest")


def table(found: Actions, rounds: int) -> list[str]:
    """Rows with the median milliseconds of a call, and the median and range of ratios within a round."""
    lines = [f"{'execution':<16}{'evaluation':>28}{'step':>34}"]
    times: dict[str, list[list[float]]] = {name: [[], []] for name in found}
    for number in range(rounds + 1):
        for name, actions in found.items():
            for kind, action in enumerate(actions):
                seconds = timed(lambda action=action: synchronized(action))
                if number > 0:  # the first round warms up
                    times[name][kind].append(seconds)
    first = next(iter(times.values()))
    for name, both in times.items():
        cells = []
        for kind in (0, 1):
            ratios = [before / now for before, now in zip(first[kind], both[kind], strict=True)]
            median = f"{1000 * statistics.median(both[kind]):9.2f} ms"
            cells.append(f"{median}  {statistics.median(ratios):5.2f}× ({min(ratios):.2f}–{max(ratios):.2f})")
        lines.append(f"{name:<16}" + "".join(f"{cell:>34}" for cell in cells))
    return lines


def synchronized(action: Callable[[], object]) -> None:
    """Calls the action and waits for the GPU."""
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()

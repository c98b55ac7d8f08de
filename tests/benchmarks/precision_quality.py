"""The cost of bf16 in quality: a Markdown table from finished runs, by `ncsnx fid` and `ncsnx loss`.

    for seed in 1 2 3; do for format in fp32 bf16; do
      ncsnx train digits seed=$seed precision=$format snapshots=none --run digits-$format-$seed
    done; done
    python -m tests.benchmarks.precision_quality --runs runs digits-*

A row is a data set, a precision of training and a precision of sampling; its numbers are means over the runs, which
differ in their seed, with the standard deviation of a run. Scores are kept in the runs, so a repeated call measures
what is new only. Words after `--` go to `ncsnx fid`, such as `-- --features torchscript:FILE`.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from ncsnx.config.experiment import Experiment
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import checkpoints

FORMATS = ("fp32", "bf16")
SAMPLERS = ("cas", "ald")


@attrs.frozen
class Finished:
    """A run that trained all its steps."""

    run: Run
    experiment: Experiment


def finished(folder: Path, names: Sequence[str]) -> Iterator[Finished]:
    """The runs among `names` that are complete; says which aren't."""
    for name in names:
        run = Run(folder / Path(name).name)
        experiment = run.experiment()
        if experiment.steps in checkpoints(run):
            yield Finished(run, experiment)
        else:
            print(f"not finished, so left out: {name}", file=sys.stderr)


def measured(command: str, one: Finished, *words: str) -> dict[str, Any]:
    """The row of the run's last checkpoint, as a command prints it."""
    run = one.run.path
    typed = (command, run.name, "--runs", str(run.parent), "--range", str(one.experiment.steps), "--json", *words)
    print(" ".join(("ncsnx", *typed)), file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "ncsnx", *typed], check=True, stdout=subprocess.PIPE, text=True)
    (row,) = json.loads(done.stdout)
    return dict(row)


def mean_and_deviation(values: Sequence[float], decimals: int) -> str:
    """'12.3 ± 0.4'; the mean alone for a single run."""
    mean = f"{statistics.fmean(values):.{decimals}f}"
    return f"{mean} ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else mean


def table(runs: Sequence[Finished], samplers: Sequence[str], n: int, words: Sequence[str]) -> Iterator[str]:
    """The lines of the table; measures what the runs lack."""
    groups = defaultdict(list)
    for one in runs:
        groups[one.experiment.name, one.experiment.precision].append(one)
    titles = ["data", "trained in", "sampled in", "runs", "held-out loss"]
    titles += [f"{name}, {sampler}" for sampler in samplers for name in ("Fréchet distance", "kernel distance")]
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for (name, trained), members in groups.items():
        for sampled in FORMATS:
            losses = [measured("loss", one, "--precision", sampled)["score"] for one in members]
            cells = [name, trained, sampled, str(len(members)), mean_and_deviation(losses, 3)]
            for sampler in samplers:
                options = (f"sampler={sampler}", "--n", str(n), "--precision", sampled, *words)
                rows = [measured("fid", one, *options) for one in members]
                cells += [mean_and_deviation([row["score"] for row in rows], 1)]
                cells += [mean_and_deviation([row["kernel_distance"] for row in rows], 1)]
            yield f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="+", help="runs, by name or path")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--n", type=int, default=1000, help="images per run and precision")
    parser.add_argument("--samplers", default=",".join(SAMPLERS), help="samplers, with commas between")
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options, words = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]
    runs = list(finished(options.runs, options.names))
    for line in table(runs, options.samplers.split(","), options.n, words):
        print(line, flush=True)


if __name__ == "__main__":
    main()

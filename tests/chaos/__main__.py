"""`python -m tests.chaos [NAME …] [--seed N]`: runs the trials, prints their counts, exits with 1 if one failed."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; trials run in parallel, and bits are compared

from tests.chaos import damage, full_disk, kills, mishaps, signals, writers
from tests.chaos.report import Tally, table

ITEMS = {
    "kills": (kills.trials, "SIGKILL at any moment: the run ends bit-identical to an undisturbed one"),
    "full_disk": (full_disk.trials, "a full disk at every write: one error line, no debris, nothing lost, it resumes"),
    "damage": (damage.trials, "truncated files and flipped bits: detected, train falls back, sample refuses"),
    "writers": (writers.trials, "a second trainer: refused promptly, naming the first; the lock is free after SIGKILL"),
    "signals": (signals.trials, "SIGTERM, SIGHUP in every phase: a complete checkpoint or none; two Ctrl-C; nohup"),
    "mishaps": (mishaps.trials, "divergence, vanishing data, read-only folders, wrong clocks: a clear error"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"items to run: {', '.join(ITEMS)} (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of moments, bits and lengths (default: 0)")
    parser.add_argument("--keep", type=Path, help="empty folder in which the runs are kept for inspection")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(ITEMS)):
        parser.error(f"unknown: {', '.join(unknown)}; expected {', '.join(ITEMS)}")
    tallies = []
    with tempfile.TemporaryDirectory(prefix="ncsnx-chaos-") as temporary:
        base = arguments.keep or Path(temporary)
        os.environ["NCSNX_CACHE"] = str((base / "cache").absolute())
        for elsewhere in ("NCSNX_RUNS", "NCSNX_DATA"):
            os.environ.pop(elsewhere, None)
        for name in arguments.names or ITEMS:
            make, title = ITEMS[name]
            tally = Tally(name, title, arguments.seed)
            tallies.append(tally)
            print(f"{name}: {title}", flush=True)
            folder = base / name
            folder.mkdir(parents=True)
            make(tally, folder)
            tally.end()
    print(f"\n{table(tallies)}")
    return 1 if any(tally.failures for tally in tallies) else 0


if __name__ == "__main__":
    sys.exit(main())

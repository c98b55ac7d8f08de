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
    "kills": (kills.trials, "SIGKILL at any moment: the run ends with the bits of one that nothing disturbed"),
    "full_disk": (full_disk.trials, "a full disk in every write: one line, no debris, nothing lost, goes on"),
    "damage": (damage.trials, "truncated files and flipped bits: detected, train falls back, sample refuses"),
    "writers": (writers.trials, "a second trainer: refused soon, by name; the lock is free after SIGKILL"),
    "signals": (signals.trials, "SIGTERM, SIGHUP in every phase: a checkpoint or none, an end soon; two Ctrl-C; nohup"),
    "mishaps": (mishaps.trials, "non-finite numbers, vanishing data, read-only folders, clocks: a clear end"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(ITEMS)}; by default all")
    parser.add_argument("--seed", type=int, default=0, help="of moments, bits and lengths (default 0)")
    parser.add_argument("--keep", type=Path, help="an empty folder for the runs, which stay there to be looked at")
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

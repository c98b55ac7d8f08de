"""Report of the trials: counts for a table, and for each failure a line that says how to repeat it."""

import threading
import time
from collections import Counter

import attrs


@attrs.define
class Tally:
    """Counts of one item. Several threads may report trials."""

    item: str
    title: str
    seed: int
    tried: int = 0
    failures: list[str] = attrs.Factory(list)
    also: "Counter[str]" = attrs.Factory(Counter)
    """Other counts: sites hit, moments, checks that weren't possible."""
    facts: list[str] = attrs.Factory(list)
    """Measurements as text."""
    seconds: float = 0.0
    _lock: threading.Lock = attrs.field(factory=threading.Lock, repr=False)
    _started_s: float = attrs.field(factory=time.monotonic, repr=False)

    @property
    def passed(self) -> int:
        return self.tried - len(self.failures)

    def trial(self, name: str, problems: list[str], count: int = 1) -> None:
        """Counts a trial, or `count` trials with one outcome; it passed if there are no problems."""
        count = max(1, count)  # so that every failure is counted
        with self._lock:
            self.tried += count
            if problems:
                what = f"{self.item} --seed {self.seed}, trial {name}: {'; '.join(problems)}"
                self.failures += [what] * count
                print(f"  FAILED {what}", flush=True)
            else:
                print(f"  passed {self.item} {name}", flush=True)

    def count(self, what: str, number: int = 1) -> None:
        with self._lock:
            self.also[what] += number

    def require(self, what: str, found: int, least: int) -> None:
        """Fails the item unless it made at least `least` trials of this kind."""
        if found < least:
            self.trial(f"enough of it ({what})", [f"{found} instead of at least {least}"])

    def end(self) -> None:
        self.seconds = time.monotonic() - self._started_s


def table(tallies: list[Tally]) -> str:
    """Table of the items: tried, passed, other counts."""
    rows = [("item", "tried", "passed", "seconds", "")]
    rows += [(t.item, f"{t.tried:,}", f"{t.passed:,}", f"{t.seconds:,.0f}", t.title) for t in tallies]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(row[column].rjust(widths[column]) for column in (1, 2, 3)), row[4]]
        lines.append("  ".join(cells).rstrip())
    for tally in tallies:
        lines.append("")
        lines.append(f"{tally.item}, seed {tally.seed}")
        lines += [f"  {number:>5,}  {what}" for what, number in sorted(tally.also.items())]
        lines += [f"         {fact}" for fact in tally.facts]
        lines += [f"  FAILED {failure}" for failure in dict.fromkeys(tally.failures)]
    return "\n".join(lines)

"""Names of the runs of a parameter sweep: the sweep's name and the values that differ, `digits-width_32-lr_0.001`."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from ncsnx.config.canonical import digest

MOST_CHARACTERS = 80
"""Longest name of a run; a longer one ends in a hash of its values."""
MOST_IN_SWEEP = 60
"""Longest name of a sweep, so that the names of its runs have room."""
_OTHERS = re.compile(r"[^A-Za-z0-9.-]+|\.(?=\.)")
_HASH = 8


def run_names(sweep: str, points: Sequence[Mapping[str, str]]) -> list[str]:
    """A name for each point, given by dotted path → value as shown; all have the same paths.

    Names are valid for runs, and differ in more than case.
    """
    labels = short_paths(list(points[0])) if points else {}
    names = ["-".join([sweep, *(f"{labels[path]}_{_word(text)}" for path, text in one.items())]) for one in points]
    times = Counter(name.lower() for name in names)
    return [
        name
        if len(name) <= MOST_CHARACTERS and not name.endswith(".") and times[name.lower()] == 1
        else _cut(name, one)
        for name, one in zip(names, points, strict=True)
    ]


def short_paths(paths: Sequence[str]) -> dict[str, str]:
    """Each path with its shortest end that no other of the paths has: `model.width` → `width`."""
    ends = {path: [path.split(".", skipped)[-1] for skipped in range(path.count("."), -1, -1)] for path in paths}
    counts = Counter(end for found in ends.values() for end in found)
    return {path: next((end for end in found if counts[end] == 1), path) for path, found in ends.items()}


def _word(text: str) -> str:
    return _OTHERS.sub("_", text) or "empty"


def _cut(name: str, values: Mapping[str, str]) -> str:
    return f"{name[: MOST_CHARACTERS - _HASH - 1].rstrip('._-')}-{digest(dict(values))[:_HASH]}"

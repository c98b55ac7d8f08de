"""Points of a parameter sweep: a run for each combination of values, checked before anything is trained."""

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product

import attrs

from ncsnx.config.codec import ABSENT, differing, digest, flatten, identity, shown
from ncsnx.config.converter import unstructure
from ncsnx.config.experiment import Experiment
from ncsnx.config.overrides import Override, OverrideError, apply_overrides, apply_with_origins
from ncsnx.errors import Hint, UsageError, quoted
from ncsnx.spelling import argument, parameter

SEED = "seed"
"""Path of the field whose values are repetitions of one setting."""
LONGEST_RUN_NAME = 80
LONGEST_SWEEP_NAME = 60
"""Characters of a sweep's name, so that the names of its runs have room."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.-]+|\.(?=\.)")
_HASH_DIGITS = 8


@attrs.frozen(kw_only=True)
class SweepPoint:
    """One combination of values."""

    run: str
    """Name of its run."""
    values: dict[str, str]
    """Dotted path → value as it is shown, for the fields that differ; the seed last, if it does."""
    experiment: Experiment
    origins: dict[str, str]
    """Dotted path of each value → origin."""

    @property
    def setting(self) -> dict[str, str]:
        """The values without the seed: equal for repetitions."""
        return {path: value for path, value in self.values.items() if path != SEED}


def sweep_points(
    sweep: str,
    base: Experiment,
    origins: Mapping[str, str],
    overrides: Sequence[Override],
    *,
    zipped: bool = False,
    seeds: int = 1,
) -> list[SweepPoint]:
    """The points of a sweep: `base` with one of the comma-separated values of each override.

    A value with a comma in it stands in brackets, or in quotation marks, as in CSV. origins: of the values of `base`.
    zipped: take the first values together, then the second ones and so on, instead of every combination. seeds:
    repetitions of each combination, with consecutive seeds from the experiment's. Raises UsageError for a sweep of a
    single run, an invalid point, and points that would train the same weights.
    """
    choices = {override.path: _values(override) for override in overrides}
    if seeds > 1:
        if len(choices.get(SEED, ())) > 1:
            raise UsageError(f"{parameter('seeds')} and several values of {SEED} exclude each other; give one of them")
        first = apply_overrides(base, [Override(SEED, text) for text in choices.pop(SEED, ())]).seed
        choices[SEED] = [str(seed) for seed in range(first, first + seeds)]
    varied = [path for path, texts in choices.items() if len(texts) > 1]
    if not varied:
        raise UsageError(
            "a sweep needs a field with several values, such as model.width=32,64",
            Hint("or several seeds of one setting", adds=argument("seeds", 3)),
        )
    varied.sort(key=lambda path: path == SEED)
    made = [apply_with_origins(base, origins, row) for row in _combinations(choices, varied, zipped=zipped)]
    values = [_shown_values(experiment, varied) for experiment, _ in made]
    points = [
        SweepPoint(run=name, values=its, experiment=experiment, origins=its_origins)
        for name, its, (experiment, its_origins) in zip(run_names(sweep, values), values, made, strict=True)
    ]
    _refuse_equal(points)
    return points


def _values(override: Override) -> list[str]:
    """The comma-separated values of an override. Raises OverrideError for a value that is missing or given twice."""
    try:
        texts = next(csv.reader([override.text], strict=True), [""])
    except csv.Error as error:
        raise OverrideError(f"{override.path}: {error} in {quoted(override.text)}") from error
    if '"' not in override.text:
        texts = _with_whole_lists(texts)
    if len(texts) > 1 and "" in texts:
        raise OverrideError(
            f"{override.path}: a value is missing in {override.text!r}; separate values by single commas"
        )
    if twice := [text for text, count in Counter(texts).items() if count > 1]:
        raise OverrideError(f"{override.path}: the value {twice[0]!r} is given twice")
    return texts


def _with_whole_lists(parts: Sequence[str]) -> list[str]:
    """The parts of a text between commas, of which those within brackets belong together."""
    texts = list[str]()
    for part in parts:
        if texts and texts[-1].count("[") > texts[-1].count("]"):
            texts[-1] += f",{part}"
        else:
            texts.append(part)
    return texts


def _combinations(choices: Mapping[str, list[str]], varied: Sequence[str], *, zipped: bool) -> list[list[Override]]:
    """The overrides of each point. Seeds are never zipped. Raises UsageError for zipped fields of different lengths."""
    fixed = [Override(path, texts[0]) for path, texts in choices.items() if path not in varied]
    axes = [[Override(path, text) for text in choices[path]] for path in varied]
    if not zipped:
        return [[*fixed, *row] for row in product(*axes)]
    seeds = axes.pop() if varied[-1] == SEED else []
    if len(set(map(len, axes))) > 1:
        lengths = ", ".join(f"{axis[0].path} has {len(axis)}" for axis in axes)
        raise UsageError(
            f"{parameter('zip')} takes one value of each field at a time, so all need the same number: {lengths}"
        )
    rows: list[tuple[Override, ...]] = list(zip(*axes, strict=True)) if axes else [()]
    repetitions: list[tuple[Override, ...]] = [(seed,) for seed in seeds] or [()]
    return [[*fixed, *row, *seed] for row in rows for seed in repetitions]


def _shown_values(experiment: Experiment, paths: Sequence[str]) -> dict[str, str]:
    values = dict(flatten(unstructure(experiment)))
    return {path: shown(values.get(path, ABSENT)) for path in paths}


def _refuse_equal(points: Sequence[SweepPoint]) -> None:
    """Raises UsageError for two points that would train the same weights.

    Where the data lies is not part of the identity, but may make the difference: what is there decides.
    """
    known: dict[str, SweepPoint] = {}
    for point in points:
        other = known.setdefault(identity(point.experiment), point)
        paths = [path for path, _, _ in differing(other.experiment, point.experiment)]
        if other is not point and not any(path.startswith("data.") for path in paths):
            pair = " and ".join(
                " ".join(f"{path}={text}" for path, text in one.values.items()) for one in (other, point)
            )
            hints = {
                "sampler": Hint("compare samplers of one run", "ncsnx compare RUN"),
                "steps": Hint("compare checkpoints of one run", "ncsnx fid RUN --range all"),
            }
            hint = hints.get(next(iter(paths), "").partition(".")[0], Hint("leave out one of them"))
            raise UsageError(f"{pair} train the same weights", hint)


def run_names(sweep: str, points: Sequence[Mapping[str, str]]) -> list[str]:
    """A name for each point, `digits-width_32-lr_0.001`; all points have the same paths.

    Names are valid for runs, and differ in more than case: where they would not, or are too long, they end in a hash.
    """
    labels = short_paths(list(points[0])) if points else {}
    names = [
        "-".join(
            [sweep, *(f"{labels[path]}_{_NOT_IN_NAMES.sub('_', text) or 'empty'}" for path, text in point.items())]
        )
        for point in points
    ]
    counts = Counter(name.lower() for name in names)
    return [
        name
        if len(name) <= LONGEST_RUN_NAME and not name.endswith(".") and counts[name.lower()] == 1
        else f"{name[: LONGEST_RUN_NAME - _HASH_DIGITS - 1].rstrip('._-')}-{digest(dict(point))[:_HASH_DIGITS]}"
        for name, point in zip(names, points, strict=True)
    ]


def short_paths(paths: Sequence[str]) -> dict[str, str]:
    """Each path with its shortest end that no other of the paths has: `model.width` → `width`."""
    ends = {path: [path.split(".", skipped)[-1] for skipped in range(path.count("."), -1, -1)] for path in paths}
    counts = Counter(end for endings in ends.values() for end in endings)
    return {path: next((end for end in endings if counts[end] == 1), path) for path, endings in ends.items()}

"""The points of a parameter sweep: each a run to be, with its experiment, checked before anything is written."""

from collections.abc import Iterable, Sequence
from itertools import islice

import attrs

from ncsnx.config.checks import printable, shortened
from ncsnx.config.codec import flatten, identity, unstructure
from ncsnx.config.differences import ABSENT, differing, shown
from ncsnx.config.experiment import Experiment
from ncsnx.config.overrides import Override, OverrideError, apply_overrides
from ncsnx.errors import Hint, UsageError
from ncsnx.jobs.parameter_sweep.axes import SEED, Axis, combinations
from ncsnx.jobs.parameter_sweep.point_names import run_names
from ncsnx.spelling import argument, parameter

_TRIED = 100
"""Points that are looked at to tell an error that all have from one of a single point."""
_ADVICE = {
    "sampler": "train one run, and compare samplers by `ncsnx compare`",
    "steps": "train the longest run, and compare its checkpoints by `ncsnx fid`",
}
"""Advice for fields outside the identity."""


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
    identity: str

    @property
    def setting(self) -> dict[str, str]:
        """The values without the seed: equal for repetitions."""
        return {path: value for path, value in self.values.items() if path != SEED}


def points_of(
    sweep: str,
    base: Experiment,
    origins: dict[str, str],
    axes: Sequence[Axis],
    fixed: Sequence[Override],
    *,
    zipped: bool = False,
    seeds: int = 1,
) -> list[SweepPoint]:
    """The points of a sweep named `sweep`: `base` with the `fixed` overrides and one value of each axis.

    origins: of the values of `base`. seeds: repetitions of each combination, with the seeds that follow the
    experiment's. Raises UsageError for a sweep of a single run, an invalid point, and two points that train the same.
    """
    if not axes and seeds == 1:
        raise UsageError(
            "a sweep needs a field with several values, such as model.width=32,64",
            Hint("or several seeds of one setting", adds=argument("seeds", 3)),
        )
    if seeds > 1 and any(axis.path == SEED for axis in axes):
        raise UsageError(f"{parameter('seeds')} and several values of {SEED} exclude each other; give one of them")
    first = _first_seed(base, fixed)
    chosen = combinations(axes, zipped=zipped, seeds=range(first, first + seeds) if seeds > 1 else ())
    varied = [(*(one for one in row if one.path != SEED), *(one for one in row if one.path == SEED)) for row in chosen]
    rest = [one for one in fixed if seeds == 1 or one.path != SEED]
    made = _experiments(base, origins, varied, rest)
    values = [_values(experiment, row) for (experiment, _), row in zip(made, varied, strict=True)]
    names = run_names(sweep, values)
    points = [
        SweepPoint(run=name, values=one, experiment=experiment, origins=whence, identity=identity(experiment))
        for name, one, (experiment, whence) in zip(names, values, made, strict=True)
    ]
    _refuse_equal(points)
    return points


def _first_seed(base: Experiment, fixed: Sequence[Override]) -> int:
    given = [one for one in fixed if one.path == SEED]
    return apply_overrides(base, {}, given)[0].seed if given else base.seed


def _experiments(
    base: Experiment, origins: dict[str, str], varied: Sequence[tuple[Override, ...]], fixed: Sequence[Override]
) -> list[tuple[Experiment, dict[str, str]]]:
    """The experiment of each point, with its origins. Raises OverrideError that names the point."""
    made = []
    for row in varied:
        try:
            made.append(apply_overrides(base, origins, [*fixed, *row]))
        except OverrideError as error:
            if all(_error(base, [*fixed, *other]) == error.message for other in islice(varied, _TRIED)):
                raise
            point = shortened(printable(" ".join(f"{one.path}={one.text}" for one in row)))
            raise OverrideError(f"the point {point} is invalid: {error.message}", *error.hints) from error
    return made


def _error(base: Experiment, overrides: list[Override]) -> str | None:
    try:
        apply_overrides(base, {}, overrides)
    except OverrideError as error:
        return error.message
    return None


def _values(experiment: Experiment, overrides: Iterable[Override]) -> dict[str, str]:
    found = dict(flatten(unstructure(experiment)))
    return {one.path: shown(found.get(one.path, ABSENT)) for one in overrides}


def _refuse_equal(points: Sequence[SweepPoint]) -> None:
    """Raises UsageError for two points that would train the same weights.

    Where the data lies is not part of the identity, but may make the difference: what is there decides.
    """
    known: dict[str, SweepPoint] = {}
    for point in points:
        other = known.setdefault(point.identity, point)
        if other is point:
            continue
        if other.values == point.values:
            raise UsageError(f"{_in_words(point)} is given twice, written in two ways", Hint("leave out one of them"))
        differ = [path for path, _, _ in differing(other.experiment, point.experiment)]
        if any(path.startswith("data.") for path in differ):
            continue
        raise UsageError(
            f"{_in_words(other)} and {_in_words(point)} train the same weights: {', '.join(differ)} "
            f"{'is' if len(differ) == 1 else 'are'} not part of what is trained",
            Hint(_ADVICE.get(differ[0].partition(".")[0], "leave out one of them")),
        )


def _in_words(point: SweepPoint) -> str:
    return shortened(printable(" ".join(f"{path}={value}" for path, value in point.values.items())))

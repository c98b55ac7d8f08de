"""The sampler that `sampler=fast` selects: the fewest evaluations that measured no worse than the run's own sampler.

It follows from the trials in the run's ledger. The smallest of many measured distances is biased low; the chosen
setting is therefore measured once again, with fresh seeds that play no part in the choice.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import attrs

from ncsnx.config.codec import digest
from ncsnx.config.converter import unstructure
from ncsnx.config.sampler import Sampler
from ncsnx.errors import Hint, NcsnxError
from ncsnx.quantities import counted, percent, with_error
from ncsnx.runs.ledger import Entry, Ledger, Row, Series, value
from ncsnx.runs.measurements import MeasuredRow

FRESH = 1_000
"""First of the seeds with which a chosen setting is measured again, above all seeds of the choice."""
MOST_BROKEN = 0.1
"""A sampler that breaks a larger share of its images is never recommended."""
FEWEST = 4
"""Fewest evaluations that every sampler is tried with."""
_ERRORS = 2
"""Standard errors by which one share of broken images must exceed another to count as larger."""
_LEAST_SAVING = 12


def most_evaluations(own: int) -> int:
    """Most evaluations of a setting that counts as fast: a twelfth of those of the run's own sampler.

    Where that is fewer than any sampler is tried with, as many as the run's own.
    """
    return own // _LEAST_SAVING if own // _LEAST_SAVING >= FEWEST else own


def over_seeds(entries: Sequence[Entry]) -> MeasuredRow:
    """A setting over its seeds: mean score, its standard deviation, means of the rest."""
    scores = [one.score for one in entries if one.score is not None]
    whole = len(scores) == len(entries) > 0
    means = {key: _mean(entries, key) for key in ("broken", "evaluations", "seconds")}
    count = means["evaluations"]
    values: Row = {
        "score": statistics.fmean(scores) if whole else None,
        "error": statistics.stdev(scores) if whole and len(scores) > 1 else None,
        **means,
        "evaluations": int(count) if count is not None and count.is_integer() else count,
        "seeds": len(entries),
    }
    subject = attrs.evolve(entries[0].subject, seed=None)
    tag, *words = subject.sampler_in_words.split()
    names = (tag.removeprefix("sampler="), " ".join(word.removeprefix("sampler.") for word in words))
    facts = {"sampler": subject.sampler, "words": subject.sampler_in_words}
    return MeasuredRow(names=names, facts=facts, values=values, subject=subject)


def _mean(entries: Sequence[Entry], key: str) -> float | None:
    """Mean over the trials that have this value; None if none has it."""
    known = [number for one in entries if (number := value(one.values, key)) is not None]
    return statistics.fmean(known) if known else None


def settings(series: Series, own: Sampler, seeds: int, *, fresh: bool = False) -> dict[str, MeasuredRow]:
    """The settings of a comparison by the digest of their sampler, the run's own first; by the first or fresh seeds.

    seeds: how many of them count. Samplers whose packages aren't installed are left out.
    """
    first = FRESH if fresh else 0
    groups: dict[str, list[Entry]] = {digest(unstructure(own)): []}
    for entry in series.entries:
        if first <= (entry.subject.seed or 0) < first + seeds:
            groups.setdefault(digest(entry.subject.sampler), []).append(entry)
    known = {name: group for name, group in groups.items() if group and group[0].subject.known_sampler is not None}
    return {name: over_seeds(group) for name, group in known.items()}


def is_usable(row: MeasuredRow, own: MeasuredRow, n: int) -> bool:
    """Whether a sampler is good enough to recommend. n: images per seed.

    It needs a distance, at most MOST_BROKEN broken images, and no more broken images than the run's own sampler, within
    two standard errors.
    """
    broken, own_broken = value(row.values, "broken"), value(own.values, "broken")
    if broken is None or own_broken is None or row.score is None:
        return False
    images, own_images = n * row.values["seeds"], n * own.values["seeds"]
    both = (broken * images + own_broken * own_images) / (images + own_images)
    error = math.sqrt(both * (1 - both) * (1 / images + 1 / own_images))
    return broken <= min(MOST_BROKEN, own_broken + _ERRORS * error)


def is_no_worse(row: MeasuredRow, own: MeasuredRow) -> bool:
    """Whether the measured distance is no larger than the run's own sampler's."""
    return row.score is not None and own.score is not None and row.score <= own.score


@attrs.frozen
class Recommendation:
    """The setting that the rows of a comparison recommend, or the reason why there is none."""

    rows: tuple[MeasuredRow, ...]
    """The run's own sampler first; those that were measured again with those numbers too."""
    found: MeasuredRow | None = None
    """The recommended setting, whose fresh numbers are in `again`; None if none is usable."""
    reason: str = ""
    """Why no sampler is recommended."""

    @property
    def own(self) -> MeasuredRow:
        """The run's own sampler, by fresh seeds if those were compared."""
        return self.rows[0].again or self.rows[0]

    def __str__(self) -> str:
        again = None if self.found is None else self.found.again
        if self.found is None or self.found.subject is None or again is None:
            return self.reason
        is_worse = self.own.score is not None and not is_no_worse(again, self.own)
        return (
            f"{self.found.facts['words']}, found on step {self.found.subject.step:,}: measured "
            f"{'worse' if is_worse else 'no worse'} than the run's own sampler with fresh seeds: "
            f"{_in_words(again.values)}; the run's own: {_in_words(self.own.values)}"
        )


def recommend(
    rows: Sequence[MeasuredRow], n: int, measured_again: Callable[[MeasuredRow], MeasuredRow | None]
) -> Recommendation:
    """The recommended one of the usable settings with few enough evaluations (see `most_evaluations`).

    It is the setting with the fewest evaluations of those that measured no worse than the run's own sampler; if there
    is none, the setting with the smallest distance. rows: the run's own sampler first. n: images per seed.
    measured_again: returns a setting by fresh seeds; None if they are missing, and then nothing is recommended.

    One setting is chosen by the first seeds alone. It and the run's own sampler are then measured once with fresh
    seeds, and these numbers are reported whatever they are: a second choice by them would make them biased too.
    """
    own, *others = rows
    if own.values["evaluations"] is None:
        reason = "the run's own sampler diverged, so its number of evaluations is not known"
        return Recommendation(tuple(rows), reason=reason)
    most = most_evaluations(int(own.values["evaluations"]))
    fast = [
        row
        for row in others
        if row.values["seeds"] == own.values["seeds"]
        and row.values["evaluations"] is not None
        and row.values["evaluations"] <= most
    ]
    usable = sorted((row for row in fast if is_usable(row, own, n)), key=lambda row: row.score or 0.0)
    if not usable:
        return Recommendation(tuple(rows), reason=_why_nothing(own, fast, most))
    no_worse = [row for row in usable if is_no_worse(row, own)]
    chosen = min(no_worse, key=lambda row: row.values["evaluations"]) if no_worse else usable[0]
    own_again, chosen_again = measured_again(own), measured_again(chosen)
    if own_again is None or chosen_again is None:
        return Recommendation(tuple(rows), reason="no setting was measured again with fresh seeds")
    is_found, words = is_usable(chosen_again, own_again, n), chosen.facts["words"]
    own = attrs.evolve(own, again=attrs.evolve(own_again, remark="measured again: the run's own"))
    chosen_again = attrs.evolve(chosen_again, remark=f"measured again: {'fast' if is_found else 'rejected'}")
    found = attrs.evolve(chosen, again=chosen_again, remark="chosen")
    shown = (own, *(found if row is chosen else row for row in others))
    if is_found:
        return Recommendation(shown, found)
    broken, own_broken = (percent(row.values["broken"]) for row in (chosen_again, own_again))
    return Recommendation(
        shown, reason=f"{words} breaks {broken} of its images with fresh seeds, the run's own sampler {own_broken}"
    )


def _why_nothing(own: MeasuredRow, fast: Sequence[MeasuredRow], most: int) -> str:
    few = f"at most {counted(most, 'evaluation')}"
    if not fast:
        return f"no measured setting takes {few}"
    least = min(row.values["broken"] for row in fast)
    return (
        f"no setting with {few} is usable: the best of {len(fast):,} breaks {percent(least)} of its images, the run's "
        f"own sampler {percent(own.values['broken'])} (usable: at most {percent(MOST_BROKEN)}, and not clearly more)"
    )


def recommendation_of(series: Series, own: Sampler) -> Recommendation | None:
    """The recommendation of a comparison as it stands; None if the run's own sampler isn't in it.

    Settings may have been tried with different numbers of seeds: it is by the number that most settings have or, where
    that recommends nothing yet, by another one that does.
    """
    every, tried = settings(series, own, FRESH), list[Recommendation]()
    if next(iter(every), None) != digest(unstructure(own)):
        return None
    counts = [row.values["seeds"] for row in every.values()]
    for seeds in sorted(range(1, counts[0] + 1), key=lambda seeds: (sum(one >= seeds for one in counts), seeds))[::-1]:
        first, again = (settings(series, own, seeds, fresh=fresh) for fresh in (False, True))
        whole = {name: row for name, row in again.items() if row.values["seeds"] == seeds}
        measured_again = partial(_of_same_sampler, whole)
        tried.append(recommend(list(first.values()), int(series.facts["n"]), measured_again))
        if tried[-1].found is not None:
            return tried[-1]
    return tried[0]


def _of_same_sampler(rows: Mapping[str, MeasuredRow], row: MeasuredRow) -> MeasuredRow | None:
    return rows.get(digest(row.facts["sampler"]))


def find_fast(ledger: Ledger) -> Recommendation | None:
    """The recommendation that `sampler=fast` means; None without one. Raises NcsnxError.

    It is that of the newest comparison that recommends a setting or, of comparisons on the same step, of the one with
    the most images.
    """
    own = ledger.run.declared().sampler
    found = [
        (series.changed, series.facts["step"], series.facts["n"] * one.found.values["seeds"], one)
        for series in ledger.series("compare")
        if (one := recommendation_of(series, own)) is not None and one.found is not None
    ]
    if not found:
        return None
    newest = max(found, key=lambda one: one[0])
    return max((one for one in found if one[1] == newest[1]), key=lambda one: (one[2], one[0]))[3]


def require_fast(ledger: Ledger) -> tuple[Sampler, Recommendation]:
    """The sampler that `sampler=fast` means, and why. Raises NcsnxError if there is none."""
    found, run = find_fast(ledger), ledger.run
    if found is None or found.found is None:
        raise NcsnxError(f"run {run.name!r} has no fast sampler yet", Hint("find one", f"ncsnx compare {run.cli_name}"))
    return found.found.sampler, found


def _in_words(row: Row) -> str:
    numbers = [value(row, key) for key in ("score", "broken", "evaluations")]
    if None in numbers:
        return "not measured"
    distance, broken, evaluations = (number or 0.0 for number in numbers)
    shown = with_error(distance, value(row, "error"))
    return f"distance {shown}, {percent(broken)} broken, {counted(evaluations, 'evaluation')}"

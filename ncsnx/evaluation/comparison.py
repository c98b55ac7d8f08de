"""Compares samplers on one checkpoint: quality against evaluations, from the same noise, over several seeds.

    compare/step-00001500-n1000-classifier-1a2b3c4d/scores.csv  samplers.png  samplers.svg

A trial is one sampler setting with one seed, an entry of the run's ledger, so an interrupted comparison resumes. The
smallest of many measured distances is biased low; the chosen setting is therefore measured once again, with fresh seeds
that play no part in the choice.
"""

from collections.abc import Sequence

import attrs

from ncsnx.config.converter import unstructure
from ncsnx.config.sampler import Sampler
from ncsnx.config.variants import tag_of, variants
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.distance import Trials
from ncsnx.evaluation.measuring import measure
from ncsnx.evaluation.plots import plot_samplers
from ncsnx.quantities import counted, number
from ncsnx.runs import fast_sampler
from ncsnx.runs.ledger import Row, Subject
from ncsnx.runs.measurements import MeasuredRow, Measurements
from ncsnx.samplers.contract import definition_of
from ncsnx.sampling.bias import known_bias
from ncsnx.storage import atomic
from ncsnx.work import Work


def compare_samplers(
    trials: Trials, tried: Sequence[Sampler], seeds: int, work: Work, next_command: str
) -> Measurements:
    """Measures missing trials, draws, and says what is recommended; on rank 0, where the others end. Raises NcsnxError.

    tried: the run's own sampler first.
    """
    (subject,), run, own = trials.subjects, trials.run, tried[0]

    def summaries() -> list[MeasuredRow]:
        # samplers that only an earlier comparison tried stay in the results
        return list(fast_sampler.settings(trials.series, own, seeds).values())

    def measured_again(row: MeasuredRow) -> MeasuredRow:
        fresh = [
            attrs.evolve(subject, sampler=row.facts["sampler"], seed=fast_sampler.FRESH + seed) for seed in range(seeds)
        ]
        work.info(f"with fresh seeds: {row.facts['words']}")
        _measure(trials, fresh, work)
        return work.ranks.first(lambda: fast_sampler.over_seeds(trials.entries(fresh)), check_stop=work.check_stop)

    work.info(f"{run.path}: {trials.caption()}")
    # seed by seed, so that every sampler has a first number early
    first = [attrs.evolve(subject, sampler=unstructure(one), seed=seed) for seed in range(seeds) for one in tried]
    work.info(counted(len(tried), "setting"))
    _measure(trials, first, work)
    rows = work.ranks.first(summaries, check_stop=work.check_stop)
    found = fast_sampler.recommend(rows, trials.n, measured_again)
    work.ranks.end_others()
    result = Measurements.of(
        trials.series,
        names=("sampler", "settings"),
        rows=found.rows,
        notes=[
            f"results: {trials.place}/scores.csv; plot: samplers.png, .svg",
            *([] if found.found is None else [f"next: {next_command}"]),
        ],
        recommended=None if found.found is None else found.found.sampler,
        reason=found.reason,
        marks_best=False,
    )
    with work.interruptible():
        atomic.write_bytes(atomic.make_folder(trials.place) / "scores.csv", result.csv())
        _draw(trials, found)
        _tell(trials, found, work)
    return result


def _measure(trials: Trials, subjects: Sequence[Subject], work: Work) -> None:
    if problems := measure(trials, subjects, work, "trial"):
        raise NcsnxError(f"trials are missing: {'; '.join(problems)}")


def _tell(trials: Trials, found: fast_sampler.Recommendation, work: Work) -> None:
    """Says what is recommended, and what `sampler=fast` means now."""
    now = fast_sampler.find_fast(trials.ledger)
    stays = "" if now is None else f"; sampler=fast still means {now}"
    if found.found is None:
        work.info(f"no sampler is recommended: {found.reason}{stays}")
        if found.rows[0].values["broken"] > fast_sampler.MOST_BROKEN:
            work.info("the run's own sampler breaks too many images too: train longer, then compare again")
        return
    is_better = fast_sampler.is_no_worse(found.found, found.rows[0])
    why = "the fewest evaluations that measured no worse" if is_better else "the smallest distance"
    by = f"chosen with other seeds, by its {number(found.found.score or 0.0)}, as {why}"
    said = f"{found} ({by})"
    if now is not None and now.found is not None and now.found.facts != found.found.facts:
        work.info(f"recommended, but another one was measured with more images: {said}{stays}")
    else:
        work.info(f"recommended, and what sampler=fast means: {said}")
    # only measurements decide: with few steps no sampler has converged, and even a biased one may come out best
    spec = trials.spec
    if spec.learns_scores and (bias := known_bias(found.found.sampler, spec.levels, spec.space.shape)):
        work.info(bias)


def _draw(trials: Trials, found: fast_sampler.Recommendation) -> None:
    """Draws the settings, by fresh seeds where they exist."""
    points: list[Row] = []
    for row in found.rows:
        shown = row.again or row
        if shown.score is None:
            continue
        kind = type(row.sampler)
        tag = tag_of(kind)
        label, place = definition_of(kind).label or tag, list(variants(Sampler)).index(tag or "")
        looks = {"usable": fast_sampler.is_usable(shown, found.own, trials.n), "fast": row is found.found}
        points.append({**shown.values, **looks, "label": label, "number": place})
    if points:
        caption = f"{trials.caption()}; hollow: too many broken images"
        caption += "" if found.found is None else "; ringed: recommended, measured again with fresh seeds"
        metric = trials.recorded.metric
        plot_samplers(trials.place / "samplers", points, metric=metric, title=trials.run.name, caption=caption)

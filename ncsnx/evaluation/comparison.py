"""Compares samplers on one checkpoint: quality against evaluations, from the same noise, over several seeds.

    compare/step-00001500-n1000-classifier-1a2b3c4d/scores.csv  samplers.png  samplers.svg

A trial is one sampler setting with one seed, an entry of the run's ledger, so an interrupted comparison resumes. The
smallest of many measured distances is biased low; the chosen setting is therefore measured once again, with fresh seeds
that play no part in the choice.
"""

import math
from collections.abc import Callable, Sequence

import attrs

from ncsnx.config.converter import unstructure
from ncsnx.config.experiment import Experiment
from ncsnx.config.pretrained import Declared
from ncsnx.config.sampler import AnnealedLangevin, Exponential, GridSampler, Karras, Sampler, TrainedLevels
from ncsnx.config.variants import Config, tag_of, variants
from ncsnx.errors import NcsnxError, UsageError, quoted
from ncsnx.evaluation.distance import Trials
from ncsnx.evaluation.measuring import measure
from ncsnx.evaluation.plots import plot_samplers
from ncsnx.model_spec import learns_scores
from ncsnx.quantities import counted, number
from ncsnx.runs import fast_sampler
from ncsnx.runs.fast_sampler import FEWEST, most_evaluations
from ncsnx.runs.ledger import Row, Subject
from ncsnx.runs.measurements import MeasuredRow, Measurements
from ncsnx.samplers.building import dry_run, evaluations
from ncsnx.samplers.contract import Grids, definition_of, sampler_code
from ncsnx.sampling.bias import known_bias
from ncsnx.sampling.consistency import tuned_candidates
from ncsnx.schedules.levels import sigmas
from ncsnx.spelling import parameter
from ncsnx.storage import atomic
from ncsnx.work import Work

_EVALUATIONS = (FEWEST, 5, 6, 8, 10, 20)
"""Numbers of evaluations that are always tried, of each sampler from its own fewest on."""
_LONGEST_STEP = 2.0
"""Mean factor between neighboring levels of the narrow grid, at most."""


def comparison_candidates(
    declared: Declared,
    tags: Sequence[str] | None = None,
    counts: Sequence[int] | None = None,
    tell: Callable[[str], None] = lambda line: None,
    *,
    guidance: Sequence[float] | None = None,
) -> list[Sampler]:
    """The model's own sampler, then the settings to try of each sampler in `tags`, adaptive solvers included.

    tags: None for all samplers. counts: numbers of evaluations per image; None for `default_counts`. A network that is
    conditional on its trained levels is tried at those levels only. guidance: each is tried; None for the model's own.
    The classes are those of the model's own sampler. A model that was tuned for consistency is tried with one to three
    evaluations.

    Samplers that are named in `tags` raise UsageError if they have no settings to try, or need levels that the network
    doesn't take, and NcsnxError if they fail. With tags=None such samplers are left out; `tell` gets a line for each
    failure.
    """
    known = variants(Sampler)
    if unknown := [tag for tag in tags or () if tag not in known]:
        given = quoted(",".join(unknown))
        raise UsageError(f"{parameter('samplers')} {given}: expected all, or some of {', '.join(known)}")
    if tags is None and isinstance(declared, Experiment) and not learns_scores(declared):
        several = [one for one in tuned_candidates(declared) if counts is None or one.steps in counts]
        weights = guidance or (declared.sampler.guidance,)
        guided = [_with_guidance(one, declared, weight) for weight in weights for one in several]
        return list(dict.fromkeys([declared.sampler, *guided]))
    found: list[Sampler] = [declared.sampler]
    for tag in known if tags is None else tags:
        try:
            tried = _possible(declared, tag, counts, guidance or (declared.sampler.guidance,))
        except NcsnxError as error:
            if tags is not None:
                raise
            if not isinstance(error, UsageError):
                tell(f"the sampler {tag} is left out: {error}")
            continue
        found += [one for one in dict.fromkeys(tried) if one not in found]
    return found


def default_counts(declared: Declared) -> list[int]:
    """Numbers of evaluations to try: a few small ones, and the largest that counts as fast."""
    own = evaluations(declared.sampler, declared.schedule.levels) or 0
    return sorted({*_EVALUATIONS, max(most_evaluations(own), _EVALUATIONS[0])})


def _possible(declared: Declared, tag: str, counts: Sequence[int] | None, guidance: Sequence[float]) -> list[Sampler]:
    """The settings of a sampler that stay within the counts of evaluations and that the network supports."""
    trained, any_sigma, cls = sigmas(declared.schedule), declared.model.any_sigma, variants(Sampler)[tag]
    assert issubclass(cls, Sampler)
    if counts is None:
        counts = [count for count in default_counts(declared) if count >= definition_of(cls).fewest]
    settings = [
        (count, one) for count in counts for weight in guidance for one in _guided(cls, declared, count, weight)
    ]
    if not settings:
        raise UsageError(f"{parameter('samplers')} {tag}: there are no settings of it to try; leave it out")
    tried = [one for count, one in settings if (evaluations(one, len(trained)) or 0) <= count]
    possible = [one for one in tried if any_sigma or dry_run(one, trained).stays]
    if tried and not possible:
        raise UsageError(
            f"{parameter('samplers')} {tag}: it uses σ between the trained levels, which "
            f"{tag_of(type(declared.model))} does not accept; leave it out"
        )
    if any_sigma:
        return possible
    return [one for one in possible if not isinstance(one, GridSampler) or one.steps <= len(trained)]


def _guided(cls: type[Sampler], declared: Declared, count: int, weight: float) -> Sequence[Sampler]:
    """The settings of a sampler with guidance of this weight, which takes two evaluations at each σ."""
    calls = count if weight == 1 else max(1, count // 2)
    return [_with_guidance(one, declared, weight) for one in _settings_of(cls, _grids(declared, calls), calls)]


def _with_guidance(sampler: Sampler, declared: Declared, weight: float) -> Sampler:
    """The sampler with the classes of the model's own one, and guidance of this weight."""
    own = declared.sampler
    interval = None if weight == 1 else own.guidance_interval
    return attrs.evolve(sampler, classes=own.classes, guidance=weight, guidance_interval=interval)


def _grids(declared: Declared, count: int = max(_EVALUATIONS)) -> Grids:
    schedule, own = declared.schedule, declared.sampler
    snr = math.sqrt(own.step_size / 2) / schedule.sigma_min if isinstance(own, AnnealedLangevin) else 0.16
    if not declared.model.any_sigma:
        levels = TrainedLevels()
        return Grids(even=levels, whole=levels, inner=levels, narrow=levels, snr=snr)
    high, low = schedule.sigma_max / 4, 5 * schedule.sigma_min
    excess = max(1.0, high / low / _LONGEST_STEP ** (count - 1))
    inner = _inner(high, low)
    return Grids(
        even=Exponential(),
        whole=Karras(),
        inner=inner,
        # fewer steps do without small σ rather than without large ones; a single step has no range to narrow
        narrow=_inner(high / excess ** (1 / 3), low * excess ** (2 / 3)) if count > 1 else inner,
        snr=float(f"{snr:.3g}"),
    )


def _inner(high: float, low: float) -> Karras:
    ends = {"sigma_max": float(f"{high:.3g}"), "sigma_min": float(f"{low:.3g}")} if high > low else {}
    return Karras(rho=9.0, **ends)


def _settings_of(cls: type[Config], grids: Grids, count: int = max(_EVALUATIONS)) -> Sequence[Sampler]:
    """Settings of a sampler to try with `count` evaluations: those its definition lists, else its defaults.

    Raises NcsnxError for anything that the sampler raises.
    """
    assert issubclass(cls, Sampler)
    tried = definition_of(cls).tried
    with sampler_code(cls):
        return _defaults(cls, grids, count) if tried is None else tried(count, grids)


def _defaults(cls: type[Sampler], grids: Grids, count: int) -> Sequence[Sampler]:
    if not issubclass(cls, GridSampler) or any(field.default is attrs.NOTHING for field in attrs.fields(cls)):
        return ()
    one = cls(steps=count, grid=grids.whole)
    while one.steps > 1 and (taken := evaluations(one, 0) or 0) > count:
        one = attrs.evolve(one, steps=max(1, min(one.steps - 1, one.steps * count // taken)))
    return (one,)


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

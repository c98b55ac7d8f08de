"""The rules of `retention`: which checkpoints and which optimizer states of a run to keep, decided by steps alone."""

from collections.abc import Iterable, Sequence

import attrs

from ncsnx.config.retention import Retention


@attrs.frozen
class CheckpointStatus:
    """A checkpoint that counts: not known to be unsound."""

    step: int
    trainable: bool
    """Whether it holds the optimizer's state."""


@attrs.frozen
class ScoredSteps:
    """Scored checkpoints, by the sweep that determines the best."""

    best: int | None = None
    """Step of the best checkpoint that counts."""
    scored: frozenset[int] = frozenset()
    """All steps scored by the sweep."""


@attrs.frozen
class PruningPlan:
    """The checkpoints to remove, and those that must be sound first. Steps, ascending."""

    remove: tuple[int, ...] = ()
    """Checkpoints to remove."""
    strip: tuple[int, ...] = ()
    """Checkpoints to remove the optimizer's state from."""
    relied_on: tuple[int, ...] = ()
    """Checkpoints that stay and must be verified first."""

    def __bool__(self) -> bool:
        return bool(self.remove or self.strip)


def plan(
    rules: Retention,
    counting: Sequence[CheckpointStatus],
    unsound: Iterable[int] = (),
    scores: ScoredSteps | None = None,
) -> PruningPlan:
    """Applies the rules. counting: checkpoints that count, ascending. unsound: steps of the others.

    The last checkpoint, the last that training can resume from, and the best always stay. `keep_last` and
    `optimizer_last` count sound checkpoints; `keep_last` also keeps as many that training can resume from.
    """
    scores = ScoredSteps() if scores is None else scores
    if not counting:
        return PruningPlan()
    steps = [one.step for one in counting]
    trainable = [one.step for one in counting if one.trainable]
    whole = set(trainable if rules.optimizer_last is None else trainable[-rules.optimizer_last :])
    anchors = {steps[-1], *trainable[-1:]} | ({scores.best} if scores.best in steps else set())
    keep, stand_ins = _kept(rules, steps, trainable, set(unsound), scores)
    keep |= anchors
    remove = tuple(step for step in steps if step not in keep)
    strip = tuple(step for step in trainable if step in keep and step not in whole)
    relied_on = anchors | stand_ins | (keep & set(steps[-(rules.keep_last or 1) :]))
    if rules.optimizer_last is not None:
        relied_on |= whole & keep
    if rules.keep_every is not None:
        relied_on |= keep & _neighbours(rules.keep_every, remove)
    return PruningPlan(remove, strip, tuple(sorted(relied_on)))


def newest_whole(rules: Retention) -> int:
    """Number of newest checkpoints that must hold their optimizer's state, whatever the rules have removed.

    It is 1 if a rule may remove a newer checkpoint that holds it, and also if no rule removes optimizer states, since
    an earlier rule may have.
    """
    if rules.optimizer_last is None or (rules.removes_checkpoints and rules.keep_last is None):
        return 1
    return min(rules.optimizer_last, rules.keep_last or rules.optimizer_last)


def _kept(
    rules: Retention, steps: list[int], trainable: list[int], unsound: set[int], scores: ScoredSteps
) -> tuple[set[int], set[int]]:
    """The steps that a rule keeps, and those of them that replace an unsound multiple of `keep_every`."""
    if not rules.removes_checkpoints:
        return set(steps), set()
    if rules.keep_last is None and rules.keep_every is None:
        return ({step for step in steps if step not in scores.scored} if scores.best in steps else set(steps)), set()
    keep: set[int] = set()
    stand_ins: set[int] = set()
    if rules.keep_last is not None:
        count = rules.keep_last if rules.optimizer_last is None else min(rules.keep_last, rules.optimizer_last)
        keep |= {*steps[-rules.keep_last :], *trainable[-count:]}
    if rules.keep_every is not None:
        every = rules.keep_every
        keep |= {step for step in steps if step % every == 0}
        for step in sorted(unsound):
            if step % every == 0:
                stand_ins |= _stand_in(step, every, steps)
    return keep | stand_ins, stand_ins


def _stand_in(multiple: int, every: int, steps: list[int]) -> set[int]:
    """The sound checkpoint that replaces an unsound multiple: the nearest before it, else the nearest after it.

    Only checkpoints between the adjacent multiples qualify.
    """
    before = [step for step in steps if multiple - every < step < multiple]
    after = [step for step in steps if multiple < step < multiple + every]
    return set(before[-1:] or after[:1])


def _neighbours(every: int, removed: Iterable[int]) -> set[int]:
    """The multiples on either side of each removed step."""
    below = {step // every * every for step in removed}
    return below | {step + every for step in below}

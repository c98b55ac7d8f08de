"""The rules of `retention`: which checkpoints of a run stay, and which of them stay whole, by their steps alone."""

from collections.abc import Iterable, Sequence

import attrs

from ncsnx.config.retention import Retention


@attrs.frozen
class CheckpointStatus:
    """A checkpoint that counts: one that is sound as far as is known."""

    step: int
    trainable: bool
    """Whether it holds the optimizer's state."""


@attrs.frozen
class Judgement:
    """What the scores say."""

    best: int | None = None
    """The step of the best score, among those that count."""
    scored: frozenset[int] = frozenset()
    """The steps that its sweep has scored."""


@attrs.frozen
class Plan:
    """What goes, and what it is relied on that it stays. Steps, ascending."""

    remove: tuple[int, ...] = ()
    """Whole checkpoints."""
    strip: tuple[int, ...] = ()
    """Those that lose their optimizer's state."""
    relied_on: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.remove or self.strip)


def plan(
    rules: Retention, counting: Sequence[CheckpointStatus], unsound: Iterable[int] = (), scores: Judgement | None = None
) -> Plan:
    """What the rules remove, given the checkpoints that count, ascending, and the steps of those that don't.

    Never the last, nor the last that can be trained on, nor the best. `keep_last` and `optimizer_last` count sound
    checkpoints, and keep as many that can be trained on, whatever newer ones can't.
    """
    scores = Judgement() if scores is None else scores
    if not counting:
        return Plan()
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
    return Plan(remove, strip, tuple(sorted(relied_on)))


def newest_whole(rules: Retention) -> int:
    """How many of the newest checkpoints hold their optimizer's state, whatever the rules have removed.

    One where a rule may remove a newer checkpoint that holds it, and where no rule removes such states: an earlier one
    may have.
    """
    if rules.optimizer_last is None or (rules.removes_checkpoints and rules.keep_last is None):
        return 1
    return min(rules.optimizer_last, rules.keep_last or rules.optimizer_last)


def _kept(
    rules: Retention, steps: list[int], trainable: list[int], unsound: set[int], scores: Judgement
) -> tuple[set[int], set[int]]:
    """The steps that a rule keeps, and those of them that stand in for a multiple that isn't sound."""
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
    """The sound checkpoint nearest before an unsound multiple, down to the one before; else the nearest after it."""
    before = [step for step in steps if multiple - every < step < multiple]
    after = [step for step in steps if multiple < step < multiple + every]
    return set(before[-1:] or after[:1])


def _neighbours(every: int, removed: Iterable[int]) -> set[int]:
    """The multiples on either side of what is removed."""
    below = {step // every * every for step in removed}
    return below | {step + every for step in below}

"""Fits a training into a time budget on this machine by reducing the published one.

It reduces, in this order, the steps (down to the fewest that give usable samples), the width, the batch size and,
unless the user chose it, the image size. Each stage is the smallest training of its kind; time left in the budget is
spent on more steps.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence

import attrs
import torch

from ncsnx.config.data_sets import Images, OwnData, cuts_patches
from ncsnx.config.image_sizes import ImageSize, size_in_words, size_of_sides
from ncsnx.errors import Hint, UsageError, shortened
from ncsnx.networks.layouts import NCSNV2
from ncsnx.planning.experiment_proposal import (
    SNAPSHOT_SHARE,
    Network,
    Scale,
    draft,
    long_side,
    preferred_network,
    usual_scale,
    usual_steps,
)
from ncsnx.planning.timing import Timing, time_experiment
from ncsnx.quantities import counted, duration
from ncsnx.runtime import Runtime
from ncsnx.spelling import argument, parameter
from ncsnx.work import Work

RESERVE = 0.1
"""Share of a budget held back for start-up, checkpoints, held-out losses, and other work on the machine."""
WIDE_STEPS, NARROW_STEPS, LEAST_STEPS = 5_000, 3_000, 500
"""Fewest usable steps: of a wide network (the first checkpoint of the published trainings), of a network of width 32,
and of the smallest network (samples of photographs at 8 px are noisy after 250 steps, and clean after 500)."""
_NARROW, _NARROWEST, _SMALLEST_BATCH = 32, 16, 32
_SIZES = (48, 32, 24, 16, 12, 8)
_NARROWEST_SIZE = 16
"""Largest size, in pixels, for which a network of width 16 is chosen if the size is free."""
LEAST_PATCH = 32
"""Smallest side of patches, in pixels: a network of less sees too little of what is around a pixel to restore it."""
_TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd])")
_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_LONGEST_S = 366 * 86_400

TimeOf = Callable[[OwnData, int, int], Timing]
"""(data, width, batch size) → timing on this machine."""


def timed_here(name: str, network: Network | None, device: str, threads: int | None, work: Work) -> TimeOf:
    """Times networks on this machine. Raises UsageError for a device that isn't there.

    name: of the experiment. network: None for the one that is preferred at each image size. device, threads: as for
    `Runtime.choose`; without a number of threads, one thread is tried beside the usual ones.
    """
    usual = Runtime.choose(device=device, threads=threads)
    # where other programs use the processors, threads that wait for each other take longer than one
    counts = [usual.threads, 1] if threads is None and usual.device.type == "cpu" else [usual.threads]

    def time_of(data: OwnData, width: int, batch_size: int) -> Timing:
        work.info(f"timing a network of width {width} at {size_in_words(data.shape[1:])} px")
        kind = network or preferred_network(data)
        experiment, timings = draft(name, data, kind, width=width, batch_size=batch_size), {}
        try:
            for count in dict.fromkeys(counts):
                timings[count] = time_experiment(experiment, Runtime.choose(device=device, threads=count), work)
        finally:
            torch.set_num_threads(usual.threads)
        counts[:] = [min(timings, key=lambda count: timings[count].step_of(batch_size))]
        return timings[counts[0]]

    return time_of


@attrs.frozen(kw_only=True)
class Fit:
    """A training, and how it was reduced to fit a budget."""

    data: OwnData
    scale: Scale
    reductions: Sequence[tuple[str, str, str]] = ()
    """(name, reduced value, published value) of each reduced value."""
    budget_s: float | None = None
    """None for the published training, and if nothing was timed."""
    timing: Timing | None = None
    """Timing of this training."""

    def reduced_from(self, data: OwnData, scale: Scale) -> "Fit":
        """The training, with what was reduced from one on `data` at `scale`."""
        sizes: list[tuple[str, str, str]] = []
        if long_side(self.data) < long_side(data):
            sizes.append(("image size", size_in_words(self.data.shape[1:]), size_in_words(data.shape[1:])))
        rows = [
            ("width", self.scale.width, scale.width),
            ("batch size", self.scale.batch_size, scale.batch_size),
            ("steps", self.scale.steps, scale.steps),
        ]
        reductions = [*sizes, *((name, f"{less:,}", f"{most:,}") for name, less, most in rows if less < most)]
        return attrs.evolve(self, reductions=reductions)

    def say(self, training_s: float | None, work: Work) -> None:
        """Says what was reduced and how to write other trainings, and warns of a training that exceeds the budget.

        training_s: seconds that the training takes; None if nothing was timed.
        """
        reduced = ", ".join(f"{what} {now} instead of {before}" for what, now, before in self.reductions)
        published = f"add {argument('budget', 'none')}"
        if self.budget_s is None:
            if reduced:
                timing = parameter("no_timing")
                work.warning(
                    f"nothing was timed ({timing}), so no budget could be applied, and this is a small training: "
                    f"{reduced}\nfor one that fits a budget, leave out {timing}; for the published training, "
                    f"{published}"
                )
            return
        if reduced:
            work.info(f"reduced to fit {in_short(self.budget_s)} on this machine: {reduced}")
            work.info(f"to write the published training, repeat the command with another name, and {published}")
        if training_s is not None and training_s > self.budget_s:
            fits = f"for one that fits, leave out {parameter('steps')}"
            work.warning(f"the training exceeds the budget of {in_short(self.budget_s)}; {fits}")


def fit(
    data: OwnData,
    images: int,
    time_of: TimeOf | None,
    budget_s: float | None,
    *,
    steps: int | None = None,
    size_is_free: bool = True,
) -> Fit:
    """The largest training that fits the budget in seconds; None: the published one, however long it takes.

    images: number of training images. time_of: None to time nothing; a training for a budget is then a small one.
    steps: steps to take however long they last; the image size is then kept too. size_is_free: whether the image size
    of a folder may be reduced. Raises UsageError, with a sufficient budget, if nothing usable fits.
    """
    if budget_s is None:
        return _as_published(data, images, steps, time_of)
    if time_of is None:
        return _untimed(data, images, steps)
    return _within(budget_s, data, images, time_of, steps, size_is_free=size_is_free)


def _within(
    budget_s: float, data: OwnData, images: int, time_of: TimeOf, steps: int | None, *, size_is_free: bool
) -> Fit:
    """The largest training that fits the budget: see `fit`."""
    usual = usual_scale(data, images)
    stages = _stages(data, usual, steps, size_is_free=size_is_free)
    timings: dict[tuple[ImageSize, int], Timing] = {}

    def timing_of(stage: Fit) -> Timing:
        key = (stage.data.image_size, stage.scale.width)
        if key not in timings:
            timings[key] = time_of(stage.data, stage.scale.width, stage.scale.batch_size)
        return timings[key]

    def step_s(stage: Fit) -> float:  # with the snapshots'
        return timing_of(stage).step_of(stage.scale.batch_size) * (1 + SNAPSHOT_SHARE)

    def most_steps(stage: Fit) -> int:
        return int(budget_s * (1 - RESERVE) / step_s(stage))

    # bisection saves timings: if a stage fits, all later ones fit too
    place = bisect_left(stages, True, key=lambda stage: most_steps(stage) >= stage.scale.steps)
    if place == len(stages) and steps is None:
        needed_s = stages[-1].scale.steps * step_s(stages[-1]) / (1 - RESERVE)
        raise _too_short(stages[-1], needed_s, budget_s, size_is_free=size_is_free)
    stage = stages[min(place, len(stages) - 1)]
    most = usual_steps(long_side(stage.data), images, stage.scale.batch_size)
    scale = attrs.evolve(stage.scale, steps=steps or min(most, _round_down(most_steps(stage))))
    fitted = attrs.evolve(stage, scale=scale, budget_s=budget_s, timing=timing_of(stage))
    return fitted.reduced_from(data, attrs.evolve(usual, steps=steps or usual.steps))


def _as_published(data: OwnData, images: int, steps: int | None, time_of: TimeOf | None) -> Fit:
    """The published training, however long it takes."""
    usual = usual_scale(data, images)
    scale = attrs.evolve(usual, steps=steps or usual.steps)
    timing = None if time_of is None else time_of(data, scale.width, scale.batch_size)
    return Fit(data=data, scale=scale, timing=timing)


def _untimed(data: OwnData, images: int, steps: int | None) -> Fit:
    """A small training for use without a timing: narrow network, small batches and few steps."""
    usual = usual_scale(data, images)
    width, batch_size = min(usual.width, _NARROW), min(usual.batch_size, _SMALLEST_BATCH)
    small = Scale(width=width, batch_size=batch_size, steps=steps or NARROW_STEPS)
    return Fit(data=data, scale=small).reduced_from(data, usual)


def _stages(data: OwnData, usual: Scale, steps: int | None, *, size_is_free: bool) -> list[Fit]:
    """Stages from the published training to the smallest one, each faster than the previous one."""
    narrow = min(usual.width, _NARROW)

    def stage(of: OwnData, width: int, batch_size: int, least_steps: int) -> Fit:
        batch_size = min(batch_size, usual.batch_size)
        return Fit(data=of, scale=Scale(width=width, batch_size=batch_size, steps=steps or least_steps))

    widths = [width for width in (128, 64, 32) if width <= usual.width]
    batches = [batch for batch in (64, _SMALLEST_BATCH) if batch < usual.batch_size]
    least = LEAST_PATCH if cuts_patches(data) else 0
    sizes = [_reduced(data, side) for side in _SIZES if least <= side < long_side(data)]
    if not (size_is_free and steps is None and isinstance(data, Images)):
        sizes = []
    narrowest = max(_NARROWEST_SIZE, least)
    smallest = [of for of in (data, *sizes) if long_side(of) <= narrowest] if sizes else [data]
    return [
        *(stage(data, wide, usual.batch_size, WIDE_STEPS if wide > _NARROW else NARROW_STEPS) for wide in widths),
        *(stage(data, narrow, batch, NARROW_STEPS) for batch in batches),
        *(stage(of, _NARROW, _SMALLEST_BATCH, NARROW_STEPS) for of in sizes if long_side(of) >= _NARROWEST_SIZE),
        *(stage(of, _NARROWEST, _SMALLEST_BATCH, LEAST_STEPS) for of in smallest),
    ]


def _reduced(data: OwnData, side: int) -> OwnData:
    """The data set with a longer side of so many pixels, in about its proportions."""
    sides = [side * each / long_side(data) for each in data.shape[1:]]
    even = [max(NCSNV2.smallest, round(each / NCSNV2.divisor) * NCSNV2.divisor) for each in sides]
    return attrs.evolve(data, image_size=size_of_sides(even))


def _too_short(stage: Fit, needed_s: float, budget_s: float, *, size_is_free: bool) -> UsageError:
    unit_s = next(size for size in _UNITS.values() if needed_s >= 2 * size or size == 1)
    needed = in_short(math.ceil(needed_s / unit_s) * unit_s)
    return UsageError(
        f"{parameter('budget')} {in_short(budget_s)} is too short for anything usable on this machine: "
        f"{counted(stage.scale.steps, 'step')} of the smallest network at {size_in_words(stage.data.shape[1:])} px "
        f"take about {needed}",
        Hint("take more time", adds=argument("budget", needed)),
        *([] if size_is_free else [Hint(f"or let the images be smaller: leave out {parameter('size')}")]),
        Hint("or choose the steps, however long they take", adds=argument("steps", stage.scale.steps)),
        Hint("or train as published", adds=argument("budget", "none")),
    )


def _round_down(steps: int) -> int:
    """`steps` rounded down to two significant digits."""
    digits = int(10 ** max(0, len(str(steps)) - 2))
    return steps // digits * digits


# Durations as users type and read them


def parse_budget(text: str) -> float | None:
    """Like `parse_time`, with None for 'none'."""
    return None if text == "none" else parse_time(text, ", or none for the published training")


def parse_time(text: str, others: str = "") -> float:
    """Seconds of a duration such as 90s, 30m, 2h or 1d. Raises UsageError for anything else.

    others: what else the error says is accepted.
    """
    match = _TIME.fullmatch(text)
    if match is None or not 1 <= (seconds := float(match[1]) * _UNITS[match[2]]) <= _LONGEST_S:
        raise UsageError(
            f"{parameter('budget')} {shortened(text)}: expected a time such as 90s, 30m, 2h or 1d (from 1s to a year)"
            f"{others}"
        )
    return seconds


def in_short(seconds: float) -> str:
    """Seconds in the form of `parse_budget`, rounded up to whole ones: 90s, 150m, 1d."""
    whole = math.ceil(seconds)
    unit, size = next((unit, size) for unit, size in _UNITS.items() if whole % size == 0)
    return f"{whole // size}{unit}"


def span_of_time(seconds: float) -> str:
    """A duration in a suitable unit: '12 ms', '3.4 s', '1:02:03', '3.5 days'."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    return duration(seconds) if seconds < 48 * 3600 else f"{seconds / 86400:,.1f} days"

"""Messages about a training's time, and about what was reduced to fit a budget."""

from typing import TYPE_CHECKING

from ncsnx.config.image_sizes import size_in_words
from ncsnx.planning.budget import in_short, span_of_time
from ncsnx.quantities import counted

if TYPE_CHECKING:
    from ncsnx.console.messages import Messages
    from ncsnx.planning.budget import Fit
    from ncsnx.planning.survey import Survey


def say_reductions(messages: "Messages", found: "Survey") -> None:
    """Says what was reduced, why, and how to write other trainings."""
    fit = found.fit
    if fit is None or not fit.reductions:
        return
    reduced = ", ".join(f"{what} {now} instead of {before}" for what, now, before in fit.reductions)
    if fit.budget_s is None:
        messages.warning(
            "nothing was timed (--no-timing), so no budget could be applied, and this is a small training: "
            f"{reduced}.\n"
            "for one that fits a budget, leave out --no-timing; for the published training, add --budget none"
        )
        return
    messages.info(f"reduced to fit {in_short(fit.budget_s)} on this machine: {reduced}")
    if fit.published_seconds is not None:
        messages.info(
            f"{_published(fit)} takes about {span_of_time(fit.published_seconds)} here\n"
            "to write that one, repeat the command with --budget none and another name"
        )


def say_times(messages: "Messages", found: "Survey") -> None:
    """Says how long the training, by its parts, and an image take, and whether the budget holds."""
    timing, cost = found.timing, found.cost
    if timing is None or cost is None:
        return
    parts = cost.parts()
    listed = ", ".join(f"{name} {span_of_time(seconds)}" for name, seconds in parts.items())
    messages.info(
        f"training takes about {span_of_time(cost.total)}{f' ({listed})' if len(parts) > 1 else ''}, estimated from a "
        f"quick timing: {timing.timed}"
    )
    messages.info(_images(found))
    budget_s = None if found.fit is None else found.fit.budget_s
    if budget_s is not None and cost.total > budget_s:
        messages.warning(f"that exceeds the budget of {in_short(budget_s)}; for one that fits, leave out --steps")
    warn_if_busy(messages, found)


def propose_bf16(messages: "Messages", found: "Survey", command: str) -> None:
    """Says how much faster bf16 is here, where it is, and what to type. command: the training's."""
    if found.bf16_proposal is not None:
        messages.info(f"{found.bf16_proposal} here\ntrain in bf16:  {command} precision=bf16")


def warn_if_busy(messages: "Messages", found: "Survey") -> None:
    """Warns when other work slowed this machine down during the timing."""
    import torch

    from ncsnx.planning.timing import why_slow

    timing = found.timing
    if timing is not None and timing.device == "cpu" and (reason := why_slow(torch.get_num_threads())) is not None:
        messages.warning(reason)


def _published(fit: "Fit") -> str:
    scale, size = fit.published, size_in_words(fit.published_data.shape[1:])
    steps = f"{counted(scale.steps, 'step')} of {counted(scale.batch_size, 'image')}"
    return f"the published training ({size} px, width {scale.width}, {steps})"


def _images(found: "Survey") -> str:
    from ncsnx.samplers.building import expected_evaluations

    assert found.timing is not None
    assert found.seconds_per_image is not None
    own = expected_evaluations(found.experiment.sampler, found.experiment.schedule.levels)
    quickly = span_of_time(own * found.timing.seconds_per_evaluation)
    return (
        f"an image takes about {quickly} with the experiment's sampler of {counted(own, 'evaluation')}, and "
        f"{span_of_time(found.seconds_per_image)} with the published one"
    )

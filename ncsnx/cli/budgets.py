"""What a training takes, for people."""

from typing import TYPE_CHECKING

from ncsnx.planning.spans import span_of_time

if TYPE_CHECKING:
    from ncsnx.console.messages import Messages
    from ncsnx.planning.survey import Survey


def say_what_it_takes(messages: "Messages", found: "Survey") -> None:
    """The time of the training by its parts, and of an image."""
    timing, cost = found.timing, found.cost
    if timing is None or cost is None:
        return
    parts = cost.parts()
    listed = ", ".join(f"{name} {span_of_time(seconds)}" for name, seconds in parts.items())
    messages.info(
        f"training takes about {span_of_time(cost.total)}{f' ({listed})' if len(parts) > 1 else ''}, estimated from a "
        f"quick timing: {timing.timed}"
    )
    assert found.seconds_per_image is not None
    messages.info(f"an image takes about {span_of_time(found.seconds_per_image)}")
    warn_if_busy(messages, found)


def warn_if_busy(messages: "Messages", found: "Survey") -> None:
    """Says when the times are those of a machine that has other work."""
    import torch

    from ncsnx.planning.timing import why_slow

    timing = found.timing
    if timing is not None and timing.device == "cpu" and (reason := why_slow(torch.get_num_threads())) is not None:
        messages.warning(reason)

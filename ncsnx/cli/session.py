"""The session around every command: its messages, and errors as lines with an exit code."""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import typer

from ncsnx.errors import NcsnxError, Stopped, UsageError
from ncsnx.spelling import spelled_by
from ncsnx.stopping import signals_raise

if TYPE_CHECKING:
    from ncsnx.console.messages import Messages
    from ncsnx.stopping import StopRequest
    from ncsnx.work import Work


FROM_THE_START = "the same command starts from the beginning"
BATCHES = "finished batches are kept, and the same command resumes after them"
_OPTIONS = {"count": "grid", "name": "run"}
"""Parameter of the library → name of its option, where they differ."""


@contextmanager
def session(then: str, *, verbose: bool = False, quiet: bool = False) -> Iterator["Messages"]:
    """Gives the command its Messages. An NcsnxError in the block becomes a message and an exit code; --verbose adds
    the traceback. Any other exception is a bug: it is recorded in the log and keeps its traceback.

    then: what the same command does after a stop by a signal; shown unless the work itself says it more precisely.
    """
    from ncsnx.console.messages import Messages, Verbosity

    messages = Messages(Verbosity.VERBOSE if verbose else Verbosity.QUIET if quiet else Verbosity.NORMAL)
    try:
        if verbose and quiet:
            raise UsageError("--verbose and --quiet exclude each other")
        with spelled_by(_option), signals_raise():
            yield messages
    except Stopped as stopped:
        messages.info(f"{stopped}; {stopped.then or then}")
        raise typer.Exit(stopped.exit_code) from None
    except NcsnxError as error:
        messages.error(error_in_lines(error))
        messages.detail(traceback.format_exc().rstrip())
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        messages.error("interrupted")
        raise typer.Exit(130) from None
    except Exception as error:
        if _is_out_of_memory(error):
            messages.error(
                "not enough memory\n"
                "in training, try a smaller batch_size or model.width, or more accumulation\n"
                "in sampling and measuring, try a smaller --batch-size"
            )
            messages.detail(traceback.format_exc().rstrip())
            raise typer.Exit(1) from None
        messages.record("error", f"{type(error).__name__}: {error}\n{traceback.format_exc().rstrip()}")
        raise


def _option(name: str) -> str:
    """The option for a parameter of the library."""
    return f"--{_OPTIONS.get(name, name).replace('_', '-')}"


def error_in_lines(error: NcsnxError) -> str:
    """The message and its hints, each on a line of its own so that it can be copied."""
    from ncsnx.cli.retyping import typed_with

    if not error.hints:
        return str(error)
    width = max((len(hint.label) + 1 for hint in error.hints if hint.command or hint.adds), default=0)
    lines = [error.message if error.message.endswith((".", "?", "!")) else f"{error.message}."]
    for hint in error.hints:
        command = hint.command or (typed_with(hint.adds) if hint.adds else "")
        lines.append(f"{hint.label + ':':<{width}}  {command}" if command else hint.label)
    return "\n".join(lines)


def work_of(messages: "Messages", stop: "StopRequest | None" = None) -> "Work":
    """The Work of a long job of this command: progress and messages on the console, and its stop."""
    from ncsnx.console.progress import progress
    from ncsnx.console.sweep import sweep_view
    from ncsnx.console.tables import Column
    from ncsnx.work import SILENT, RowView, Work

    def rows(titles: Sequence[str], *, total: int, units: int) -> AbstractContextManager[RowView]:
        return sweep_view(messages, columns=[Column(title, "right") for title in titles], total=total, units=units)

    return Work(
        progress=partial(progress, messages),
        rows=rows,
        check_stop=SILENT.check_stop if stop is None else stop.check,
        at_once=SILENT.at_once if stop is None else stop.at_once,
        info=messages.info,
        warning=messages.warning,
        detail=messages.detail,
    )


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on the CPU or a GPU. Decided by names, since torch may not be imported."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))
    )

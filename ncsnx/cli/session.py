"""The session around every command: its messages, and errors as lines with an exit code."""

import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import attrs
import typer

from ncsnx.errors import NcsnxError, Stopped, UsageError, is_out_of_memory, require_between
from ncsnx.ranks.rank_group import OtherRankDone, rank_here, too_late
from ncsnx.spelling import spelled_by
from ncsnx.stopping import signal_name, signals_raise

if TYPE_CHECKING:
    from ncsnx.console.messages import Messages


_OF_TRAINING = {"name": "--run"}
"""Parameter of `ncsnx train` → its option, for advice that another command gives."""


@attrs.frozen(kw_only=True)
class Shared:
    """How the ranks of a command share its work, for a command that can run in several."""

    gpus: int | None = None
    """Ranks to start on this machine; None: those that a launcher started, or one."""
    device: str = "auto"


@contextmanager
def session(
    then: str,
    *,
    verbose: bool = False,
    quiet: bool = False,
    shared: Shared | None = None,
    names: Mapping[str, str] | None = None,
) -> Iterator["Messages"]:
    """Gives the command its Messages. An NcsnxError in the block becomes a message and an exit code; --verbose adds
    the traceback. Any other exception is a bug: it is recorded in the log and keeps its traceback.

    then: what the same command does after a stop by a signal; shown unless the work itself says it more precisely.
    shared: for commands that can run in several ranks; any other command runs on rank 0, and other ranks end at once.
    names: parameter → its option, where that isn't --PARAMETER.
    """
    from ncsnx.console.messages import Messages, Verbosity

    messages = Messages(Verbosity.VERBOSE if verbose else Verbosity.QUIET if quiet else Verbosity.NORMAL)
    if shared is None and rank_here() > 0:
        raise typer.Exit
    try:
        if verbose and quiet:
            raise UsageError("--verbose and --quiet exclude each other")
        with spelled_by(partial(_option, names or {})), signals_raise():
            if shared is not None:
                _share(messages, shared)
            with suppress(OtherRankDone):
                yield messages
            if messages.ranks.world > 1:
                from ncsnx.ranks.joining import leave

                leave(messages.ranks)
    except Stopped as stopped:
        _say_stopped(messages, stopped, then)
    except NcsnxError as error:
        _fail(messages, error_in_lines(error), error.exit_code)
    except KeyboardInterrupt:
        messages.error("interrupted")
        raise typer.Exit(130) from None
    except Exception as error:
        if is_out_of_memory(error):
            _fail(
                messages,
                "not enough memory\n"
                "in training, try a smaller batch_size or model.width, or more accumulation\n"
                "in sampling and measuring, try a smaller --batch-size",
            )
        if messages.ranks.channel is not None and _is_lost_connection(error):
            from ncsnx.ranks.joining import told_stop

            if (signal_number := told_stop(messages.ranks.channel)) is not None:
                _say_stopped(messages, Stopped(f"stopped by {signal_name(signal_number)}", signal_number), then)
            _fail(messages, _lost_connection(error, messages.ranks.limit_s))
        messages.record("error", f"{type(error).__name__}: {error}\n{traceback.format_exc().rstrip()}")
        if not messages.ranks.may_speak():  # by the traceback
            raise typer.Exit(1) from None
        raise


def _share(messages: "Messages", shared: Shared) -> None:
    """Joins the other ranks of the command, or starts them and ends with their exit code. Raises NcsnxError."""
    from ncsnx.ranks.joining import join, require_same_start

    messages.join(join())
    if shared.gpus is not None:
        require_between("gpus", shared.gpus, 1, 1_024)
        from ncsnx.data.read_ahead import processors
        from ncsnx.ranks.launching import launch

        raise typer.Exit(
            launch(shared.gpus, _words_of_a_rank(sys.argv[1:]), device=shared.device, processors=processors())
        )
    require_same_start(messages.ranks, sys.argv[1:])


def _words_of_a_rank(words: list[str]) -> list[str]:
    """The command line without `--gpus N`."""
    kept, rest = list[str](), iter(words)
    for word in rest:
        if word == "--gpus":
            next(rest, None)
        elif not word.startswith("--gpus="):
            kept.append(word)
    return kept


def _say_stopped(messages: "Messages", stopped: Stopped, then: str) -> NoReturn:
    """Ends the command after a signal to this rank or another."""
    if messages.ranks.channel is not None:
        from ncsnx.ranks.joining import tell_stop

        tell_stop(messages.ranks.channel, stopped.signal_number)
    if messages.ranks.is_first and messages.ranks.may_speak():  # another rank that failed has said why
        messages.info(f"{stopped}; {stopped.then or then}")
    raise typer.Exit(stopped.exit_code) from None


def _fail(messages: "Messages", text: str, exit_code: int = 1) -> NoReturn:
    """Ends the command with a message, which is shown by one rank only."""
    if messages.ranks.may_speak():
        messages.speak()
        messages.error(text if messages.ranks.is_first else f"{messages.ranks.name}: {text}")
        messages.detail(traceback.format_exc().rstrip())
    else:
        messages.record("error", text)
    raise typer.Exit(exit_code) from None


def _option(names: Mapping[str, str], name: str) -> str:
    """The option for a parameter of the library."""
    return names.get(name, _OF_TRAINING.get(name, f"--{name.replace('_', '-')}"))


def error_in_lines(error: NcsnxError) -> str:
    """The message and its hints, each on a line of its own so that it can be copied."""
    if not error.hints:
        return str(error)
    width = max((len(hint.label) + 1 for hint in error.hints if hint.command or hint.adds), default=0)
    lines = [error.message if error.message.endswith((".", "?", "!")) else f"{error.message}."]
    for hint in error.hints:
        command = hint.command or hint.adds
        lines.append(f"{hint.label + ':':<{width}}  {command}" if command else hint.label)
    return "\n".join(lines)


def _is_lost_connection(error: Exception) -> bool:
    """Whether an error of torch's collectives or of their store, which have no class in common, ended the work."""
    return type(error).__name__ in ("DistBackendError", "DistNetworkError", "DistStoreError") or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "Connection", "NCCL"))
    )


def _lost_connection(error: Exception, limit_s: float) -> str:
    """The message for an error of the collectives."""
    if any(word in str(error).lower() for word in ("timed out", "timeout")):
        return error_in_lines(too_late("a rank did not answer", limit_s))
    return "another rank ended without a message, or its connection was lost\nthe same command resumes"

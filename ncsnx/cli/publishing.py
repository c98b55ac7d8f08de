"""The questions and messages of a command that publishes an export on the Hugging Face Hub."""

import sys
from typing import TYPE_CHECKING, Any

import attrs

from ncsnx.config.checks import printable
from ncsnx.console.messages import Messages
from ncsnx.console.working import work_of
from ncsnx.errors import Hint, NcsnxError, Stopped
from ncsnx.runs.exported import CARD, CONFIG, MODEL, PICTURE, Export
from ncsnx.runs.hub import parse_repository
from ncsnx.runs.names import as_typed

if TYPE_CHECKING:
    from ncsnx.exchange.hub_upload import Destination, PublishedExport
    from ncsnx.stopping import StopRequest


@attrs.frozen(kw_only=True)
class Contents:
    """Facts in an export, for everybody who can read it."""

    run: str
    step: int
    experiment: str
    note: str
    license: str | None
    """None if the card was written before."""

    def lines(self) -> list[str]:
        """A line for each file."""
        license = "" if self.license is None else f"; license: {self.license}"
        note = f"; note: {printable(self.note)}" if self.note else "; no note"
        return [
            f"{MODEL}: the weights of step {self.step:,}",
            f"{CONFIG}: every value of the experiment {self.experiment}, the name of the run ({self.run}){note}",
            f"{CARD}: the model card, with the recorded scores and their protocols{license}",
            f"{PICTURE}: the picture of samples, if there is one",
        ]


def find_push(repository: str, private: bool) -> "Destination":
    """The repository of --push, checked before anything is exported. Raises UsageError."""
    address = parse_repository(repository, "push")
    from ncsnx.exchange.hub_upload import find_destination

    return find_destination(address, private=private)


def agree(messages: Messages, destination: "Destination", contents: Contents, yes: bool) -> None:
    """Says what will be published where, and asks where standard input is a terminal. Raises NcsnxError for a no.

    yes: whether --yes answers the question.
    """
    kind = "private" if destination.is_private else "public"
    place = f"{'a new' if destination.commit is None else 'the'} {kind} repository {destination.page}"
    readers = "those who may read it" if destination.is_private else "everybody"
    text = [f"publishing in {place}, for {readers}:", *contents.lines()]
    if destination.replaces:
        text.append(f"replaced there: {', '.join(destination.replaces)}")
    asks = sys.stdin is not None and sys.stdin.isatty() and not yes
    if not asks:
        messages.info("\n".join(text))
    elif not messages.agreed("\n".join([*text, "publish?"])):
        raise NcsnxError("nothing was exported or published")


def push(
    messages: Messages, stop: "StopRequest", export: Export, destination: "Destination", *, is_kept: bool
) -> "PublishedExport":
    """Publishes the export, and says where it is and what loads it. Raises NcsnxError.

    is_kept: whether the folder stays, so that the upload alone can be repeated.
    """
    from ncsnx.exchange.hub_upload import publish

    again = f"ncsnx export {as_typed(export.path)} --push {destination.address.repository}"
    try:
        with stop.at_once():
            published = publish(export, destination, work_of(messages, stop))
    except Stopped as stopped:
        if is_kept:
            stopped.then = f"the export is complete; to upload it:  {again}"
        raise
    except NcsnxError as error:
        repeat = Hint("upload it again", again) if is_kept else Hint("repeat the command")
        raise NcsnxError(error.message, *error.hints, repeat) from error
    messages.info(f"{'published' if published.is_new else 'already published'}: {published.page}")
    messages.info(f"next: ncsnx sample {published.address} --n 16")
    return published


def published_facts(published: "PublishedExport", destination: "Destination") -> dict[str, Any]:
    """JSON of a published export."""
    return {
        "address": str(published.address),
        "page": published.page,
        "private": destination.is_private,
        "is_new": published.is_new,
    }

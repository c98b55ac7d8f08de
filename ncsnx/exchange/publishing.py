"""Publishes an export on the Hugging Face Hub, after it was said what will be there, and agreed to."""

from typing import Any

import attrs

from ncsnx.config.checks import printable
from ncsnx.errors import Hint, NcsnxError, Stopped
from ncsnx.exchange.hub_upload import Destination, PublishedExport, find_destination, publish
from ncsnx.runs.exported import CARD, CONFIG, MODEL, PICTURE, Export
from ncsnx.runs.folder import Run
from ncsnx.runs.hub import parse_repository
from ncsnx.runs.names import as_typed
from ncsnx.work import Work


@attrs.frozen(kw_only=True)
class Contents:
    """Facts in an export, for everybody who can read it."""

    run: str
    step: int
    experiment: str
    note: str
    license: str | None = None
    """None if the card was written before."""

    @classmethod
    def of_run(cls, run: Run, step: int, license: str) -> "Contents":
        """The facts in the export of a checkpoint."""
        experiment = run.experiment()
        return cls(run=run.name, step=step, experiment=experiment.name, note=experiment.note, license=license)

    @classmethod
    def of_export(cls, export: Export) -> "Contents":
        """The facts in an exported folder."""
        config = export.config()
        return cls(run=config.run, step=config.step, experiment=config.experiment.name, note=config.experiment.note)

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


def agreed_destination(repository: str, contents: Contents, work: Work, *, private: bool, yes: bool) -> Destination:
    """The repository to publish in, checked before anything is exported, and agreed to.

    yes: whether no question is asked. Raises UsageError, and NcsnxError for a no.
    """
    destination = find_destination(parse_repository(repository, "push"), private=private)
    kind = "private" if destination.is_private else "public"
    place = f"{'a new' if destination.commit is None else 'the'} {kind} repository {destination.page}"
    readers = "those who may read it" if destination.is_private else "everybody"
    facts = [f"publishing in {place}, for {readers}:", *contents.lines()]
    if destination.replaces:
        facts.append(f"replaced there: {', '.join(destination.replaces)}")
    if yes:
        work.info("\n".join(facts))
    elif not work.agreed("\n".join(facts), "publish?"):
        raise NcsnxError("nothing was exported or published")
    return destination


def push(export: Export, destination: Destination, work: Work, *, is_kept: bool) -> PublishedExport:
    """Publishes the export, and says where it is. Raises NcsnxError.

    is_kept: whether the folder stays, so that the upload alone can be repeated.
    """
    again = f"ncsnx export {as_typed(export.path)} --push {destination.address.repository}"
    try:
        with work.at_once():
            published = publish(export, destination, work)
    except Stopped as stopped:
        if is_kept:
            stopped.then = f"the export is complete; to upload it:  {again}"
        raise
    except NcsnxError as error:
        repeat = Hint("upload it again", again) if is_kept else Hint("repeat the command")
        raise NcsnxError(error.message, *error.hints, repeat) from error
    work.info(f"{'published' if published.is_new else 'already published'}: {published.page}")
    return published


def published_facts(published: PublishedExport, destination: Destination) -> dict[str, Any]:
    """JSON values of a published export."""
    return {
        "address": str(published.address),
        "page": published.page,
        "private": destination.is_private,
        "is_new": published.is_new,
    }

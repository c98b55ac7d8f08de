"""`ncsnx reference`: statistics of real images, built and shown."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import Command, Panel, argument, command, option
from ncsnx.commands.groups import SCORED, Compared, Device, FeatureChanges, InRuns, Place, overrides_of
from ncsnx.errors import Hint, UsageError
from ncsnx.paths import exists
from ncsnx.results import Column, Lines, Table
from ncsnx.spelling import parameter

if TYPE_CHECKING:
    from ncsnx.features.real_images import DataSource
    from ncsnx.work import Work


@command("reference", panel=Panel.EVALUATE, order=90, then="the same command measures the images again", is_shared=True)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class ShowReference(InRuns, Compared, Device, Command[Lines]):
    """Show or build the reference statistics that scores use.

    A reference holds the mean and covariance of the features of real images, and is built if it doesn't exist. Shown
    with it is what a perfect model would score: the distance of `n` real images to the rest.
    """

    name: Annotated[str, argument("NAME", parse=values.name_or_path)] = attrs.field(kw_only=False)
    """An experiment or a run, a folder or zip of images, or a .npz file with the arrays mu and sigma."""
    changes: FeatureChanges = attrs.field(default=(), kw_only=False)
    """Changes to the features."""
    n: Annotated[int, option(Panel.IMAGES, "N", between=SCORED)] = 1000
    """Images per score, for the score of a perfect model."""

    def carry_out(self, work: "Work") -> Lines:
        with work.interruptible():
            from ncsnx.features.feature_network import distance_name

            source, wanted = self._found(work)
            settings, runtime = overrides_of(self.changes), self.runtime(work.ranks)
        network, reference = attrs.evolve(self, reference=wanted).open_compared(source, settings, runtime, work)
        work.ranks.end_others()
        with work.interruptible():
            perfect = reference.perfect_model(self.n, work)
        score = reference.why_unknown if perfect is None else f"{distance_name(network.name)} {perfect}"
        rows = [
            ["images", _count(reference.count) or "not recorded in the file"],
            ["features", network.name],
            ["dimensions", _count(network.dimensions)],
            ["fingerprint", reference.facts["fingerprint"]],
            ["perfect model", score],
            ["where", str(reference.path)],
        ]
        facts = {
            "path": str(reference.path),
            **reference.facts,
            "features": {"name": network.name, **network.facts},
            "perfect_model": None if perfect is None else perfect.to_json(),
        }
        return Lines([Table(columns=[Column("reference"), Column(reference.name)], rows=rows)], facts)

    def _found(self, work: "Work") -> "tuple[DataSource | None, Place | None]":
        """The named data set, if any, and the reference. Raises UsageError, NcsnxError."""
        from ncsnx.config.variants import load_plugins
        from ncsnx.features.real_images import DataSource
        from ncsnx.runs.targets import find_target

        load_plugins("ncsnx.runtime")
        if _is_images_or_file(self.name):
            if self.reference is not None:
                raise UsageError(
                    f"{self.name} is a reference itself; leave out {parameter('reference')}, or name an experiment or "
                    "a run instead"
                )
            return None, self.name
        try:
            target = find_target(self.name, self.runs_folder())
        except UsageError as error:
            if not Path(self.name).is_dir():
                raise
            there = f"ncsnx reference {shlex.quote(f'./{self.name}')}"
            raise UsageError(error.message, Hint("for the folder of images of that name", there)) from error
        if target.run is not None:
            return DataSource.of_run(target.run, self.data_folder(), work), self.reference
        return DataSource(data=target.experiment.data, folder=self.data_folder(), work=work), self.reference


def _is_images_or_file(name: str) -> bool:
    """Whether the name is a path to images or a file. Names without a slash are experiments and runs."""
    path = Path(name)
    if name.endswith((".npz", ".zip")) and not path.is_dir():
        return True
    return "/" in name and path.is_dir() and not exists(path / "config.json")


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"

"""`ncsnx reference`: statistics of real images, shown and built."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import EVALUATE_PANEL, command
from ncsnx.cli.parameters import a_name_or_path
from ncsnx.cli.session import Shared, session
from ncsnx.console.working import work_of
from ncsnx.quantities import byte_size

if TYPE_CHECKING:
    from ncsnx.config.feature_networks import Features
    from ncsnx.console.messages import Messages
    from ncsnx.evaluation.perfect_model import PerfectModel
    from ncsnx.evaluation.reference import Reference
    from ncsnx.features.data_source import DataSource
    from ncsnx.features.feature_network import FeatureNetwork


@command("reference", panel=EVALUATE_PANEL, place=90)
def reference_command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            parser=a_name_or_path,
            help="An experiment or a run, a folder or zip of images, or a .npz file with the arrays mu and sigma.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="features.FIELD=VALUE", help="Changes to the features.")
    ] = None,
    n: Annotated[
        int,
        typer.Option(
            "--n",
            metavar="N",
            help="Images per score, for the score of a perfect model.",
            rich_help_panel=options.IMAGES_PANEL,
        ),
    ] = 1000,
    features: options.FeaturesTag = None,
    reference: options.ReferenceSet = None,
    runs: options.Runs = None,
    data: options.DataFolder = None,
    cache: options.Cache = None,
    device: options.Device = "auto",
    gpus: options.Gpus = None,
    threads: options.Threads = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Show or build the reference statistics that scores use.

    A reference holds the mean and covariance of the features of real images, and is built if it doesn't exist. Shown
    with it is what a perfect model would score: the distance of --n real images to the rest. Without a name, all
    references are listed.
    """
    then, shared = "the same command measures the images again", Shared(gpus=gpus, device=device)
    with session(then, verbose=verbose, quiet=quiet, shared=shared) as messages:
        from ncsnx.storage.cache import cache_folder

        place = cache_folder(cache)
        if name is None and reference is None:
            if not messages.ranks.is_first:
                return
            _list(messages, place, json)
            return

        from ncsnx.evaluation.measurement_requests import SweepRequest
        from ncsnx.evaluation.reference import check_reference, open_reference
        from ncsnx.features.extractors import build_features
        from ncsnx.runtime import Runtime
        from ncsnx.stopping import StopRequest

        SweepRequest(n=n)  # checks n
        source, wanted = _find(name, reference, runs, data)
        chosen = _features(features, settings or [], source)
        with StopRequest() as stop:
            work = work_of(messages, stop)
            if source is not None:
                source.work = work
            check_reference(wanted, source)
            runtime = Runtime.choose(device=device, threads=threads, ranks=messages.ranks)
            network = work.ranks.in_turn(lambda: build_features(chosen, source, place, runtime, work), work.check_stop)
            found = open_reference(wanted, source, network, place, work)
            with stop.at_once():
                perfect = found.perfect_model(n, work)
        if json:
            shown = {"path": str(found.path), **found.facts, "features": {"name": network.name, **network.facts}}
            messages.json({**shown, "perfect_model": None if perfect is None else perfect.to_json()})
        else:
            _show(messages, found, network, perfect)


def _find(
    name: str | None, reference: str | None, runs: Path | None, data: Path | None
) -> "tuple[DataSource | None, str | None]":
    """The named data set, if any, and the reference."""
    from ncsnx.config.variants import load_plugins
    from ncsnx.data import data_folder
    from ncsnx.errors import Hint, UsageError
    from ncsnx.features.data_source import DataSource
    from ncsnx.jobs.targets import find_target
    from ncsnx.runs.names import runs_folder

    load_plugins("ncsnx.runtime")
    if name is None:
        return None, reference
    if _is_images_or_file(name):
        if reference is not None:
            raise UsageError(
                f"{name} is a reference itself; leave out --reference, or name an experiment or a run instead"
            )
        return None, name
    try:
        target = find_target(name, runs_folder(runs))
    except UsageError as error:
        if not Path(name).is_dir():
            raise
        folder = Hint("for the folder of images of that name", f"ncsnx reference {shlex.quote(f'./{name}')}")
        raise UsageError(error.message, folder) from error
    if target.run is not None:
        return DataSource.of_run(target.run, data_folder(data)), reference
    return DataSource(data=target.experiment.data, folder=data_folder(data)), reference


def _is_images_or_file(name: str) -> bool:
    """Whether the name is a path to images or a file. Names without a slash are experiments and runs."""
    from ncsnx.paths import exists

    path = Path(name)
    if name.endswith((".npz", ".zip")) and not path.is_dir():
        return True
    return "/" in name and path.is_dir() and not exists(path / "config.json")


def _features(text: str | None, settings: list[str], source: "DataSource | None") -> "Features":
    from ncsnx.cli.feature_options import parse_features
    from ncsnx.config.feature_networks import Inception
    from ncsnx.config.overrides import parse_overrides
    from ncsnx.data import data_set_of

    default = Inception() if source is None else data_set_of(source.data).features
    return parse_features(text, default, parse_overrides(settings))


def _list(messages: "Messages", cache: Path, json: bool) -> None:
    import attrs

    from ncsnx.console.tables import Column, table
    from ncsnx.evaluation.reference_cache import list_references
    from ncsnx.quantities import with_error

    found = list_references(cache)
    if json:
        messages.json(
            [
                {
                    **attrs.asdict(reference),
                    "path": str(reference.path),
                    "perfect_models": [perfect.to_json() for perfect in reference.perfect_models],
                }
                for reference in found
            ]
        )
        return
    if not found:
        messages.info(f"no reference in {cache} yet\nbuild one:  ncsnx reference digits")
        return
    right = ("images", "dimensions", "size")
    titles = ("reference", "images", "features", "dimensions", "perfect model", "size", "where")
    rows = [
        [
            reference.name or "damaged: rebuilt when it is needed",
            _count(reference.images),
            reference.features or "",
            _count(reference.dimensions),
            ", ".join(f"{with_error(one.score, one.spread)} (n = {one.n:,})" for one in reference.perfect_models),
            byte_size(reference.size),
            str(reference.path),
        ]
        for reference in found
    ]
    table(messages, [Column(title, "right" if title in right else "left") for title in titles], rows)


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _show(
    messages: "Messages", reference: "Reference", network: "FeatureNetwork", perfect: "PerfectModel | None"
) -> None:
    from ncsnx.console.tables import Column, table
    from ncsnx.features.feature_network import distance_name

    score = reference.why_unknown if perfect is None else f"{distance_name(network.name)} {perfect}"
    rows = {
        "images": _count(reference.count) or "not recorded in the file",
        "features": network.name,
        "dimensions": _count(network.dimensions),
        "fingerprint": reference.facts["fingerprint"],
        "perfect model": score,
        "where": str(reference.path),
    }
    table(messages, [Column("reference"), Column(reference.name)], [list(row) for row in rows.items()])

"""Groups of parameters that commands share: base classes, each with the method that opens what it chooses."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeGuard

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import Declaration, Panel, argument, option
from ncsnx.errors import NcsnxError, UsageError, quoted
from ncsnx.paths import folder_of
from ncsnx.spelling import argument as spelled

if TYPE_CHECKING:
    from ncsnx.config.data_sets import Data
    from ncsnx.config.feature_networks import Features
    from ncsnx.config.overrides import Override
    from ncsnx.config.sampler import Sampler
    from ncsnx.evaluation.reference import Reference
    from ncsnx.features.feature_network import FeatureNetwork
    from ncsnx.features.real_images import DataSource
    from ncsnx.model_spec import HasSampler, ModelSpec
    from ncsnx.ranks.rank_group import RankGroup
    from ncsnx.runs.folder import Run
    from ncsnx.runs.selection import ModelFolder
    from ncsnx.runtime import Runtime
    from ncsnx.sampling.model import Model
    from ncsnx.work import Work

Place = Path | str
Changes = str | Sequence[str]
"""Changes FIELD=VALUE: words, or one text of words as they are typed."""


def _fields(metavar: str, *roots: str) -> Declaration:
    return argument(metavar, is_list=True, complete="field", roots=roots)


FieldChanges = Annotated[Changes, _fields("FIELD=VALUE")]
DataChanges = Annotated[Changes, _fields("data.FIELD=VALUE", "data")]
FeatureChanges = Annotated[Changes, _fields("features.FIELD=VALUE", "features")]
SamplerChanges = Annotated[Changes, _fields("sampler.FIELD=VALUE", "sampler")]
MeasuringChanges = Annotated[Changes, _fields("FIELD=VALUE", "sampler", "features")]
"""The field `changes` of commands, by what it may change."""
SCORED = 10, 10_000_000
"""Fewest and most images of a score: fewer say nothing, and half of them must have a covariance."""
SEEDS, AT_ONCE = (0, 2**32 - 1), (1, 1_000_000)
"""Least and largest seeds, and images in a batch."""


def changed_words(changes: Changes) -> list[str]:
    """The words FIELD=VALUE. Raises UsageError for anything else."""
    from ncsnx.config import overrides

    return overrides.changed_words(changes)


def overrides_of(changes: Changes) -> "list[Override]":
    """The changes, each by its path. Raises OverrideError."""
    from ncsnx.config.overrides import parse_overrides

    return parse_overrides(changed_words(changes))


def split_changes(changes: Changes, root: str) -> "tuple[list[Override], list[Override]]":
    """The changes whose path begins with `root`, and the others. Raises OverrideError."""
    from ncsnx.config.overrides import split_overrides

    return split_overrides(overrides_of(changes), root)


def name_or_path(given: object) -> Place:
    """A name or a path. Raises UsageError for anything else, which Python may give."""
    if not isinstance(given, Path | str):
        raise UsageError(f"run must be a name, a path, or what ncsnx.load takes or gives, not {quoted(given)}")
    return given


_OF_LOADING = ("ckpt", "range", "ensemble", "device", "threads", "compile", "precision", "plain")
"""Parameters that say which weights are loaded, and how."""


def refuse_loading(command: "attrs.AttrsInstance") -> None:
    """Raises UsageError for parameters of loading beside a model that is loaded."""
    for field in attrs.fields(type(command)):
        if field.name in _OF_LOADING and getattr(command, field.name) != field.default:
            raise UsageError(
                f"{field.name} is for the loading of weights, and the model is loaded; give it to ncsnx.load, or leave "
                "it out"
            )


def is_model(given: object) -> "TypeGuard[Model]":
    """Whether it is a loaded model, which only Python can give."""
    module = sys.modules.get("ncsnx.sampling.model")  # not imported here, since it imports torch
    return module is not None and isinstance(given, module.Model)


@attrs.frozen(slots=False, kw_only=True)
class InRuns:
    """The runs folder."""

    runs: Annotated[
        Place | None,
        option(Panel.FOLDERS, "DIR", default="NCSNX_RUNS, else ./runs", parse=values.folder, is_common=True),
    ] = None
    """Folder of the runs."""

    def runs_folder(self) -> Path:
        """The folder, which need not exist. Raises UsageError."""
        from ncsnx.runs.names import runs_folder

        return runs_folder(self.runs)

    def runs_option(self) -> str:
        """The option for a command to type next, with a space before it."""
        return "" if self.runs is None else f" {spelled('runs', str(self.runs))}"


@attrs.frozen(slots=False, kw_only=True)
class InData:
    """The folder of the data sets."""

    data: Annotated[
        Place | None,
        option(Panel.FOLDERS, "DIR", default="NCSNX_DATA, else ./data", parse=values.folder, is_common=True),
    ] = None
    """Folder of the data sets."""

    def data_folder(self) -> Path:
        """The folder. Raises UsageError."""
        return folder_of(self.data, "NCSNX_DATA", "data")


@attrs.frozen(slots=False, kw_only=True)
class InCache:
    """The cache folder."""

    cache: Annotated[
        Place | None,
        option(
            Panel.FOLDERS,
            "DIR",
            default="NCSNX_CACHE, else the system's cache folder",
            parse=values.folder,
            is_common=True,
        ),
    ] = None
    """Folder of feature networks and references."""

    def cache_folder(self) -> Path:
        """The folder. Raises UsageError."""
        from ncsnx.storage.cache import cache_folder

        return cache_folder(None if self.cache is None else Path(self.cache))


@attrs.frozen(slots=False, kw_only=True)
class OfRun(InRuns):
    """A run."""

    run: Annotated["Run | Model | Place", argument("RUN", parse=values.name_or_path, complete="run")] = attrs.field(
        kw_only=False
    )
    """A run: its name in the runs folder, or a path."""
    needs_config: ClassVar = True
    """Whether the configuration of the run must be there."""

    def opened(self) -> "Run":
        """The run. Raises UsageError, NcsnxError."""
        from ncsnx.runs.folder import Run, open_run

        if is_model(self.run):
            taking = "draw, sample, restore, fid and likelihood take a loaded model"
            raise UsageError(f"this needs a run, with its checkpoints; ncsnx.{taking}")
        if isinstance(self.run, Run):
            return self.run
        return open_run(self.runs_folder(), name_or_path(self.run), needs_config=self.needs_config)

    def renew_report(self, run: "Run", work: "Work") -> None:
        """Writes the page of the run again if it has one that is older than its measurements."""
        with suppress(FileNotFoundError):
            if run.report_path.stat().st_mtime_ns <= run.ledger_path.stat().st_mtime_ns:
                from ncsnx.reporting.report import write_report

                try:
                    write_report(run)
                except NcsnxError as error:
                    work.warning(str(error))


@attrs.frozen(slots=False, kw_only=True)
class OfModel(InRuns):
    """A run or an exported model."""

    run: Annotated["ModelFolder | Model | Place", argument("RUN", parse=values.name_or_path, complete="run")] = (
        attrs.field(kw_only=False)
    )
    """A run (its name in the runs folder, or a path), or an exported model: its folder, or hf://USER/MODEL on the
    Hugging Face Hub (hf://USER/MODEL@REVISION)."""
    ckpt: Annotated[int | str | None, option(Panel.IMAGES, "STEP", default="latest", parse=str, complete="step")] = None
    """Checkpoint of a run: a step (150000 or 150k), latest or best."""

    def opened(self, work: "Work") -> "ModelFolder | Model":
        """The run or exported model, downloaded if it is on the Hub; a loaded model. Raises UsageError, NcsnxError."""
        from ncsnx.exports.exported import Export
        from ncsnx.runs.folder import Run
        from ncsnx.runs.selection import open_model_folder

        if is_model(self.run):
            refuse_loading(self)
            return self.run
        if isinstance(self.run, Run | Export):
            return self.run
        return open_model_folder(self.runs_folder(), name_or_path(self.run), work)


@attrs.frozen(slots=False, kw_only=True)
class OneCheckpoint(OfRun):
    """A checkpoint of a run."""

    ckpt: Annotated[int | str, option(Panel.IMAGES, "STEP", parse=str, complete="step")] = "latest"
    """A step (150000 or 150k), latest or best."""

    def checkpoint(self, run: "Run", work: "Work") -> int:
        """The step, which exists; says which one is the best. Raises UsageError, NcsnxError."""
        return work.ranks.first(lambda: run.checkpoint(self.ckpt, work))


@attrs.frozen(slots=False, kw_only=True)
class Checkpoints(OfRun):
    """Checkpoints of a run."""

    range: Annotated[int | str, option(Panel.IMAGES, "RANGE", "--range", "--ckpt", parse=str, complete="step")] = "all"
    """Checkpoints: all, latest, best, a step such as 150k, 50k:200k (ends included), or 50k:200k:10k (multiples of
    10k)."""

    def selected(self, run: "Run", work: "Work") -> tuple[int, ...]:
        """Steps of the checkpoints in the range; says which one is the best. Raises UsageError, NcsnxError."""
        from ncsnx.runs.selection import select

        return work.ranks.first(lambda: select(run, str(self.range), work))


@attrs.frozen(slots=False, kw_only=True)
class Device:
    """The device and its threads."""

    device: Annotated[str, option(Panel.EXECUTION, "NAME", parse=values.device, complete="device", is_common=True)] = (
        "auto"
    )
    """auto (CUDA, else MPS, else the CPU), cpu, cuda, cuda:N or mps."""
    threads: Annotated[
        int | None, option(Panel.EXECUTION, "N", default="chosen by torch", between=(1, 1_024), is_common=True)
    ] = None
    """CPU threads. Results are bit-identical at equal counts only."""

    def runtime(self, ranks: "RankGroup | None" = None, **others: Any) -> "Runtime":
        """The runtime of the ranks that run the command. others: choices of `Runtime.choose`. Raises UsageError."""
        from ncsnx.ranks.rank_group import ALONE
        from ncsnx.runtime import Runtime

        return Runtime.choose(device=self.device, threads=self.threads, ranks=ranks or ALONE, **others)


@attrs.frozen(slots=False, kw_only=True)
class Compiling(Device):
    """Whether the network is compiled."""

    compile: Annotated[bool, option(Panel.EXECUTION, is_common=True)] = False
    """Compile the network (torch.compile): a minute at first, then faster."""


@attrs.frozen(slots=False, kw_only=True)
class Execution(Compiling):
    """How trained weights are executed."""

    precision: Annotated[
        Literal["fp32", "bf16", "tf32"] | None,
        option(Panel.EXECUTION, "FORMAT", default="the experiment's", is_common=True),
    ] = None
    """Number format of the network, part of the protocol: fp32, bf16 or tf32 (CUDA only)."""

    def runtime_for(self, spec: "ModelSpec", work: "Work", *, plain: bool = False) -> "Runtime":
        """The runtime for a trained model. Raises UsageError."""
        chosen = self.runtime(work.ranks, compile=self.compile, precision=self.precision, plain=plain)
        return chosen.for_weights_of(spec)


@attrs.frozen(slots=False, kw_only=True)
class Plain:
    """Whether the network runs as published."""

    plain: Annotated[bool, option(Panel.RARE)] = False
    """Run the network as published, without the exact rewrites for speed."""


@attrs.frozen(slots=False, kw_only=True)
class Noted:
    """A remark."""

    note: Annotated[str, option(Panel.OUTPUT, "TEXT", is_common=True)] = ""
    """A remark to keep with the result."""


@attrs.frozen(slots=False, kw_only=True)
class BatchSize:
    """Images per batch."""

    batch_size: Annotated[
        int | None,
        option(Panel.EXECUTION, "B", default="64; more below 16 px, at most 256", between=AT_ONCE, is_common=True),
    ] = None
    """Images at once; changes images by rounding at most."""

    def images_at_once(self, shape: tuple[int, int, int], size: values.Size | None = None) -> int:
        """Images per batch of one process. shape: (C, H, W) of the data. size: of the images; None: the data's."""
        from ncsnx.sampling.request import images_at_once, shape_at

        return images_at_once(shape_at(shape, size), self.batch_size)


@attrs.frozen(slots=False, kw_only=True)
class Sampled(BatchSize):
    """The sampler of a trained model."""

    sampler: "Sampler | Literal['fast'] | None" = None
    """Sampler; 'fast': the one that `ncsnx compare` recommends. Default: the model's."""

    def spec_of(self, source: "HasSampler", changes: "Sequence[Override]", work: "Work") -> "ModelSpec":
        """The model with this sampler and changes of it. Raises UsageError, NcsnxError."""
        from ncsnx.sampling.sampler_choice import chosen_sampler

        sampler = work.ranks.first(lambda: chosen_sampler(work, source, changes, self.sampler))
        return attrs.evolve(source.spec(), sampler=sampler)


@attrs.frozen(slots=False, kw_only=True)
class InFeatures(InData, InCache):
    """Features that images are compared by."""

    features: Annotated[
        "Features | str | None",
        option(
            Panel.MEASUREMENT,
            "TAG[:NAME]",
            default="classifier for digits, else inception",
            parse=values.file_behind_tag,
            complete="features",
        ),
    ] = None
    """inception, dinov2, timm:NAME, classifier, inception:FILE or torchscript:FILE. A FILE is TorchScript, which runs
    code: name only files that you trust."""

    def chosen_features(self, data: "Data | None", settings: "Sequence[Override]" = ()) -> "Features":
        """The features for data, with settings features.FIELD=VALUE. Raises UsageError."""
        from ncsnx.config.feature_networks import Inception
        from ncsnx.config.overrides import chosen_features
        from ncsnx.data import data_set_of

        return chosen_features(self.features, Inception() if data is None else data_set_of(data).features, settings)

    def open_features(
        self, source: "DataSource | None", chosen: "Features", runtime: "Runtime", work: "Work"
    ) -> "FeatureNetwork":
        """The feature network, trained unless it is cached: on rank 0 first. Raises NcsnxError."""
        from ncsnx.features.extractors import build_features

        cache = self.cache_folder()
        return work.ranks.in_turn(lambda: build_features(chosen, source, cache, runtime, work), work.check_stop)


@attrs.frozen(slots=False, kw_only=True)
class Compared(InFeatures):
    """Features and the real images that sampled ones are compared with."""

    reference: Annotated[
        Place | None,
        option(Panel.MEASUREMENT, "SET", default="held-out for CelebA, else train", parse=values.name_or_path),
    ] = None
    """Real images: train, held-out, a folder or zip of images, or a .npz with mu and sigma."""

    def open_compared(
        self, source: "DataSource | None", settings: "Sequence[Override]", runtime: "Runtime", work: "Work"
    ) -> "tuple[FeatureNetwork, Reference]":
        """The features and the reference, computed unless they are cached. source: the model's data; None if unknown.

        Raises NcsnxError.
        """
        from ncsnx.evaluation.reference import open_reference, reference_images

        images = reference_images(self.reference, source, work)
        chosen = self.chosen_features(None if source is None else source.data, settings)
        network = self.open_features(source, chosen, runtime, work)
        return network, open_reference(images, network, self.cache_folder(), work)


@attrs.frozen(slots=False, kw_only=True)
class Drawn(Plain, OfModel, InData, Sampled, Execution, Noted):
    """Images that a model draws into a folder."""

    size: Annotated[
        values.Size | None, option(Panel.IMAGES, "PX|H,W", default="those of the data", parse=values.size)
    ] = None
    """Height and width of the images: any that the network's stages can halve."""
    seed: Annotated[int, option(Panel.IMAGES, "SEED")] = 0
    """Image i depends on the seed and i alone."""
    frames: Annotated[int, option(Panel.FILMS, "F")] = 0
    """Write F pictures of the sampling as it proceeds."""
    film: Annotated[bool, option(Panel.FILMS)] = False
    """Write an animated GIF of the sampling; of rows, from the first image to the last."""
    out: Annotated[
        Place | None,
        option(
            Panel.OUTPUT,
            "DIR",
            default="below the run's samples/; ./samples/NAME for other models",
            parse=values.folder,
        ),
    ] = None
    """Folder to write to."""
    overwrite: Annotated[bool, option(Panel.OUTPUT)] = False
    """Replace samples of another protocol in that folder."""

    def image_size(self) -> values.Size | None:
        """The size of the images; None: that of the data. Raises UsageError."""
        size = values.image_size(self.size)
        return self.run.size if size is None and is_model(self.run) else size

    def checkpoint(self, model: "ModelFolder | Model", work: "Work") -> int:
        """The step of the checkpoint; 0 of a loaded model. Raises UsageError, NcsnxError."""
        from ncsnx.exports.exported import Export
        from ncsnx.runs.folder import Run

        return work.ranks.first(lambda: model.checkpoint(self.ckpt, work)) if isinstance(model, Run | Export) else 0

    def output_folder(self) -> Path | None:
        """The folder to write to; None: the one that the protocol names."""
        return None if self.out is None else Path(self.out)

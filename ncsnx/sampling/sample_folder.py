"""The folder of samples: it survives interruption and never mixes two protocols.

    protocol.json  samples-00000.safetensors …  images/00000.png …  grid.png  frames/000.png …  film.gif  .frames/
    task.json  posterior.safetensors  calibration.png (of a task, see `ncsnx.inverse.task_record`)

A finished batch is a file of samples (one tensor `samples`, float32, B×C×H×W, in [0, 1] or in the own values of
unbounded data), named by the number of its first image. When all images are there, the pictures are made from them,
and `protocol.json` gets "complete" and the sha256 of each file. Frames of the batches are kept under `.frames/` until
then.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors import safe_open
from torch import Tensor

from ncsnx import bounded_reads
from ncsnx.config.codec import canonical, flatten, shown
from ncsnx.errors import Hint, NcsnxError
from ncsnx.images import UNIT, ImageBatch, Window, arranged, grid, png_bytes, save_film, square_columns, to_uint8
from ncsnx.quantities import counted
from ncsnx.results import Result
from ncsnx.runs.result_records import PROTOCOL_FILE, SampleRecord
from ncsnx.sampling.request import SampleRequest
from ncsnx.spelling import A_DIR, argument
from ncsnx.storage.atomic import debris, reporting
from ncsnx.storage.batch_files import BatchFiles
from ncsnx.storage.documents import read_document, write_document

GRID_IMAGES = 100
"""Most images that the grid and the frames show."""

SAMPLES = "samples-*.safetensors"
"""Pattern of the files of samples."""
_OURS = re.compile(
    r"task\.json|(grid|calibration|mean(-\d{5})?)\.png|mean\.npy|film\.gif|posterior\.safetensors"
    r"|images/\d{5,}\.png|frames/\d{3,}\.png"
)
_ANOTHER_FOLDER = Hint("choose another folder", adds=argument("out", A_DIR))


def samples_in(folder: Path) -> BatchFiles:
    """The images in a folder, tensor `samples`, by their numbers."""
    return BatchFiles(folder, "samples")


@attrs.define(eq=False, slots=False)
class SampleFolder:
    """A folder of images (of rows, where they are interpolated) under one protocol."""

    path: Path
    """The folder, which `open` creates."""
    facts: Mapping[str, Any] = attrs.field(kw_only=True)
    """JSON values that determine the images."""
    request: SampleRequest = attrs.field(kw_only=True)
    shape: tuple[int, int, int] = attrs.field(kw_only=True)
    """(C, H, W) of an image."""
    frames: int = 0
    """Number of frames of a batch."""
    window: Window = UNIT
    """Values that pictures show as black and white."""
    classes: int = 0
    """Number of classes that the images take in turn, each of which gets a row of the grid."""
    made: dict[str, Any] = attrs.field(factory=dict)
    """Provenance (machine, note, pictures), which may differ when sampling is resumed."""
    complete: bool = attrs.field(default=False, init=False)

    @cached_property
    def protocol(self) -> dict[str, Any]:
        """JSON values of the images and of the files."""
        request = self.request
        return {
            **self.facts,
            "n": request.n,
            "columns": request.columns,
            "shape": list(self.shape),
            "frames": self.frames,
            "frame_files": request.frames > 0 and self.frames > 0,
            "film": request.film and (self.frames > 0 or request.columns > 1),
        }

    @property
    def shown(self) -> int:
        """Number of indices, from 0, that are shown in the grid and in frames."""
        return min(self.request.n, max(1, GRID_IMAGES // self.request.columns))

    def open(self, *, overwrite: bool = False) -> None:
        """Creates the folder, or resumes in an existing one; the caller holds its lock.

        overwrite: remove the files of an earlier sampling, even if its record is damaged, and no others. Raises
        NcsnxError, without changing anything, for a folder without a record that holds files and, without `overwrite`,
        for samples of another protocol and a damaged record.
        """
        if self.check(overwrite=overwrite) is None:
            with reporting(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                self._remove_ours()
            write_document(self._record_path, self._record())
        elif self.complete:
            shutil.rmtree(self._frames.folder, ignore_errors=True)
        else:
            self._samples.prune(self._count)

    def check(self, *, overwrite: bool = False) -> SampleRecord | None:
        """Finds out whether the folder is complete; writes nothing, so it needs no lock. Raises as `open`.

        Returns its record; None where the samples are still to be begun.
        """
        record = self._recorded(overwrite=overwrite)
        if record is not None:
            if differences := _differences(record.protocol, self.protocol):
                raise NcsnxError(
                    f"{self.path} holds samples of another protocol: {'; '.join(differences)}",
                    _ANOTHER_FOLDER,
                    Hint("or replace them", adds=argument("overwrite", True)),
                )
            if record.complete:
                self._verify(record)
                self.complete = True
        return record

    def missing(self) -> list[int]:
        """Indices that are still to be sampled, ascending."""
        if self.complete:
            return []
        columns = self.request.columns
        return [number // columns for number in self._samples.missing(self._count)[::columns]]

    def add(self, indices: Sequence[int], images: Tensor, frames: Sequence[Tensor] = ()) -> None:
        """Stores a finished batch durably: an interrupted sampling resumes after it.

        indices: consecutive ones. images: (len(indices)·columns, C, H, W) float, in [0, 1] or own values. frames: as
        many as the folder has, each (b·columns, C, H, W) uint8 on the CPU, of the b indices below `shown`.
        """
        number = indices[0] * self.request.columns
        if len(frames) and len(frames[0]):
            self._frames.add(number, {"frames": torch.stack([*frames], dim=1)})
        # one metadata entry: safetensors would write several in random order
        metadata = {"protocol": canonical(self.protocol).decode()}
        self._samples.add(number, {"samples": images.float().cpu()}, metadata)

    def finish(
        self, check_stop: Callable[[], None] = lambda: None, progress: Callable[[], None] = lambda: None
    ) -> None:
        """Writes the pictures and marks the folder as complete. Does nothing for a complete folder.

        check_stop is called before each image and raises to stop; `finish` can then be called again. progress is called
        after each image. Raises NcsnxError if images are missing.
        """
        if self.complete:
            return
        if missing := self.missing():
            of_all = f"{len(missing):,} of {counted(self.request.n, 'image')}"
            raise NcsnxError(f"{self.path} lacks {of_all}; repeat the command to make them")
        for path in debris(self.path):
            path.unlink()
        self._write_pictures(check_stop, progress)
        os.sync()  # the pictures: a power cut must not leave a record of files that are empty
        write_document(self._record_path, self._record(self._hashes()))
        shutil.rmtree(self._frames.folder, ignore_errors=True)
        self.complete = True

    @property
    def film_path(self) -> Path:
        """File of the animation, if there is one."""
        return self.path / "film.gif"

    @property
    def _record_path(self) -> Path:
        return self.path / PROTOCOL_FILE

    @property
    def _samples(self) -> BatchFiles:
        return attrs.evolve(samples_in(self.path), fits=self._fits)

    @property
    def _frames(self) -> BatchFiles:
        """Frames of the images that are shown, (B, frames, C, H, W), until the folder is complete."""
        return BatchFiles(self.path / ".frames", "frames")

    @property
    def _count(self) -> int:
        return self.request.n * self.request.columns

    def _fits(self, number: int, shapes: Mapping[str, list[int]]) -> bool:
        """Whether a file has whole rows of such images and, if they are shown, their frames."""
        columns, (rows, *shape) = self.request.columns, shapes.get("samples", [0])
        has_frames = self.frames == 0 or number >= self.shown * columns or number in self._frames.files()
        return number % columns == rows % columns == 0 and tuple(shape) == self.shape and has_frames

    def _hashes(self) -> dict[str, str]:
        """The sha256 of each file of samples by its name; empty for a file that can't be read."""
        return {path.name: _sha256(path) for path in self._samples.files().values()}

    def _record(self, samples: dict[str, str] | None = None) -> SampleRecord:
        """The record: of a complete folder with the hashes of its samples."""
        return SampleRecord(protocol=self.protocol, made=self.made, complete=samples is not None, samples=samples or {})

    def _recorded(self, *, overwrite: bool) -> SampleRecord | None:
        """The record of samples that are to stay; None for an empty or missing folder, and if they are overwritten.

        Raises NcsnxError for a folder with other files, and for a damaged record that isn't overwritten.
        """
        if self.path.exists() and not self.path.is_dir():
            raise NcsnxError(f"{self.path} is not a folder", _ANOTHER_FOLDER)
        try:
            return None if overwrite and self._record_path.exists() else read_document(self._record_path, SampleRecord)
        except FileNotFoundError:
            if self.path.exists() and any(not entry.name.startswith(".") for entry in self.path.iterdir()):
                raise NcsnxError(f"{self.path} holds files, but no {PROTOCOL_FILE}", _ANOTHER_FOLDER) from None
            return None

    def _remove_ours(self) -> None:
        """Removes the files of an earlier sampling but its record: first those without which it isn't complete."""
        for path in self._samples.files().values():
            path.unlink()
        shutil.rmtree(self._frames.folder, ignore_errors=True)
        for path in [*self.path.glob("*"), *self.path.glob("images/*"), *self.path.glob("frames/*")]:
            if path.is_file() and _OURS.fullmatch(path.relative_to(self.path).as_posix()):
                path.unlink()
        for folder in (self.path / "images", self.path / "frames"):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _verify(self, record: SampleRecord) -> None:
        if self._hashes() != record.samples:
            raise NcsnxError(
                f"{self.path / SAMPLES}: the files are not those of {self._record_path}, or damaged",
                Hint("make the samples again", adds=argument("overwrite", True)),
                _ANOTHER_FOLDER,
            )

    def _write_pictures(self, check_stop: Callable[[], None], progress: Callable[[], None]) -> None:
        """Writes images, grid and frames. Holds one batch, the shown images, and one frame of them."""
        if self.request.n == 0:
            return
        self._make("images")
        shape = self.shown * self.request.columns, *self.window.picture_shape(self.shape)
        shown = torch.empty(shape, dtype=torch.uint8)
        files = self._samples.files()
        for number, stop in pairwise([*files, self._count]):
            images = to_uint8(self.window.picture(self._samples.read("samples", number, stop - number, files)))
            shown[number : number + len(images)] = images[: max(0, len(shown) - number)]
            for place, image in enumerate(images, start=number):
                check_stop()
                self._write_picture(f"images/{place:05d}.png", image, check_stop)
                progress()
        self._write_picture("grid.png", self._grid(shown), check_stop)
        self._write_frames(shown, check_stop)

    def _grid(self, shown: Tensor) -> Tensor:
        """The grid of the shown images, (N·columns, C, H, W)."""
        columns = self.request.columns
        return grid(shown, columns) if columns > 1 else grid(*arranged(shown, self.classes))

    def _write_frames(self, shown: Tensor, check_stop: Callable[[], None]) -> None:
        """Writes the frames' grids as files and as an animation; with rows, that of `shown` (N·columns, C, H, W)."""
        files = self._frames.files()
        begins = [begin for begin in self._samples.files() if begin in files]

        def frames() -> Iterator[Tensor]:
            for number in range(self.frames):
                check_stop()
                frame = torch.empty_like(shown)
                for begin in begins:
                    with safe_open(files[begin], framework="pt") as file:
                        images = file.get_slice("frames")[:, number]
                    frame[begin : begin + len(images)] = images
                yield self._grid(frame)

        if self.protocol["frame_files"]:
            self._make("frames")
            for number, frame in enumerate(frames()):
                self._write_picture(f"frames/{number:03d}.png", frame, check_stop)
        if self.protocol["film"]:
            grids, count = frames(), self.frames
            if (columns := self.request.columns) > 1:
                there = [*range(columns), *range(columns - 1)[::-1]]
                grids = (grid(shown[column::columns], square_columns(self.shown)) for column in there)
                count = len(there)
            save_film(self.film_path, grids, count)

    def _write_picture(self, name: str, image: Tensor, check_stop: Callable[[], None]) -> None:
        with reporting(self.path / name):
            (self.path / name).write_bytes(png_bytes(image, check_stop))

    def _make(self, name: str) -> None:
        with reporting(self.path / name):
            (self.path / name).mkdir(exist_ok=True)


def _sha256(path: Path) -> str:
    """sha256 of a file; empty if it can't be read."""
    try:
        return bounded_reads.sha256_of(path)
    except OSError:
        return ""


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """A clause for each value that differs, such as 'sampler.step_size is 1e-06 there, 2e-06 here'."""
    old, new = ({path: shown(value) for path, value in flatten(dict(values))} for values in (there, here))
    return [
        f"{path} is {old.get(path, 'absent')} there, {new.get(path, 'absent')} here"
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    ]


@attrs.frozen(kw_only=True, repr=False)
class SampledImages(Result):
    """Images in a folder, with the protocol that reproduces them."""

    output: SampleFolder = attrs.field(repr=False)

    @property
    def folder(self) -> Path:
        """Folder of everything that was written."""
        return self.output.path

    @property
    def samples(self) -> tuple[Path, ...]:
        """Files of the images in their order: safetensors, one tensor `samples`, float32 in [0, 1], or own values of
        unbounded data."""
        return tuple(samples_in(self.folder).files().values())

    @property
    def protocol(self) -> Mapping[str, Any]:
        """Values that determine the images."""
        return self.output.protocol

    @property
    def grid(self) -> Path:
        """A PNG with the first images."""
        return self.folder / "grid.png"

    @property
    def images(self) -> tuple[Path, ...]:
        """A PNG for each image."""
        return tuple(sorted((self.folder / "images").glob("*.png"), key=lambda file: int(file.stem)))

    def tensor(self) -> ImageBatch:
        """All images, (N, C, H, W) float32 on the CPU: in [0, 1], or unbounded; read at each call."""
        return ImageBatch.of(samples_in(self.folder).read("samples"), self.output.window)

    def to_json(self) -> object:
        return {"folder": str(self.folder), **self.protocol}

    def heading(self) -> tuple[str, str]:
        return counted(len(self.images), "image"), str(self.folder)

    def picture(self) -> bytes | None:
        return self.grid.read_bytes() if self.grid.is_file() else None

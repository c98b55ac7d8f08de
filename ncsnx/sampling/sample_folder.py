"""The folder of samples: it survives interruption and never mixes two protocols.

    protocol.json  samples.safetensors  images/00000.png …  grid.png  frames/000.png …  film.gif  .parts/
    task.json  posterior.safetensors  calibration.png (of a task, see `ncsnx.inverse.task_record`)

Finished batches are kept under `.parts/`. When all are done, samples.safetensors (one tensor `samples`, float32,
N×C×H×W, in [0, 1] or in the own values of unbounded data) and the pictures are made from them, `protocol.json` gets
"complete" and the sha256 of the samples, and the parts are removed.
"""

import hashlib
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ncsnx import reading
from ncsnx.config.codec import canonical, flatten, shown
from ncsnx.errors import Hint, NcsnxError
from ncsnx.images import UNIT, Window, arranged, grid, png_bytes, save_film, square_columns, to_uint8
from ncsnx.quantities import counted
from ncsnx.runs.checkpoint import header_bytes
from ncsnx.runs.result_records import PROTOCOL_FILE, SAMPLES_FILE, SampleRecord
from ncsnx.sampling.request import SampleRequest
from ncsnx.spelling import A_DIR, argument
from ncsnx.storage.atomic import is_temporary, replacement, reporting, whole_name
from ncsnx.storage.documents import read_document, write_document
from ncsnx.storage.parts import Part, are_whole, done_indices, read_parts, read_row, write_part

GRID_IMAGES = 100
"""Most images that the grid and the frames show."""

_OURS = re.compile(
    r"protocol\.json|task\.json|(grid|calibration)\.png|film\.gif|(samples|posterior)\.safetensors"
    r"|images/\d{5,}\.png|frames/\d{3,}\.png"
)
_ANOTHER_FOLDER = Hint("choose another folder", adds=argument("out", A_DIR))


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
    _done: set[int] = attrs.field(factory=set, init=False)

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
    def _picture_shape(self) -> tuple[int, ...]:
        return self.window.picture_shape(self.shape)

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
            shutil.rmtree(self._parts, ignore_errors=True)
        self._done = self._find_done()

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
        return [] if self.complete else [index for index in range(self.request.n) if index not in self._done]

    def add(self, indices: Sequence[int], images: Tensor, frames: Sequence[Tensor] = ()) -> None:
        """Stores a finished batch durably: an interrupted sampling resumes after it.

        images: (len(indices)·columns, C, H, W) float, in [0, 1] or own values. frames: as many as the folder has, each
        (b·columns, C, H, W) uint8 on the CPU, of the b indices below `shown`.
        """
        of_frames = (self.frames, self._shown_of(indices), self.request.columns, *self._picture_shape)
        tensors = {
            "images": images.float().cpu().reshape(len(indices), self.request.columns, *self.shape),
            "frames": torch.stack([*frames]).reshape(of_frames) if len(frames) else torch.empty(of_frames).byte(),
        }
        write_part(self._parts, Part(torch.tensor(indices, dtype=torch.int64), tensors))
        self._done.update(indices)

    def has_all_parts(self) -> bool:
        """Whether all batches are here, those of other processes too."""
        return are_whole(self._parts, self.request.n)

    def finish(
        self, check_stop: Callable[[], None] = lambda: None, progress: Callable[[], None] = lambda: None
    ) -> None:
        """Writes the files from the parts and marks the folder as complete. Does nothing for a complete folder.

        check_stop is called before each image and raises to stop; `finish` can then be called again. progress is called
        after each image. Raises NcsnxError if images are missing.
        """
        if self.complete:
            return
        self._done = self._find_done()
        if missing := self.missing():
            of_all = f"{len(missing):,} of {counted(self.request.n, 'image')}"
            raise NcsnxError(f"{self.path} lacks {of_all}; repeat the command to make them")
        for path in filter(lambda path: is_temporary(path.name), self._our_files()):
            path.unlink()
        samples_sha256 = self._write_samples(check_stop)
        self._write_pictures(check_stop, progress)
        os.sync()  # the pictures: a power cut must not leave a record of files that are empty
        write_document(self._record_path, self._record(samples_sha256))
        shutil.rmtree(self._parts, ignore_errors=True)
        self.complete = True

    @property
    def samples_path(self) -> Path:
        """File of all images, once the folder is complete."""
        return self.path / SAMPLES_FILE

    @property
    def film_path(self) -> Path:
        """File of the animation, if there is one."""
        return self.path / "film.gif"

    @property
    def _record_path(self) -> Path:
        return self.path / PROTOCOL_FILE

    @property
    def _parts(self) -> Path:
        return self.path / ".parts"

    def _find_done(self) -> set[int]:
        image = [self.request.columns, *self.shape]

        def fits(indices: list[int], shapes: Mapping[str, list[int]]) -> bool:
            frames = [self.frames, self._shown_of(indices), self.request.columns, *self._picture_shape]
            return shapes == {"images": [len(indices), *image], "frames": frames}

        return done_indices(self._parts, self.request.n, fits)

    def _shown_of(self, indices: Sequence[int]) -> int:
        """Number of the indices that are shown."""
        return sum(index < self.shown for index in indices)

    def _record(self, samples_sha256: str | None = None) -> SampleRecord:
        complete = samples_sha256 is not None
        return SampleRecord(protocol=self.protocol, made=self.made, complete=complete, samples_sha256=samples_sha256)

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
        self.samples_path.unlink(missing_ok=True)
        shutil.rmtree(self._parts, ignore_errors=True)
        for path in self._our_files():
            path.unlink()
        for folder in (self.path / "images", self.path / "frames"):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _our_files(self) -> list[Path]:
        paths = [*self.path.glob("*"), *self.path.glob("images/*"), *self.path.glob("frames/*")]
        return [path for path in paths if path.is_file() and self._is_ours(path)]

    def _is_ours(self, path: Path) -> bool:
        whole = path.with_name(whole_name(path.name) or path.name)
        name = whole.relative_to(self.path).as_posix()
        return _OURS.fullmatch(name) is not None and path != self._record_path

    def _verify(self, record: SampleRecord) -> None:
        if _sha256(self.samples_path) != (record.samples_sha256 or ""):
            raise NcsnxError(
                f"{self.samples_path} is damaged: its sha256 is not the one in {self._record_path}",
                Hint("make the samples again", adds=argument("overwrite", True)),
                _ANOTHER_FOLDER,
            )

    def _write_samples(self, check_stop: Callable[[], None]) -> str:
        """Writes samples.safetensors part by part, each image at its place, and returns its sha256."""
        size = 4 * self.request.columns * math.prod(self.shape)
        header = self._samples_header(size * self.request.n)
        with replacement(self.samples_path, len(header) + size * self.request.n) as file:
            file.write(header)
            for part in read_parts(self._parts):
                check_stop()
                images = part.tensors["images"].float().contiguous()
                for index, rows in zip(part.indices.tolist(), images, strict=True):
                    file.seek(len(header) + size * index)
                    file.write(rows.numpy().astype("<f4", copy=False).tobytes())
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _samples_header(self, size: int) -> bytes:
        """The header of samples.safetensors, as safetensors writes it. size: bytes of the tensor."""
        # one metadata entry: safetensors would write several in random order
        metadata = {"protocol": canonical(self.protocol).decode()}
        shape = [self.request.n * self.request.columns, *self.shape]
        tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
        return header_bytes({"__metadata__": metadata, "samples": tensor})

    def _write_pictures(self, check_stop: Callable[[], None], progress: Callable[[], None]) -> None:
        """Writes images, grid and frames. Holds one part, the shown images, and one frame of them."""
        self._make("images")
        shown = torch.empty((self.shown, self.request.columns, *self._picture_shape), dtype=torch.uint8)
        for part in read_parts(self._parts):
            images, kept = to_uint8(self.window.picture(part.tensors["images"].float())), part.indices < self.shown
            for index, rows in zip(part.indices.tolist(), images, strict=True):
                for column, image in enumerate(rows):
                    check_stop()
                    self._write_picture(f"images/{index * self.request.columns + column:05d}.png", image)
                    progress()
            shown[part.indices[kept]] = images[kept]
        self._write_picture("grid.png", self._grid(shown))
        self._write_frames(shown, check_stop)

    def _grid(self, shown: Tensor) -> Tensor:
        """The grid of the shown images, (N, columns, C, H, W)."""
        columns = self.request.columns
        return grid(shown.flatten(0, 1), columns) if columns > 1 else grid(*arranged(shown[:, 0], self.classes))

    def _write_frames(self, shown: Tensor, check_stop: Callable[[], None]) -> None:
        """Writes the frames' grids as files and as an animation; with rows, that of `shown` (N, columns, C, H, W)."""

        def frames() -> Iterator[Tensor]:
            for number in range(self.frames):
                check_stop()
                frame = torch.empty_like(shown)
                for indices, images in read_row(self._parts, "frames", number, below=self.shown):
                    frame[indices[indices < self.shown]] = images.to(torch.uint8)
                yield self._grid(frame)

        if self.protocol["frame_files"]:
            self._make("frames")
            for number, frame in enumerate(frames()):
                self._write_picture(f"frames/{number:03d}.png", frame)
        if self.protocol["film"]:
            grids, count = frames(), self.frames
            if self.request.columns > 1:
                there = [*range(self.request.columns), *range(self.request.columns - 1)[::-1]]
                grids = (grid(shown[:, column], square_columns(len(shown))) for column in there)
                count = len(there)
            save_film(self.film_path, grids, count)

    def _write_picture(self, name: str, image: Tensor) -> None:
        with reporting(self.path / name):
            (self.path / name).write_bytes(png_bytes(image))

    def _make(self, name: str) -> None:
        with reporting(self.path / name):
            (self.path / name).mkdir(exist_ok=True)


def _sha256(path: Path) -> str | None:
    """sha256 of a file; None if it can't be read."""
    try:
        return reading.sha256_of(path)
    except OSError:
        return None


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """A clause for each value that differs, such as 'sampler.step_size is 1e-06 there, 2e-06 here'."""
    old, new = ({path: shown(value) for path, value in flatten(dict(values))} for values in (there, here))
    return [
        f"{path} is {old.get(path, 'absent')} there, {new.get(path, 'absent')} here"
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    ]

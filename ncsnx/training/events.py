"""TensorBoard's events, written here and now: a full disk, a kill or a clock that jumps back costs none of them.

TensorBoard's own writer works in a thread, whose errors come late and with a traceback, and it names its files by the
clock alone, although they are read in the order of their names. The format is TFRecord: the length of an event and its
checksum, the event and its checksum.
"""

import os
import re
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from torch import Tensor
from torch.utils.tensorboard import summary

from ncsnx.images import side_by_side
from ncsnx.storage import atomic

_FORMAT = "brain.Event:2"
_NAME = re.compile(r"events\.out\.tfevents\.([0-9]{10})\..*")


class EventFile:
    """One file of events in `folder`, which is made if need be."""

    def __init__(self, folder: Path, purge_step: int) -> None:
        """Events of earlier files from `purge_step` on are no longer shown. Raises NcsnxError, leaving no file."""
        with atomic.reporting(folder):
            folder.mkdir(exist_ok=True)
            number = max([int(time.time()), *(last + 1 for last in _numbers(folder))])
        self._path = folder / f"events.out.tfevents.{number:010d}.{socket.gethostname()}.{os.getpid()}.0"
        start = SessionLog(status=SessionLog.START)
        try:
            self._write(Event(file_version=_FORMAT), Event(step=purge_step, session_log=start))
        except BaseException:
            with suppress(OSError):
                self._path.unlink()
            raise

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Numbers by their names. Raises NcsnxError; then the file is as it was."""
        summaries = [summary.scalar(name, value) for name, value in values.items()]  # type: ignore[no-untyped-call]
        self._write(*(Event(step=step, summary=one) for one in summaries))

    def image(self, step: int, name: str, pixels: Tensor) -> None:
        """A picture, (C, H, W) uint8. Raises NcsnxError; then the file is as it was."""
        shown = summary.image(name, side_by_side(pixels), dataformats="CHW")  # type: ignore[no-untyped-call]
        self._write(Event(step=step, summary=shown))

    def flush(self) -> None:
        """Brings all events to the disk. Raises NcsnxError."""
        with atomic.reporting(self._path):
            atomic.sync_file(self._path)

    def _write(self, *events: Event) -> None:
        for event in events:
            event.wall_time = time.time()
        content = b"".join(_record(event.SerializeToString()) for event in events)
        with atomic.reporting(self._path, len(content)):
            atomic.append(self._path, content)


def _record(event: bytes) -> bytes:
    length = struct.pack("<Q", len(event))
    return b"".join((length, _checksum(length), event, _checksum(event)))


def _checksum(content: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(content))


def _numbers(folder: Path) -> list[int]:
    """The seconds that the names of the folder's files begin with."""
    return [int(match[1]) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]

"""Writes TensorBoard event files synchronously, so that a full disk, a kill or a clock change loses no events.

TensorBoard's own writer runs in a thread, so its errors come late and with a traceback. It names files by the clock
alone, although they are read in the order of their names. The format is TFRecord: length, checksum of the length,
event, checksum of the event.
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
    """One event file in `folder`, which is created if needed."""

    def __init__(self, folder: Path, purge_step: int) -> None:
        """purge_step: step from which events of earlier files are hidden. Raises NcsnxError, leaving no file."""
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
        """Writes numbers by name. Raises NcsnxError, with the file unchanged."""
        summaries = [summary.scalar(name, value) for name, value in values.items()]  # type: ignore[no-untyped-call]
        self._write(*(Event(step=step, summary=one) for one in summaries))

    def image(self, step: int, name: str, pixels: Tensor) -> None:
        """Writes a picture, (C, H, W) uint8. Raises NcsnxError, with the file unchanged."""
        shown = summary.image(name, side_by_side(pixels), dataformats="CHW")  # type: ignore[no-untyped-call]
        self._write(Event(step=step, summary=shown))

    def flush(self) -> None:
        """Syncs all events to disk. Raises NcsnxError."""
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
    """Time stamps, in seconds, in the names of the folder's files."""
    return [int(match[1]) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]

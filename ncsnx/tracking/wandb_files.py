"""The rows in wandb's own files, to find after a kill what its process had written.

The files have the form of LevelDB's logs (github.com/google/leveldb, doc/log_format.md): a header of 7 bytes, then
blocks of 32 KiB. These hold pieces, each with checksum (4 bytes), length (2) and kind (1). A record is a whole piece
(kind 1), or a first (2), middle (3) and last one (4). Records are wandb's protocol buffers.
"""

import json
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

_BLOCK = 2**15
_FILE_HEADER, _PIECE_HEADER = 7, 7
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_MOST_BYTES = 2**30


def logged_steps(files: Iterable[Path], step: str) -> dict[str, set[int]] | None:
    """Steps by series in these files; None if this version of wandb writes them in another form.

    step: the series that has the training step.
    """
    try:
        from wandb.proto.wandb_internal_pb2 import Record
    except ImportError:
        return None
    found: dict[str, set[int]] = defaultdict(set)
    for file in files:
        if file.stat().st_size > _MOST_BYTES:
            return None
        try:
            for content in records_in(file.read_bytes()):
                record = Record.FromString(content)
                items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                if step in items:
                    for name in items:
                        found[name].add(int(json.loads(items[step])))
        except Exception as error:  # of the decoder: another form
            print(f"{file}: {error!r}")
            return None
    return found


def records_in(content: bytes) -> Iterator[bytes]:
    """The complete records of a file. A killed writer leaves a torn last one, which is left out."""
    place, parts = _FILE_HEADER, b""
    while place + _PIECE_HEADER <= len(content):
        room = _BLOCK - place % _BLOCK
        if room < _PIECE_HEADER:  # the rest of a block is zeros
            place += room
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        place += _PIECE_HEADER
        piece = content[place : place + length]
        place += length
        if kind not in (_WHOLE, _FIRST, _MIDDLE, _LAST) or len(piece) < length:
            return
        parts = piece if kind in (_WHOLE, _FIRST) else parts + piece
        if kind in (_WHOLE, _LAST):
            yield parts

"""`ncsnx data pack` in several processes, one of which is killed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.ranks.launched import finish, messages
from tests.training.tiny import command

pytestmark = pytest.mark.ranks
WORDS = ("data", "pack", "photographs", "--size", "8", "--workers", "0", "--out")
SMALL_CHUNKS = """
import ncsnx.data.packed.packing as packing
packing.CHUNK_IMAGES = 4
"""
KILLED = """
plain = packing._read
def read(splits, piece):
    if os.environ["RANK"] == "1" and piece.start == 20:
        os.kill(os.getpid(), 9)
    return plain(splits, piece)
packing._read = read
"""


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder with 40 pictures, which are packed in 10 chunks."""
    (tmp_path / "photographs").mkdir()
    values = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    for number, pixels in enumerate(values):
        Image.fromarray(pixels).save(tmp_path / f"photographs/{number}.png")
    return tmp_path


def test_a_packing_whose_rank_is_killed_resumes_and_ends_with_the_bytes_of_one_process(photographs: Path) -> None:
    from ncsnx.data.packed import packing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "CHUNK_IMAGES", 4)
        assert command(*WORDS, "alone.pack", folder=photographs).code == 0
    killed = finish(*WORDS, "b.pack", folder=photographs, prelude=SMALL_CHUNKS + KILLED)
    assert killed.code != 0
    assert (photographs / "b.pack.part").exists()
    again = finish(*WORDS, "b.pack", folder=photographs, prelude=SMALL_CHUNKS)
    assert again.code == 0, again.err
    assert again.err.count("resuming b.pack.part after verifying its chunks") == 1
    assert again.err.count("to train from it") == 1, "one rank speaks"
    assert (photographs / "b.pack").read_bytes() == (photographs / "alone.pack").read_bytes()
    assert sorted(path.name for path in photographs.glob("*.pack*")) == ["alone.pack", "b.pack"]


def test_a_broken_picture_of_another_rank_ends_all_with_one_message(photographs: Path) -> None:
    prelude = SMALL_CHUNKS + (
        "from ncsnx.errors import NcsnxError\nplain = packing._read\n"
        "def read(splits, piece):\n"
        "    if piece.start == 4: raise NcsnxError('cat.png: is broken')\n"
        "    return plain(splits, piece)\n"
        "packing._read = read\n"
    )
    result = finish(*WORDS, "b.pack", folder=photographs, prelude=prelude)
    (own,) = [line for line in messages(result) if line.startswith("error")]
    assert own.startswith("error: rank 1 (")
    assert "cat.png: is broken" in own

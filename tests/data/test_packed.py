import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor

from ncsnx.config.data_sets import CIFAR10, Digits, Packed
from ncsnx.data import InMemory, Splits, TrainingBatches
from ncsnx.data.dataset import NO_LABEL, StoredImages
from ncsnx.data.packed.packed_file import (
    PACKED_MAGIC,
    Damage,
    PackedError,
    PackedFile,
    damage,
    is_packed,
    splits_of,
)
from ncsnx.data.packed.packing import pack, settings_of
from ncsnx.data.readers.packed_images import open_packed
from ncsnx.errors import NcsnxError, Stopped, UsageError
from ncsnx.work import Work

TRAIN, HELD_OUT, CHUNK = 23, 7, 8
SHAPE = (3, 4, 4)
DECLARED = Packed(path="a.pack", image_size=4)


@attrs.frozen(eq=False)
class Counted:
    """A data set in memory that records which images are read, and fails at some."""

    inner: InMemory
    reads: list[int] = attrs.field(factory=list)
    broken: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.inner.shape

    @property
    def value_range(self) -> tuple[float, float]:
        return self.inner.value_range

    def __len__(self) -> int:
        return len(self.inner)

    def read(self, indices: Tensor) -> StoredImages:
        self.reads.extend(indices.tolist())
        if self.broken in indices.tolist():
            raise NcsnxError("cat.png: is broken")
        return self.inner.read(indices)


def images(count: int, first_id: int, seed: int = 0) -> InMemory:
    generator = torch.Generator().manual_seed(seed + first_id)
    pixels = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=generator)
    labels = torch.arange(count) % 3 + NO_LABEL
    return InMemory(StoredImages(pixels, labels, first_id + torch.arange(count).flip(0)), value_range=(0, 255))


def source(seed: int = 0) -> Splits:
    return Splits(Counted(images(TRAIN, 0, seed)), Counted(images(HELD_OUT, TRAIN, seed)), f"mark {seed}")


def packed(out: Path, splits: Splits | None = None, work: Work | None = None, **options: Any) -> PackedFile:
    settings = options.pop("settings", {"size": 4})
    made = pack(splits or source(), out, settings=settings, work=work or Work(), chunk_images=CHUNK, **options)
    assert made is not None
    return made


def reads(splits: Splits) -> list[int]:
    """Indices in the file of the images that were read, without the first read, which is for the type."""
    assert isinstance(splits.train, Counted)
    assert isinstance(splits.held_out, Counted)
    return [*splits.train.reads[1:], *(TRAIN + index for index in splits.held_out.reads)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_equal(first: StoredImages, second: StoredImages) -> None:
    for field in attrs.fields(StoredImages):
        ours, theirs = getattr(first, field.name), getattr(second, field.name)
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


@pytest.fixture
def file(tmp_path: Path) -> PackedFile:
    """30 images of 48 bytes in 4 chunks."""
    return packed(tmp_path / "a.pack")


# ----------------------------------------------------------------------------------------------------- reading


def test_a_packed_file_gives_the_packed_images(tmp_path: Path, file: PackedFile) -> None:
    original, opened = source(), open_packed(DECLARED, tmp_path)
    assert opened.fingerprint == file.fingerprint
    for ours, theirs in ((opened.train, original.train), (opened.held_out, original.held_out)):
        assert (len(ours), ours.shape, ours.value_range) == (len(theirs), theirs.shape, theirs.value_range)
        backwards = torch.arange(len(theirs)).flip(0)
        assert_equal(ours.read(backwards), theirs.read(backwards))
        twice = torch.tensor([3, 0, 3])
        assert_equal(ours.read(twice), theirs.read(twice))


def test_changing_read_images_does_not_change_the_file(tmp_path: Path, file: PackedFile) -> None:
    train = open_packed(DECLARED, tmp_path).train
    first = torch.tensor([0])
    before = train.read(first).pixels.clone()
    train.read(first).pixels.fill_(7)
    assert torch.equal(train.read(first).pixels, before)


def test_data_workers_read_the_same_batches_after_the_parent_has_read(tmp_path: Path, file: PackedFile) -> None:
    batches = TrainingBatches(open_packed(DECLARED, tmp_path).train, batch_size=10, seed=1)
    alone = list(batches.between(0, 6))
    for ours, theirs in zip(batches.between(0, 6, workers=2), alone, strict=True):
        assert_equal(ours.images, theirs.images)


def test_a_pickled_data_set_contains_no_pixels(tmp_path: Path) -> None:
    large = images(TRAIN, 0)
    repeated = InMemory(large.read(torch.arange(20_000) % TRAIN), (0, 255))
    train = splits_of(packed(tmp_path / "large.pack", Splits(repeated, images(1, 0), ""))).train
    train.read(torch.tensor([0]))
    sent = pickle.dumps(train)
    assert len(sent) < 200_000 < 20_000 * 48
    assert_equal(pickle.loads(sent).read(torch.arange(50)), repeated.read(torch.arange(50)))


def test_a_file_replaced_after_opening_is_refused(tmp_path: Path, file: PackedFile) -> None:
    opened = open_packed(DECLARED, tmp_path)
    packed(tmp_path / "a.pack", source(seed=1), overwrite=True)
    with pytest.raises(PackedError, match="has been replaced by another file"):
        opened.train.read(torch.tensor([0]))


def test_a_file_truncated_while_in_use_is_refused(tmp_path: Path, file: PackedFile) -> None:
    splits = splits_of(file)
    splits.train.read(torch.arange(2))
    os.truncate(file.path, file.layout.end - 1)
    with pytest.raises(NcsnxError, match=r"bytes instead of .*: it was truncated or replaced"):
        splits.train.read(torch.arange(2))


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        (Packed(path="a.pack", image_size=8), "images of 3×8×8 as declared, found 3×4×4; declare image_size=4 "),
        (Packed(path="a.pack", image_size=4, channels=1), "images of 1×4×4 as declared, found 3×4×4; declare image_"),
        (Packed(path="a.pack", image_size=4, random_crop=6), r"3×6×6 as declared, .*random_crop=4"),
    ],
)
def test_a_wrong_declaration_is_refused_with_the_right_one(
    tmp_path: Path, file: PackedFile, declared: Packed, found: str
) -> None:
    with pytest.raises(PackedError, match=found):
        open_packed(declared, tmp_path)


def test_images_may_be_stored_larger_to_be_cropped(tmp_path: Path, file: PackedFile) -> None:
    splits = open_packed(Packed(path="a.pack", image_size=2, random_crop=4), tmp_path)
    assert splits.train.shape == SHAPE


# ------------------------------------------------------------------------------------------------- damaged files


def test_a_sound_file_has_no_damage(file: PackedFile) -> None:
    assert damage(file, Work()) == Damage((), padding=False)


def test_every_flipped_bit_is_found_and_its_chunk_is_named(tmp_path: Path, file: PackedFile) -> None:
    layout, chance, content = file.layout, random.Random(0), file.path.read_bytes()
    tables = ((layout.pixels, 48), (layout.labels, 8), (layout.ids, 8))
    bits = [8 * start + chance.randrange(8 * width * 30) for start, width in tables for _ in range(40)]
    bits += [chance.randrange(8 * layout.checksums + 8 * 4 * 32) for _ in range(40)]
    bits += [chance.randrange(8 * len(content)) for _ in range(40)]
    for bit in bits:
        place = bit // 8
        spoilt = bytearray(content)
        spoilt[place] ^= 1 << bit % 8
        file.path.write_bytes(spoilt)
        inside = [(place - start) // width for start, width in tables if 0 <= place - start < 30 * width]
        if place < layout.checksums + 4 * 32:
            with pytest.raises(PackedError):
                PackedFile.open(file.path)
        elif inside:
            first = inside[0] // CHUNK * CHUNK
            expected = Damage((range(first, min(30, first + CHUNK)),), padding=False)
            assert damage(PackedFile.open(file.path), Work()) == expected
        else:
            assert damage(PackedFile.open(file.path), Work()) == Damage((), padding=True)


def test_a_truncated_or_extended_file_is_refused_when_opened(file: PackedFile) -> None:
    content = file.path.read_bytes()
    layout = file.layout
    edges = [0, 7, 8, 16, 48, layout.checksums, layout.pixels, layout.labels, layout.ids, layout.end]
    for size in sorted({max(0, edge + step) for edge in edges for step in (-1, 0, 1)} - {layout.end}):
        file.path.write_bytes((content + b"\0")[:size])
        with pytest.raises(PackedError, match=r"a\.pack: ") as caught:
            PackedFile.open(file.path)
        assert "ncsnx data pack" in str(caught.value)


def with_header(header: bytes, path: Path, size: int = 20_000) -> Path:
    """A file with this header and a correct checksum."""
    digest = hashlib.sha256(header + bytes(32)).digest()
    path.write_bytes((PACKED_MAGIC + len(header).to_bytes(8, "little") + digest + header).ljust(size, b"\0"))
    return path


def changed(**values: Any) -> bytes:
    header = {
        "version": 1,
        "count": 1,
        "train": 1,
        "channels": 1,
        "size": 1,
        "low": 0.0,
        "high": 255.0,
        "chunk_images": 1,
        "source": {},
    }
    return json.dumps({**header, **values}).encode()


def test_the_base_of_the_hostile_headers_is_valid(tmp_path: Path) -> None:
    path = with_header(changed(), tmp_path / "x.pack", size=3 * 4096 + 8)
    assert PackedFile.open(path).header.count == 1


@pytest.mark.parametrize(
    "header",
    [
        changed(count=10**15),
        changed(count=10**400),
        changed(count=-1),
        changed(count=0),
        changed(count=True),
        changed(count=1.0),
        changed(count="1"),
        changed(count=None),
        changed(size=-8),
        changed(size=0),
        changed(channels=10**9),
        changed(train=2),
        changed(train=-1),
        changed(chunk_images=0),
        changed(chunk_images=-5),
        changed(low=float("nan")),
        changed(high=float("inf")),
        changed(low=255, high=0),
        changed(low=0, high=1e9),
        changed(source=[]),
        changed(source={"fingerprint": float("nan")}),
        changed(offset=10**12),
        changed(version=2),
        changed(version="[red]1[/red]"),
        b"[]",
        b"null",
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version": 1' + b"0" * 5_000 + b"}",
    ],
    ids=lambda header: header[:40].decode("latin-1"),
)
def test_a_hostile_header_is_one_line_and_costs_nothing(tmp_path: Path, header: bytes) -> None:
    path = with_header(header, tmp_path / "x.pack", size=max(3 * 4096 + 8, 2 * len(header)))
    with pytest.raises(PackedError, match=r"x\.pack: (is damaged|version: is 2, newer)") as caught:
        PackedFile.open(path)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_a_header_that_declares_too_much_costs_nothing(tmp_path: Path) -> None:
    header = changed(count=2**40, train=2**40, size=16_384, channels=1_024)
    with pytest.raises(PackedError, match=r"expected [0-9,]{31} bytes for 1,099,511,627,776 images, found 20,000"):
        PackedFile.open(with_header(header, tmp_path / "x.pack"))


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.pack"
    path.write_bytes(PACKED_MAGIC + (1 << 36).to_bytes(8, "little"))
    os.truncate(path, 1 << 37)  # sparse: takes no disk space
    with pytest.raises(PackedError, match="its header cannot have 68,719,476,736 bytes"):
        PackedFile.open(path)


@pytest.mark.parametrize("length", [2**64 - 1, 2**40, 19_953, 1 << 21])
def test_an_impossible_header_length_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "x.pack"
    path.write_bytes((PACKED_MAGIC + length.to_bytes(8, "little")).ljust(20_000, b"\0"))
    with pytest.raises(PackedError, match="is damaged"):
        PackedFile.open(path)


def a_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"")


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (Path.touch, "is not a packed data set"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)), "is not a packed data set"),
        (lambda path: path.write_text("[bold]no[/bold]\n" * 10), "is not a packed data set"),
        (a_zip, "is not a packed data set"),
        (Path.mkdir, "Is a directory"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: None, "No such file"),
    ],
)
def test_what_isnt_a_packed_file_is_named(tmp_path: Path, make: Callable[[Path], object], complaint: str) -> None:
    path = tmp_path / "x.pack"
    make(path)
    assert not is_packed(path)
    with pytest.raises(PackedError, match=complaint):
        PackedFile.open(path)


def test_a_file_damaged_by_a_transfer_as_text_is_refused(file: PackedFile) -> None:
    file.path.write_bytes(file.path.read_bytes().replace(b"\r\n", b"\n"))
    with pytest.raises(PackedError, match="is not a packed data set"):
        PackedFile.open(file.path)


# ----------------------------------------------------------------------------------------------------- packing


def test_workers_write_the_same_bytes(tmp_path: Path, file: PackedFile) -> None:
    assert packed(tmp_path / "b.pack", workers=2).path.read_bytes() == file.path.read_bytes()
    assert names(tmp_path) == ["a.pack", "b.pack"]


def test_the_file_is_laid_out_as_documented(file: PackedFile) -> None:
    content = file.path.read_bytes()
    length = int.from_bytes(content[8:16], "little")
    header = json.loads(content[48 : 48 + length])
    assert (header["count"], header["train"], header["channels"], header["size"]) == (30, TRAIN, 3, 4)
    assert header["source"] == {"fingerprint": "mark 0", "settings": {"size": 4}}
    checksums = content[48 + length : 48 + length + 4 * 32]
    assert content[16:48] == hashlib.sha256(content[48 : 48 + length] + checksums).digest()
    pixels = np.frombuffer(content, np.uint8, 30 * 48, offset=4096).reshape(30, *SHAPE)
    expected = source()
    everything = expected.train.read(torch.arange(TRAIN)), expected.held_out.read(torch.arange(HELD_OUT))
    assert np.array_equal(pixels, torch.cat([part.pixels for part in everything]).numpy())
    labels, ids = (np.frombuffer(content, "<i8", 30, offset=start) for start in (2 * 4096, 3 * 4096))
    assert labels.tolist() == torch.cat([part.labels for part in everything]).tolist()
    assert ids.tolist() == torch.cat([part.ids for part in everything]).tolist()
    last = pixels[24:].tobytes() + labels[24:].tobytes() + ids[24:].tobytes()
    assert checksums[96:] == hashlib.sha256(last).digest()
    assert len(content) == 3 * 4096 + 240


def test_the_fingerprint_covers_every_pixel_but_no_path(tmp_path: Path, file: PackedFile) -> None:
    (tmp_path / "elsewhere").mkdir()
    assert packed(tmp_path / "elsewhere" / "b.pack").fingerprint == file.fingerprint
    splits = source()
    assert isinstance(splits.held_out, Counted)
    splits.held_out.inner.images.pixels[-1, -1, -1, -1] ^= 1
    assert packed(tmp_path / "c.pack", splits).fingerprint != file.fingerprint


def stopping_after(count: int) -> Work:
    """Work that is stopped after so many pieces have been read."""
    asked = iter(range(count))

    def check_stop() -> None:
        if next(asked, None) is None:
            raise Stopped("stopped by a test")

    return Work(check_stop=check_stop)


def test_an_interrupted_packing_resumes_after_its_last_chunk_and_ends_with_the_same_bytes(
    tmp_path: Path, file: PackedFile
) -> None:
    out = tmp_path / "b.pack"
    with pytest.raises(Stopped):
        packed(out, work=stopping_after(2))
    assert names(tmp_path) == ["a.pack", "b.pack.part"]
    assert not is_packed(tmp_path / "b.pack.part")
    with pytest.raises(PackedError):
        PackedFile.open(tmp_path / "b.pack.part")
    again, said = source(), list[str]()
    packed(out, again, Work(info=said.append))
    assert reads(again) == list(range(2 * CHUNK, 30))
    assert any("resuming " in text for text in said)
    assert out.read_bytes() == file.path.read_bytes()
    assert names(tmp_path) == ["a.pack", "b.pack"]


def test_torn_chunks_of_an_interrupted_packing_are_packed_again(tmp_path: Path, file: PackedFile) -> None:
    out, part = tmp_path / "b.pack", tmp_path / "b.pack.part"
    with pytest.raises(Stopped):
        packed(out, work=stopping_after(3))
    content = bytearray(part.read_bytes())
    content[file.layout.labels + 8 * (CHUNK + 2)] ^= 1  # in the second chunk
    part.write_bytes(content)
    again = source()
    packed(out, again)
    assert reads(again) == [*range(CHUNK, 2 * CHUNK), *range(3 * CHUNK, 30)]
    assert out.read_bytes() == file.path.read_bytes()


@pytest.mark.parametrize("size", [0, 10, 48, 60, 4096, 10_000])
def test_an_unfinished_packing_of_any_length_is_resumed(tmp_path: Path, file: PackedFile, size: int) -> None:
    with pytest.raises(Stopped):
        packed(tmp_path / "b.pack", work=stopping_after(1))
    os.truncate(tmp_path / "b.pack.part", size)
    assert packed(tmp_path / "b.pack").path.read_bytes() == file.path.read_bytes()


@pytest.mark.parametrize(
    ("splits", "settings"),
    [(source(seed=1), {"size": 4}), (source(), {"size": 5}), (Splits(images(3, 0), images(0, 0), ""), {})],
    ids=["source", "settings", "count"],
)
def test_different_packings_do_not_mix(tmp_path: Path, splits: Splits, settings: dict[str, Any]) -> None:
    out, part = tmp_path / "b.pack", tmp_path / "b.pack.part"
    with pytest.raises(Stopped):
        packed(out, work=stopping_after(2))
    before = part.read_bytes()
    with pytest.raises(UsageError, match=r"b\.pack\.part is an unfinished packing of other images"):
        packed(out, splits, settings=settings)
    assert part.read_bytes() == before
    made = packed(out, splits, settings=settings, overwrite=True)
    assert damage(made, Work()) == Damage((), padding=False)
    assert made.header.source["settings"] == settings


def test_the_same_file_is_kept_and_another_is_never_replaced_unasked(tmp_path: Path, file: PackedFile) -> None:
    before = file.path.stat().st_mtime_ns, file.path.read_bytes()
    again = source()
    assert packed(file.path, again) == file
    assert reads(again) == []
    with pytest.raises(UsageError, match=r"a\.pack already exists, with other images.*overwrite=True"):
        packed(file.path, source(seed=1))
    assert (file.path.stat().st_mtime_ns, file.path.read_bytes()) == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt already exists, and is not a valid packed file"):
        packed(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert packed(file.path, source(seed=1), overwrite=True).fingerprint != file.fingerprint


def test_a_file_that_appears_while_images_are_packed_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "b.pack"
    work = Work(check_stop=lambda: out.write_text("mine") and None)
    with pytest.raises(UsageError, match="is not a valid packed file"):
        packed(out, work=work)
    assert out.read_text() == "mine"


def test_of_two_processes_one_packs(tmp_path: Path) -> None:
    part = tmp_path / "b.pack.part"
    program = (
        "import fcntl, sys; file = open(sys.argv[1], 'wb'); fcntl.lockf(file, fcntl.LOCK_EX); print('locked', "
        "flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(part)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        with pytest.raises(NcsnxError, match=r"b\.pack\.part is being written by another process"):
            packed(tmp_path / "b.pack")
        other.stdin.close()
        other.wait(10)
    assert packed(tmp_path / "b.pack").header.count == 30


def test_an_unreadable_image_stops_the_packing_with_its_own_message(tmp_path: Path) -> None:
    for workers in (0, 2):
        splits = Splits(Counted(images(TRAIN, 0), broken=12), images(HELD_OUT, TRAIN), "")
        with pytest.raises(NcsnxError, match=r"^cat\.png: is broken$"):
            packed(tmp_path / "b.pack", splits, workers=workers)
        assert names(tmp_path) == ["b.pack.part"]


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32])
def test_images_of_more_than_8_bits_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    inner = images(TRAIN, 0)
    deep = InMemory(attrs.evolve(inner.images, pixels=inner.images.pixels.to(dtype)), (0, 1000))
    with pytest.raises(UsageError, match=r"only 8-bit images can be packed, and these are (int16|float32)"):
        packed(tmp_path / "b.pack", Splits(deep, images(1, 0), ""))
    assert names(tmp_path) == []


def test_a_full_disk_is_reported_before_anything_is_decoded(tmp_path: Path) -> None:
    class Endless(Counted):
        def __len__(self) -> int:
            return 10**12

    endless = Endless(images(TRAIN, 0))
    with pytest.raises(
        NcsnxError, match=r"cannot write .*b\.pack: it needs [0-9,]{18} bytes more, and [0-9,]+ are free"
    ):
        packed(tmp_path / "b.pack", Splits(endless, images(0, 0), ""))
    assert endless.reads == [0]


@pytest.mark.parametrize("counts", [(1, 0), (8, 0), (3, 5), (9, 8)])
def test_splits_of_any_sizes_can_be_packed(tmp_path: Path, counts: tuple[int, int]) -> None:
    train, held_out = counts
    opened = splits_of(packed(tmp_path / "b.pack", Splits(images(train, 0), images(held_out, train), "")))
    assert (len(opened.train), len(opened.held_out)) == counts
    assert_equal(opened.train.read(torch.arange(train)), images(train, 0).images)
    assert_equal(opened.held_out.read(torch.arange(held_out)), images(held_out, train).images)


@pytest.mark.parametrize("held_out", [0, 3])
def test_a_set_without_training_images_is_refused(tmp_path: Path, held_out: int) -> None:
    with pytest.raises(NcsnxError, match="has no training images to pack"):
        packed(tmp_path / "b.pack", Splits(images(0, 0), images(held_out, 0), ""))
    assert not list(tmp_path.iterdir())


def test_settings_contain_no_path_and_nothing_applied_after_reading() -> None:
    assert settings_of(CIFAR10(root="/home/me", random_flip=True, transform="rescaled")) == {"type": "cifar10"}
    assert settings_of(Digits(dequantization="uniform")) == {"type": "digits"}
    assert settings_of(Packed(path="/home/me/a.pack", image_size=32, random_crop=40)) == {
        "type": "packed",
        "image_size": 32,
        "random_crop": 40,
        "channels": 3,
    }


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.float32])
def test_unbounded_values_are_packed_in_their_type_and_read_back(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.randint(0, 200, (7, 2, 3, 5), generator=torch.Generator().manual_seed(0)) - 50
    pixels = values.abs().to(dtype) if dtype == torch.uint8 else (values * 7).to(dtype)
    whole = InMemory(StoredImages(pixels, torch.arange(7), torch.arange(7)), (0.0, 3.0))
    splits = Splits(whole.subset(torch.arange(7) < 5), whole.subset(torch.arange(7) >= 5), "mark")
    packed = pack(splits, tmp_path / "x.pack", settings={"range": "unbounded"}, work=Work(), chunk_images=2)
    assert packed is not None
    assert (packed.header.bounds, packed.header.torch_dtype) == ("unbounded", dtype)
    assert damage(PackedFile.open(packed.path), Work()).images == ()
    data = Packed(path=str(packed.path), image_size=(3, 5), channels=2, range="unbounded", scale=2.0)
    opened = open_packed(data, tmp_path)
    assert opened.train.value_range == (0, 2)
    read = opened.train.read(torch.arange(5)).pixels
    assert read.dtype == dtype
    assert torch.equal(read, pixels[:5])


def test_other_types_need_unbounded_data(tmp_path: Path) -> None:
    whole = InMemory(StoredImages(torch.zeros(4, 1, 3, 3), torch.arange(4), torch.arange(4)), (0.0, 1.0))
    with pytest.raises(UsageError, match="only 8-bit images can be packed, and these are float32"):
        pack(Splits(whole, whole, "mark"), tmp_path / "x.pack", settings={}, work=Work())
    wide = InMemory(StoredImages(torch.zeros(4, 1, 3, 3).double(), torch.arange(4), torch.arange(4)), (0.0, 1.0))
    with pytest.raises(UsageError, match="type uint8, int16, int32, float32 can be packed, and these are float64"):
        pack(Splits(wide, wide, "mark"), tmp_path / "x.pack", settings={"range": "unbounded"}, work=Work())
    assert list(tmp_path.iterdir()) == []

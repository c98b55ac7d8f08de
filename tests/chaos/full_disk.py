"""Item 2: a disk that is full at every write in turn.

Room is given in files (each command is tried with room for none, one, two … of those that it makes) and in pages of
4,096 bytes, where it is narrowed down until no write between two sizes is left out. A limit on the size of files, one
byte below that of each file, does it where nothing can be mounted, and in another way where it can.
"""

import itertools
import re
import shutil
from pathlib import Path

import attrs

from tests.chaos import mounts
from tests.chaos.forks import finish
from tests.chaos.report import Tally
from tests.chaos.trials import debris, must, one_line, side_by_side, unlike, unsound
from tests.cli.command import REPOSITORY
from tests.training.tiny import CPU, Result, files, steps_of, training

TRAIN = training("steps=6", "checkpoint_every=3")
RETAIN = training("steps=9", "checkpoint_every=3", "retention.keep_last=2", "retention.optimizer_last=1")
CLASSIFIER = ("features.steps=30", "features.width=8")
"""One of seconds: what it is good for isn't what these trials are about."""
ADVANCED = 8
"""So many small files take a page each before the large ones begin."""
SITES = {
    "train": (
        "runs",
        "runs/digits",
        "config.json",
        "origins.json",
        "experiment.py",
        ".lock",
        ".holder.json",
        "segments.jsonl",
        "log.txt",
        "metrics.jsonl",
        "tensorboard/*",
        "checkpoints/*/ema.safetensors",
        "checkpoints/*/model.safetensors",
        "checkpoints/*/optimizer.safetensors",
        "checkpoints/*/state.json",
        "checkpoints/*/manifest.json",
        "checkpoints",
        "checkpoints/*",
        "snapshots",
        "snapshots/*",
    ),
    "sample": ("images", "images/images/*", "images/frames/*", "images/samples.safetensors", "images/film.gif"),
    "fid": ("fid/*/.parts/*/*.safetensors", "fid/*/scores.json", "fid/*/scores.png", "fid/*/scores.svg"),
    "loss": ("loss/*/scores.json", "loss/*/losses.png", "loss/*/losses.svg"),
    "likelihood": (
        "likelihood/*/.parts/*/*.safetensors",
        "likelihood/*/*.csv",
        "likelihood/*/scores.json",
        "likelihood/*/scores.png",
        "likelihood/*/scores.svg",
    ),
    "retain": ("checkpoints/*/manifest.json",),
    "import": (
        "runs/cifar10",
        "config.json",
        "checkpoints/*/ema.safetensors",
        "checkpoints/*/model.safetensors",
        "checkpoints/*/optimizer.safetensors",
        "checkpoints/*/state.json",
        "checkpoints/*/manifest.json",
    ),
    "export": ("exported", "exported/model.safetensors", "exported/config.json", "exported/README.md"),
    "redraw": ("loss/*/scores.csv", "loss/*/losses.png", "loss/*/losses.svg"),
    "reference": (
        "cache/classifier/*/weights.safetensors",
        "cache/classifier/*/classifier.json",
        "cache/references/*/statistics.safetensors",
        "cache/references/*/reference.json",
    ),
}
"""What must have been hit, at the least, where small disks can be mounted."""
_LINE = re.compile(r"(?:error|warning): can't write (?P<path>\S+)(?: \((?P<bytes>[0-9,]+) bytes\))?: (?P<reason>[^;]+)")
_number = itertools.count()


@attrs.frozen(eq=False)
class Job:
    """A command, what the disk holds when it starts, and what it holds when the command had all the room it wanted."""

    name: str
    command: list[str]
    before: Path | None
    after: Path
    made: tuple[str, ...]
    """What it makes that is the same at every time."""

    sizes: bool = True
    """Whether room is given in pages too; else only in files."""

    def unlike(self, place: Path) -> list[str]:
        """What differs in `place` after the command could end."""
        if self.command[0] == "train":
            return unlike(place / "runs/digits", self.after / "runs/digits")
        problems = []
        for pattern in self.made:
            for expected in sorted(self.after.glob(pattern)):
                found = place / expected.relative_to(self.after)
                if not found.is_file() or found.read_bytes() != expected.read_bytes():
                    problems.append(f"{found.relative_to(place)} differs")
        return problems


@attrs.frozen
class Room:
    """How much can be written beyond what is there already."""

    pages: int | None = None
    files: int | None = None
    bytes_a_file: int | None = None

    def __str__(self) -> str:
        if self.bytes_a_file is not None:
            return f"files of at most {self.bytes_a_file:,} bytes"
        return f"room for {self.files} files" if self.pages is None else f"room for {self.pages} pages"

    @property
    def reason(self) -> str:
        return "No space left on device" if self.bytes_a_file is None else "File too large"


@attrs.frozen
class Hit:
    """A write that failed."""

    path: str
    """Without what differs from one process to another."""
    has_bytes: bool

    @property
    def site(self) -> str:
        """The path, without what differs from one step, image or protocol to another."""
        path = re.sub(r"step-[0-9]{8}(-[0-9a-f]{8})?|[0-9a-f]{64}|n[0-9]+-[^/]+", "*", self.path)
        return re.sub(r"[0-9]+(-[0-9]+)?(?=\.(png|safetensors))", "*", path)

    @classmethod
    def of(cls, line: str) -> "Hit":
        match = _LINE.match(line)
        if match is None:
            return cls(f"another line: {line[:200]}", False)
        path = re.sub(r"(?<=tensorboard/).+", "*", re.sub("^runs/(digits|cifar10)/", "", match["path"]))
        return cls(path, match["bytes"] is not None)


@attrs.define
class Trials:
    """The trials of all jobs."""

    tally: Tally
    folder: Path
    gone_on: set[tuple[str, str, bool]] = attrs.Factory(set)
    """(job, site, by size of files) after which the command was repeated with space."""

    def every_file(self, job: Job) -> list[str]:
        """Room for 0, 1, 2 … files and folders more, until the command can end. Returns what was hit, in order."""
        found: dict[int, str | None] = {}

        def one(number: int) -> None:
            found[number] = self.attempt(job, Room(files=number))

        while not found or found[max(found)] is not None:
            side_by_side(one, range(len(found), len(found) + 4))
        return [hit for _, hit in sorted(found.items()) if hit is not None]

    def every_size(self, job: Job, order: list[str]) -> None:
        """Room for so many pages that each file in turn doesn't fit, by halving between sizes that hit different ones.

        order: of the writes; none is between two that follow each other.
        """
        found: dict[int, str | None] = {}

        def one(pages: int) -> None:
            found[pages] = self.attempt(job, Room(pages=pages))

        def is_gap(smaller: int, larger: int) -> bool:
            first, second = found[smaller], found[larger]
            if larger - smaller == 1 or first == second:
                return False
            return second is None or (first, second) not in set(itertools.pairwise(order))

        side_by_side(one, range(1, ADVANCED + 1))
        end = ADVANCED
        while found[end] is not None:
            end *= 2
            one(end)
        while gaps := [pair for pair in itertools.pairwise(sorted(found)) if is_gap(*pair)]:
            side_by_side(one, [(a + b) // 2 for a, b in gaps])

    def every_limit(self, job: Job) -> None:
        """Files may be no larger than one byte less than each that the command makes."""
        there = files(job.before) if job.before is not None else {}
        sizes = {len(content) for name, content in files(job.after).items() if there.get(name) != content}
        side_by_side(lambda size: self.attempt(job, Room(bytes_a_file=size - 1)), sorted(sizes - {0}))

    def attempt(self, job: Job, room: Room) -> str | None:
        """One trial; returns which write it hit, or None where there was room for all."""
        place = self.folder / f"disk-{next(_number)}"
        place.mkdir()
        if room.bytes_a_file is not None:
            hit = self._attempt(job, room, place)
        else:
            with mounts.small_disk(place):
                hit = self._attempt(job, room, place)
        shutil.rmtree(place)
        return hit

    def _attempt(self, job: Job, room: Room, place: Path) -> str | None:
        if job.before is not None:
            shutil.copytree(job.before, place, dirs_exist_ok=True)
        result = _with_little(job, room, place)
        lines = [line for line in result.err.splitlines() if line.startswith(("error: ", "warning: can't write"))]
        if result.code == 0 and not lines:
            return None
        hits = [Hit.of(line) for line in lines] or [Hit("no line at all", False)]
        problems = _problems(job, room, result, hits[-1], place)
        if (mark := (job.name, hits[-1].site, room.bytes_a_file is not None)) not in self.gone_on:
            self.gone_on.add(mark)
            problems += _gone_on(job, room, place)
            self.tally.count("commands that were repeated with space, to their ends")
        self.tally.trial(f"{job.name}, {room}: {hits[-1].path}", problems)
        for hit in hits:
            self.tally.count(f"{job.name}: {hit.site}")
        return hits[-1].path


def trials(tally: Tally, folder: Path) -> None:
    jobs = prepared(folder)
    every = Trials(tally, folder)
    mounted = mounts.can_mount()
    for job in jobs:
        if mounted:
            order = every.every_file(job)
            if job.sizes:
                every.every_size(job, order)
        every.every_limit(job)
    if not mounted:
        tally.facts.append("nothing may be mounted here: only the sizes of files were limited, which hits fewer writes")
        return
    for name, sites in SITES.items():
        for site in sites:
            hits = sum(number for what, number in tally.also.items() if what.startswith(f"{name}: {site}"))
            tally.require(f"{name}: {site} hit", hits, 1)


def prepared(folder: Path) -> list[Job]:
    """Each command once with all the room that it wants."""
    trained = folder / "trained"
    trained.mkdir()
    must(finish(*TRAIN, folder=trained))
    jobs = [Job("train", TRAIN, None, trained, ())]
    golden = REPOSITORY / "tests/golden/ncsnv2_checkpoint_5000.pth"
    importing = ["import", str(golden), "cifar10", "model.width=4", "schedule.levels=10"]
    for name, command, made in (
        ("retain", RETAIN, ()),
        ("import", importing, ("runs/cifar10/checkpoints/*/*.safetensors",)),
    ):
        after = folder / name
        after.mkdir()
        must(finish(*command, folder=after))
        jobs.append(Job(name, command, None, after, made, sizes=name != "retain"))
    cache = str(folder / "cache")
    sampling = ["sample", "digits", "--n", "3", "--frames", "2", "--film", "--out", "images"]
    measuring = ["fid", "digits", "--range", "latest", "--n", "20", *CLASSIFIER, "--cache", cache]
    losses = ["loss", "digits", "--range", "latest"]
    likelihoods = ["likelihood", "digits", "--range", "latest", "--n", "2", "--tolerance", "0.1"]
    reference = ["reference", "digits", "--cache", "cache", *CLASSIFIER]
    exporting = ["export", "digits", "--out", "exported", "--license", "mit", "--grid", "2"]
    for name, command, made in (
        ("sample", sampling, ("images/*/*", "images/samples.safetensors", "images/*.png", "images/film.gif")),
        ("fid", measuring, ("runs/digits/fid/*/scores.csv",)),
        ("loss", losses, ("runs/digits/loss/*/scores.csv",)),
        ("likelihood", likelihoods, ("runs/digits/likelihood/*/*.csv",)),
        ("reference", reference, ()),
        ("export", exporting, ("exported/*.safetensors", "exported/config.json", "exported/*.png")),
    ):
        after = folder / name
        shutil.copytree(trained, after)
        must(finish(*command, *CPU, folder=after))
        jobs.append(Job(name, [*command, *CPU], trained, after, made))
    undrawn = Path(shutil.copytree(folder / "loss", folder / "undrawn"))
    for path in undrawn.glob("runs/digits/loss/*/*"):
        if path.name not in ("scores.json", ".lock"):  # the table comes first, and finds the space of what went before
            path.unlink()
    jobs.append(Job("redraw", [*losses, *CPU], undrawn, folder / "loss", ("runs/digits/loss/*/scores.csv",)))
    return jobs


def _with_little(job: Job, room: Room, place: Path) -> Result:
    if room.bytes_a_file is not None:
        return finish(*job.command, folder=place, bytes_a_file=room.bytes_a_file)
    there = [path.lstat() for path in place.rglob("*")]
    pages = sum(-(-entry.st_blocks * 512 // mounts.PAGE) for entry in there)
    mounts.resize(
        place,
        pages=None if room.pages is None else pages + room.pages,
        inodes=None if room.files is None else len(there) + room.files,
    )
    return finish(*job.command, folder=place)


def _problems(job: Job, room: Room, result: Result, hit: Hit, place: Path) -> list[str]:
    """What is wrong with how it ended, while there is still no space."""
    if result.code == 0:  # only messages were lost: a log is no reason to end a training
        lost = [line for line in result.err.splitlines() if line.startswith("warning: can't write")]
        problems = [] if len(lost) == 1 and hit.site == "log.txt" and hit.has_bytes else [f"it said: {result.err}"]
    else:
        problems = one_line(result, room.reason)
        if not hit.has_bytes and Path(hit.path).suffix:  # a folder has none
            problems.append(f"no bytes in the line about {hit.path}")
    problems += [*debris(place), *(one for run in sorted(place.glob("runs/*")) for one in unsound(run))]
    if job.before is not None:
        kept, there = files(job.before), files(place)
        problems += [f"{name} was changed" for name in kept if there.get(name) != kept[name]]
    elif job.name == "train" and "checkpoints/step-00000006" in hit.path and steps_of(place / "runs/digits") != [3]:
        problems.append("the checkpoint of step 3 isn't there")
    return problems


def _gone_on(job: Job, room: Room, place: Path) -> list[str]:
    """What is wrong with how the command ends when it is repeated with space."""
    if room.bytes_a_file is None:
        mounts.resize(place)
    again = finish(*job.command, folder=place)
    if again.code != 0:
        return [f"with space again it ended with {again.code}: {again.err[-1500:]}"]
    return [f"with space again: {problem}" for problem in (*job.unlike(place), *debris(place))]

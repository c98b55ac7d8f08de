"""Item 2: a disk that is full at every write in turn.

Space is limited in files (each command is tried with space for none, one, two … of its files) and in pages of 4,096
bytes, refined until no write between two sizes is left out. A limit on the size of files, one byte below that of each
file, works where nothing can be mounted, and tests another kind of failure elsewhere.
"""

import fnmatch
import itertools
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import attrs

from ncsnx.runs.names import part_file
from tests.chaos import mounts
from tests.chaos.forks import finish
from tests.chaos.report import Tally
from tests.chaos.trials import debris, must, one_line, side_by_side, unlike, unsound
from tests.cli.command import REPOSITORY
from tests.training.tiny import CPU, Result, damage, files, steps_of, training

TRAIN = training("steps=6", "checkpoint_every=3")
RETAIN = training("steps=9", "checkpoint_every=3", "retention.keep_last=2")
RESUME = [
    *training("steps=9", "checkpoint_every=3", "retention.keep_last=2", "snapshots=none"),
    f"note={'long ' * 1_000}",  # so that config.json takes more pages than origins.json, which is written before it
]
"""Overrides to resume a run of TRAIN: more steps, and other values that may change."""
CLASSIFIER = ("features.steps=30", "features.width=8")
"""A classifier that trains in seconds; its quality doesn't matter here."""
ADVANCED = 8
"""Number of small files, one page each, before the large ones begin."""
_NEW_RUN = ("config.json", "origins.json", "experiment.py", "checkpoints", ".lock", ".holder.json", "segments.jsonl")
_PARTS = tuple(f"checkpoints/*/{name}.safetensors" for name in ("ema", "model", "optimizer"))
_CHECKPOINT = ("checkpoints/*", *_PARTS, "checkpoints/*/state.json", "checkpoints/*/manifest.json")
SITES = {
    "train": (
        *("runs/digits", "runs/digits"),
        *_NEW_RUN,
        *("log.txt", "metrics.jsonl", "tensorboard", "tensorboard", "report.html"),
        *_CHECKPOINT,
        *("snapshots", "snapshots/*.png"),
    ),
    "retain": _CHECKPOINT,
    "resume": (
        *(".holder.json", "log.txt", "segments.jsonl", "origins.json", "config.json", "metrics.jsonl"),
        *_CHECKPOINT[1:],
    ),
    "repair": (".holder.json",),  # a renamed folder takes no space
    "import": ("runs/cifar10", "runs/cifar10", *_NEW_RUN, "log.txt", *_CHECKPOINT),
    "sample": (
        *("images", "images/.lock", "images/.holder.json", "images/.parts", "images/.parts/*.safetensors"),
        *("images/protocol.json", "images/samples.safetensors", "images/images", "images/images/*.png"),
        *("images/grid.png", "images/frames", "images/frames/*.png", "images/film.gif"),
    ),
    "fid": (
        *("fid/*", "fid/*", "fid/*/.lock", "fid/*/.holder.json", "fid/*/.parts/*", "fid/*/.parts/*/*.safetensors"),
        *("fid/*/scores.json", "fid/*/scores.png", "fid/*/scores.svg"),
    ),
    "loss": (
        *("loss/*", "loss/*", "loss/*/.lock", "loss/*/.holder.json"),
        *("loss/*/scores.json", "loss/*/losses.png", "loss/*/losses.svg"),
    ),
    "likelihood": (
        "likelihood/*/.parts/*/*.safetensors",
        "likelihood/*/scores.csv",
        "likelihood/*/scores.json",
        "likelihood/*/scores.png",
        "likelihood/*/scores.svg",
    ),
    "compare": (
        "compare/*/.parts/*/*.safetensors",
        *(f"compare/*/{name}" for name in ("trials.jsonl", "samplers.png", "samplers.svg")),
    ),
    "export": tuple(
        f"exported{name}" for name in ("", "/model.safetensors", "/samples.png", "/README.md", "/config.json")
    ),
    "redraw fid": ("fid/*/scores.csv", "fid/*/scores.png", "fid/*/scores.svg"),
    "redraw loss": ("loss/*/scores.csv", "loss/*/losses.png", "loss/*/losses.svg"),
    "reference": (
        *("cache/classifier/.*", "cache/classifier/*", "cache/references/.*", "cache/references/*"),
        "cache/classifier/*/classifier.safetensors",
        "cache/classifier/*/classifier.json",
        "cache/references/*/reference.safetensors",
        "cache/references/*/reference.json",
        "cache/references/*/perfect-model-n1000.json",
    ),
}
"""Sites that must be hit at least, if small disks can be mounted.

A folder that is listed twice is hit once for itself and once for its parent.
"""
_LINE = re.compile(
    r"(?P<before>.*?)cannot write (?P<path>\S+)(?: \((?P<bytes>[0-9,]+) bytes\))?: (?P<reason>[^;]+)(?:;|$)"
)
_number = itertools.count()


@attrs.frozen(eq=False)
class Job:
    """A command, the disk's content when it starts, and the content after it ran with unlimited space."""

    name: str
    command: list[str]
    before: Path | None
    after: Path
    made: tuple[str, ...]
    """Reproducible files of the command."""

    sizes: bool = True
    """Whether space is limited in pages too, not only in files."""

    def unlike(self, place: Path) -> list[str]:
        """Differences in `place` after the command finished."""
        if self.command[0] == "train":
            return unlike(place / "runs/digits", self.after / "runs/digits")
        problems = []
        for pattern in self.made:
            names = {path.relative_to(origin) for origin in (self.after, place) for path in origin.glob(pattern)}
            for name in sorted(names):
                expected, found = self.after / name, place / name
                if not (found.is_file() and expected.is_file()) or found.read_bytes() != expected.read_bytes():
                    problems.append(f"{name} differs")
        return problems

    def bring(self, place: Path) -> None:
        """Copies the initial files of the command into `place`."""
        if self.before is not None:
            shutil.copytree(self.before, place, dirs_exist_ok=True)

    def lost(self, place: Path) -> list[str]:
        """Initial files that are neither unchanged nor what the command turns them into."""
        if self.before is None:
            return []
        there, done = files(place), files(self.after)
        problems = []
        for name, old in files(self.before).items():
            new, now = done.get(name), there.get(name)
            if now in (old, new):
                if now is None and self.command[0] == "doctor" and old not in there.values():
                    problems.append(f"{name} was to be moved, and is nowhere")
            elif now is None or new is None or new == old or not _is_on_its_way(Path(name).name, old, new, now):
                problems.append(f"{name} was changed")
        return problems


@attrs.frozen
class Room:
    """Free space beyond the existing files."""

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
    """Path without parts that differ between processes."""
    has_bytes: bool
    reason: str = ""

    def __str__(self) -> str:
        return self.path

    @property
    def site(self) -> str:
        """The write, without parts that differ between steps, images or protocols."""
        path = re.sub(r"step-[0-9]{8}(-[0-9a-f]{8})?|[0-9a-f]{64}|n[0-9]+-[^/]+", "*", str(self))
        return re.sub(r"[0-9]+(-[0-9]+)?(?=\.(png|safetensors))", "*", path)

    @property
    def is_borne(self) -> bool:
        """Whether training continues: a lost message or page doesn't end it."""
        return self.has_bytes and self.site in ("log.txt", "report.html")

    @classmethod
    def all_of(cls, result: Result) -> "list[Hit]":
        """Failed writes that a command reports: errors and warnings."""
        lines = result.err.splitlines()
        return [cls.of(line) for line in lines if re.match("error: |warning: .*cannot write ", line)]

    @classmethod
    def of(cls, line: str) -> "Hit":
        match = _LINE.match(line)
        if match is None or match["before"] not in ("error: ", "warning: ", "warning: no report: "):
            return cls(f"another line: {line[:200]}", False)
        path = re.sub(r"(?<=tensorboard/).+", "*", re.sub("^runs/(digits|cifar10)/", "", match["path"]))
        return cls(path, match["bytes"] is not None, match["reason"])


@attrs.define
class Trials:
    """Trials of all jobs."""

    tally: Tally
    folder: Path
    gone_on: set[tuple[str, tuple[str, ...], bool]] = attrs.Factory(set)
    """(job, sites, by size of files) after which the command was repeated with enough space."""

    def every_file(self, job: Job) -> list[str]:
        """Gives space for 0, 1, 2 … more files and folders, until the command finishes. Returns the sites in order."""
        found: dict[int, str | None] = {}

        def one(number: int) -> None:
            found[number] = self.attempt(job, Room(files=number))

        while not found or found[max(found)] is not None:
            side_by_side(one, range(len(found), len(found) + 4))
        return [hit for _, hit in sorted(found.items()) if hit is not None]

    def every_size(self, job: Job, order: list[str]) -> None:
        """Finds sizes in pages at which each file in turn doesn't fit, by bisection between sizes that hit two sites.

        order: sites in the order of the writes, without gaps.
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
        """Limits the size of files to one byte below that of each file of the command."""
        there = files(job.before) if job.before is not None else {}
        sizes = {len(content) for name, content in files(job.after).items() if there.get(name) != content}
        side_by_side(lambda size: self.attempt(job, Room(bytes_a_file=size - 1)), sorted(sizes - {0}))

    def attempt(self, job: Job, room: Room) -> str | None:
        """One trial; returns the site that it hit, or None if there was enough space."""
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
        job.bring(place)
        result = _with_little(job, room, place)
        hits = Hit.all_of(result)
        if result.code == 0 and not hits:
            return None
        hits = hits or [Hit("no line at all", False)]
        problems = _problems(job, room, result, hits, place)
        mark = (job.name, tuple(hit.site for hit in hits), room.bytes_a_file is not None)
        if mark not in self.gone_on:
            self.gone_on.add(mark)
            problems += _gone_on(job, room, place)
            self.tally.count("commands that were repeated with space, to their ends")
        self.tally.trial(f"{job.name}, {room}: {_decisive(hits)}", problems)
        for hit in hits:
            self.tally.count(f"{job.name}: {hit.site}")
        return str(_decisive(hits))


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
        for site, least in Counter(sites).items():
            hits = sum(number for what, number in tally.also.items() if _is_at(what, f"{name}: {site}"))
            tally.require(f"{name}: {site} hit", hits, least)


def prepared(folder: Path) -> list[Job]:
    """All jobs, after a run of each command with unlimited space."""
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
    jobs += [_resuming(folder, trained), _repairing(folder, trained)]
    cache = str(folder / "cache")
    sampling = ["sample", "digits", "--n", "3", "--frames", "2", "--film", "--out", "images"]
    measuring = ["fid", "digits", "--range", "latest", "--n", "20", *CLASSIFIER, "--cache", cache]
    losses = ["loss", "digits", "--range", "latest"]
    likelihoods = ["likelihood", "digits", "--range", "latest", "--n", "2", "--tolerance", "0.1"]
    comparing = ["compare", "digits", "--samplers", "dpmpp", "--evaluations", "2", "--n", "20", "--seeds", "1"]
    comparing += [*CLASSIFIER, "--cache", cache]
    reference = ["reference", "digits", "--cache", "cache", *CLASSIFIER]
    exporting = ["export", "digits", "--out", "exported", "--license", "mit", "--grid", "2"]
    for name, command, made in (
        ("sample", sampling, ("images/*/*", "images/samples.safetensors", "images/*.png", "images/film.gif")),
        ("fid", measuring, _table("fid")),
        ("loss", losses, _table("loss")),
        ("likelihood", likelihoods, _table("likelihood")),
        ("compare", comparing, ()),
        ("reference", reference, ()),
        ("export", exporting, ("exported/*.safetensors", "exported/config.json", "exported/*.png")),
    ):
        after = folder / name
        shutil.copytree(trained, after)
        must(finish(*command, *CPU, folder=after))
        jobs.append(Job(name, [*command, *CPU], trained, after, made))
    jobs += [_redrawing(folder, "fid", [*measuring, *CPU]), _redrawing(folder, "loss", [*losses, *CPU])]
    return jobs


def _table(sweep: str) -> tuple[str, ...]:
    return (f"runs/digits/{sweep}/*/scores.csv",)


def _redrawing(folder: Path, sweep: str, command: list[str]) -> Job:
    """A sweep that only draws its stored results; in a new sweep the table would use the space of removed parts."""
    undrawn = Path(shutil.copytree(folder / sweep, folder / f"undrawn-{sweep}"))
    for path in undrawn.glob(f"runs/digits/{sweep}/*/*"):
        if path.is_file() and path.name not in ("scores.json", ".lock"):
            path.unlink()
    return Job(f"redraw {sweep}", command, undrawn, folder / sweep, _table(sweep))


def _resuming(folder: Path, trained: Path) -> Job:
    """Resuming a run with several pages of metrics after the last checkpoint."""
    before = Path(shutil.copytree(trained, folder / "begun"))
    with (before / "runs/digits/metrics.jsonl").open("a") as metrics:
        for step in [6] * 300 + [7]:
            metrics.write(json.dumps({"step": step, "loss": 1.0, "lr": 0.001}) + "\n")
    log = before / "runs/digits/log.txt"
    with log.open("a") as lines:  # fill up the page, so that the next line needs another one, whatever its length
        lines.write(("." * (-log.stat().st_size % mounts.PAGE))[1:] + "\n")
    return _done(Job("resume", RESUME, before, folder / "resumed", ()))


def _repairing(folder: Path, trained: Path) -> Job:
    """The doctor on a run with a damaged checkpoint."""
    before = Path(shutil.copytree(trained, folder / "ill"))
    _, last = sorted(before.glob("runs/digits/checkpoints/step-*"))
    damage(last / part_file("model"))
    made = ("runs/digits/checkpoints/*/*",)
    return _done(Job("repair", ["doctor", "digits", "--repair"], before, folder / "repaired", made))


def _done(job: Job) -> Job:
    """The job, after a run with unlimited space."""
    job.after.mkdir()
    job.bring(job.after)
    must(finish(*job.command, folder=job.after))
    return job


def _is_at(what: str, site: str) -> bool:
    """Whether this is the site; * in the site matches part of one name."""
    names, patterns = what.split("/"), site.split("/")
    return len(names) == len(patterns) and all(map(fnmatch.fnmatchcase, names, patterns))


def _is_on_its_way(name: str, old: bytes, new: bytes, now: bytes) -> bool:
    """Whether a file that grows, or is truncated and grows again, is between its old and new content.

    A page about a run is another one at each renewal, but a whole one.
    """
    if name == "report.html":
        return now.rstrip().endswith(b"</html>")
    if name == "metrics.jsonl":
        pairs = zip(old.splitlines(keepends=True), new.splitlines(keepends=True), strict=False)
        shared = b"".join(line for line, same in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        return new.startswith(now) and now.startswith(shared)
    return name in ("log.txt", "segments.jsonl") and now.startswith(old)  # their times always differ


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


def _decisive(hits: list[Hit]) -> Hit:
    """The last one that ended the command, whenever its page was tried; else the last."""
    return next((hit for hit in reversed(hits) if not hit.is_borne), hits[-1])


def _problems(job: Job, room: Room, result: Result, hits: list[Hit], place: Path) -> list[str]:
    """Problems after the command ended, while there is still no space."""
    # plots of scores that exist are drawn again by the next command
    ended = [] if job.name.startswith("redraw") else [hit for hit in hits if not hit.is_borne]
    if result.code == 0:
        problems = [f"it said: {result.err}"] if ended or len({*hits}) < len(hits) else []
    else:
        problems = one_line(result, room.reason)
    # folders have no size
    problems += [f"no bytes in the line about {hit}" for hit in hits if not hit.has_bytes and Path(hit.path).suffix]
    problems += [*debris(place), *(one for run in sorted(place.glob("runs/*")) for one in _worsened(job, run))]
    problems += job.lost(place)
    last = _decisive(hits).path
    if job.name == "train" and "checkpoints/step-00000006" in last and steps_of(place / "runs/digits") != [3]:
        problems.append("the checkpoint of step 3 is not there")
    return problems


def _worsened(job: Job, run: Path) -> list[str]:
    """The run's checkpoints that became unsound."""
    before = [] if job.before is None else unsound(job.before / "runs" / run.name)
    told = {problem.partition(":")[0] for problem in before}
    return [problem for problem in unsound(run) if problem.partition(":")[0] not in told]


def _gone_on(job: Job, room: Room, place: Path) -> list[str]:
    """Problems when the command is repeated with enough space."""
    if room.bytes_a_file is None:
        mounts.resize(place)
    again = finish(*job.command, folder=place)
    if again.code != 0:
        return [f"with space again it ended with {again.code}: {again.err[-1500:]}"]
    return [f"with space again: {problem}" for problem in (*job.unlike(place), *debris(place))]

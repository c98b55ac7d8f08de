"""A disk that is full at every write in turn.

Space is limited in files (each command is tried with space for none, one, two … of its files and folders), for training
in pages of 4,096 bytes too; a limit on the size of files, one byte below that of each file, works where nothing can be
mounted, and is another kind of failure.
"""

import itertools
import json
import random
import re
import shutil
from pathlib import Path

import attrs
import pytest

from tests.chaos import mounts
from tests.chaos.trials import assert_one_error, debris, half_done, unlike, unsound
from tests.forked import REPOSITORY, fork
from tests.training.tiny import CPU, PATIENCE_S, Result, files, training

pytestmark = pytest.mark.chaos

CLASSIFIER = ("features.steps=30", "features.width=8")
"""A classifier that trains in seconds; its quality doesn't matter here."""
CACHE = ("--cache", "cache")
TRAIN = training("steps=6", "checkpoint_every=3", "--report")
RETAIN = training("steps=9", "checkpoint_every=3", "retention.keep_last=2", "--report")
GOLDEN = str(REPOSITORY / "tests/golden/ncsnv2_checkpoint_5000.pth")
FID = ["fid", "digits", "--range", "latest", "--n", "20", *CLASSIFIER, *CACHE, *CPU]
LOSS = ["loss", "digits", "--range", "latest", *CPU]
LIKELIHOOD = ["likelihood", "digits", "--range", "latest", "--n", "2", "--tolerance", "0.1", *CPU]
COMPARE = ["compare", "digits", "--samplers", "dpmpp", "--evaluations", "2", "--n", "20", "--seeds", "1"]
SAMPLE = ["sample", "digits", "--n", "3", "--frames", "2", "--film", "--out", "images", *CPU]
DISPENSABLE = re.compile(r"(log\.txt|report\.html|(scores|losses)\.(png|svg))\b")
"""Messages, and the page and the plots of what is recorded: a command does without them."""
PAGES = (1, 2, 4, 8, 12, 16, 24, 32, 48)


@attrs.frozen
class Job:
    """A command, the content of the disk when it starts, and what it makes in the same bytes every time."""

    name: str
    command: list[str]
    origin: str | None = "trained"
    """None: an empty disk."""
    made: tuple[str, ...] = ()
    """Patterns of reproducible files."""


JOBS = [
    Job("train", TRAIN, None),
    Job("retain", RETAIN, None),
    Job("resume", training("steps=9", "checkpoint_every=3", "retention.keep_last=2", "snapshots=none"), "begun"),
    Job(
        "import",
        ["import", GOLDEN, "cifar10", "model.width=4", "schedule.levels=10"],
        None,
        ("runs/cifar10/checkpoints/*/*.safetensors",),
    ),
    Job("sample", SAMPLE, made=("images/*/*", "images/samples-*.safetensors", "images/*.png", "images/film.gif")),
    Job("fid", FID, made=("runs/digits/fid/*/scores.csv",)),
    Job("loss", LOSS, made=("runs/digits/loss/*/scores.csv",)),
    Job("likelihood", LIKELIHOOD, made=("runs/digits/likelihood/*/scores.csv",)),
    Job("compare", [*COMPARE, *CLASSIFIER, *CACHE, *CPU]),
    Job("reference", ["reference", "digits", *CACHE, *CLASSIFIER, *CPU]),
    Job(
        "export",
        ["export", "digits", "--out", "exported", "--license", "mit", "--grid", "2", *CPU],
        made=("exported/*.safetensors", "exported/config.json", "exported/*.png"),
    ),
]
each_job = pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
needs_mounts = pytest.mark.usefixtures("mounting")


def attempt(*command: str, folder: Path, bytes_a_file: int | None = None) -> Result:
    with fork(*command, folder=folder, bytes_a_file=bytes_a_file) as process:
        out, err = process.communicate(PATIENCE_S)
        return Result(process.wait(), out, err)


def finish(*command: str, folder: Path) -> None:
    attempt(*command, folder=folder).done()


@pytest.fixture(scope="module")
def origins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The contents of disks that the commands start from."""
    folder = tmp_path_factory.mktemp("origins")
    (folder / "trained").mkdir()
    finish(*TRAIN, folder=folder / "trained")
    begun = Path(shutil.copytree(folder / "trained", folder / "begun"))
    with (begun / "runs/digits/metrics.jsonl").open("a") as metrics:  # several pages after the last checkpoint
        for step in [6] * 300 + [7]:
            metrics.write(json.dumps({"step": step, "loss": 1.0, "lr": 0.001}) + "\n")
    return folder


@pytest.fixture
def trial(origins: Path, tmp_path: Path) -> "Trial":
    return Trial(origins, tmp_path)


@attrs.define
class Trial:
    """A job with little space: whatever happens, nothing is lost, and with space again it ends as it should."""

    origins: Path
    folder: Path
    repeated: set[str] = attrs.Factory(set)
    """Failures after which the command was repeated with enough space."""
    _number: "itertools.count[int]" = attrs.Factory(itertools.count)

    def undisturbed(self, job: Job) -> Path:
        """The disk after the job had enough space."""
        place = self.bring(job, self.folder / "undisturbed")
        finish(*job.command, folder=place)
        return place

    def bring(self, job: Job, place: Path) -> Path:
        place.mkdir(exist_ok=True)
        if job.origin is not None:
            shutil.copytree(self.origins / job.origin, place, dirs_exist_ok=True)
        return place

    def with_room(self, job: Job, after: Path, *, entries: int | None = None, pages: int | None = None) -> bool:
        """Whether the job had enough room for all that it writes, in files and folders or in pages."""
        place = self.folder / f"disk-{next(self._number)}"
        with mounts.small_disk(place):
            self.bring(job, place)
            there = [path.lstat() for path in place.rglob("*")]
            used = sum(-(-entry.st_blocks * 512 // mounts.PAGE) for entry in there)
            mounts.resize(
                place,
                pages=None if pages is None else used + pages,
                inodes=None if entries is None else len(there) + entries,
            )
            result = attempt(*job.command, folder=place)
            if result.code == 0 and "cannot write" not in result.err:
                return True
            self.check(job, after, place, result, "No space left on device")
            if self.is_new(result):
                mounts.resize(place)
                self.repeat(job, after, place)
        return False

    def with_files_of(self, job: Job, after: Path, most_bytes: int) -> None:
        """The job may write no file of more bytes."""
        place = self.bring(job, self.folder / f"limited-{next(self._number)}")
        result = attempt(*job.command, folder=place, bytes_a_file=most_bytes)
        if result.code or "cannot write" in result.err:
            self.check(job, after, place, result, "File too large")
            if self.is_new(result):
                self.repeat(job, after, place)
        shutil.rmtree(place)

    def check(self, job: Job, after: Path, place: Path, result: Result, reason: str) -> None:
        """Asserts that nothing is lost while there is still no space."""
        if result.code:
            assert_one_error(result, reason)
        else:
            unwritten = [line for line in result.err.splitlines() if "cannot write" in line]
            assert [line for line in unwritten if not DISPENSABLE.search(line)] == []
        assert debris(place) == []
        before = self.origins / (job.origin or "none")
        for run in place.glob("runs/*"):
            told = {problem.partition(":")[0] for problem in unsound(before / "runs" / run.name)}
            assert {problem.partition(":")[0] for problem in unsound(run)} <= told
        there, done = files(place), files(after)
        for name, old in files(before).items():
            assert is_kept(Path(name).name, old, done.get(name), there.get(name)), f"{name} was changed"

    def is_new(self, result: Result) -> bool:
        failure = re.sub(r"[0-9]+", "N", result.err)
        is_new = failure not in self.repeated
        self.repeated.add(failure)
        return is_new

    def repeat(self, job: Job, after: Path, place: Path) -> None:
        """Repeats the command with enough space: it ends as an undisturbed one."""
        finish(*job.command, folder=place)
        if job.command[0] == "train":
            assert unlike(place / "runs/digits", after / "runs/digits") == []
        names = {
            path.relative_to(base) for pattern in job.made for base in (after, place) for path in base.glob(pattern)
        }
        for name in names:
            assert (place / name).read_bytes() == (after / name).read_bytes(), name
        assert half_done(place) == []


def is_kept(name: str, old: bytes, new: bytes | None, now: bytes | None) -> bool:
    """Whether a file is as before, as the command leaves it, or on its way from the one to the other."""
    if now in (old, new):
        return True
    if now is None or new is None:
        return False
    if name == "report.html":
        return now.rstrip().endswith(b"</html>")
    if name == "metrics.jsonl":  # truncated to what both have, then grown
        pairs = zip(old.splitlines(keepends=True), new.splitlines(keepends=True), strict=False)
        shared = b"".join(line for line, same in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        return new.startswith(now) and now.startswith(shared)
    return name in ("log.txt", "segments.jsonl") and now.startswith(old)


@needs_mounts
@each_job
def test_without_room_for_one_more_file_nothing_is_lost(job: Job, trial: Trial) -> None:
    after = trial.undisturbed(job)
    made = len(set(after.rglob("*"))) - (0 if job.origin is None else len(set((trial.origins / job.origin).rglob("*"))))
    tried = next(entries for entries in itertools.count() if trial.with_room(job, after, entries=entries))
    assert tried >= made


@needs_mounts
def test_without_room_for_one_more_page_nothing_is_lost(trial: Trial, chance: random.Random) -> None:
    job = JOBS[0]
    after = trial.undisturbed(job)
    for pages in (*PAGES, *(chance.randint(8, 60) for _ in range(8))):
        trial.with_room(job, after, pages=pages)
    assert len(trial.repeated) > 5


@each_job
def test_a_limit_on_the_size_of_files_loses_nothing(job: Job, trial: Trial) -> None:
    after = trial.undisturbed(job)
    before = {} if job.origin is None else files(trial.origins / job.origin)
    sizes = {len(content) for name, content in files(after).items() if before.get(name) != content}
    for size in sorted(sizes - {0}):
        trial.with_files_of(job, after, size - 1)

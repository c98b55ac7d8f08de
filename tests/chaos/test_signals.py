"""SIGTERM and SIGHUP in every phase of every command, SIGHUP under nohup, and two Ctrl-C.

Expected: a complete checkpoint or none, and a prompt end with exit code 143 or 129.
"""

import json
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs
import pytest
import torch

from ncsnx.runs.names import part_file
from tests.chaos.trials import PATIENCE_S, ended, finish, half_done, holds, start, unlike
from tests.cli.command import REPOSITORY
from tests.training.tiny import CPU, files, lines, steps_of, training

pytestmark = pytest.mark.chaos

OVERHEAD_S = 5.0
"""Time that Python takes to exit on a busy machine, in seconds."""
START_S = 6.0
"""About the time until a training begins."""
TRAINING = training("steps=24", "checkpoint_every=6", "eval_every=4", "log_every=1")
# a held-out loss after each step, which takes much of the time
WATCHED = training("steps=24", "checkpoint_every=12", "eval_every=1", "log_every=1", "batch_size=299", "snapshots=none")
# passes of about half a second; a step of one minute
LONG_STEPS = training("batch_size=65536", "accumulation=128", "steps=1", "log_every=1", "snapshots=none")
# one pass that takes longer than anyone would wait
LONG_PASS = training("batch_size=16384", "steps=1", "log_every=1", "snapshots=none")
SLOW_GRIDS = training("steps=6", "checkpoint_every=3", "log_every=1", "sampler.steps_per_level=100", "snapshots.n=16")
SAMPLE = ["sample", "digits", "--out", "out", "--n", "64", "--batch-size", "8", "sampler.steps_per_level=30", *CPU]
PICTURES = ["sample", "digits", "--out", "out", "--n", "600", "--batch-size", "600", *CPU]
FID = ["fid", "digits", "--n", "600", "features.steps=30", "features.width=8", *CPU]
LOSS = ["loss", "digits", "--batch-size", "8", *CPU]
LIKELIHOOD = ["likelihood", "digits", "--range", "18:24", "--n", "12", "--batch-size", "2", *CPU]
COMPARE = ["compare", "digits", "--samplers", "dpmpp", "--evaluations", "40", "--n", "300", "--seeds", "2"]
COMPARE += ["features.steps=30", "features.width=8", *CPU]
IMPORT = ["import", "published", "cifar10", "model.width=4", "schedule.levels=10"]
PUBLISHED = 24
"""Number of files that are imported from one folder."""
TELLS = """
from ncsnx.sampling.drawing import Drawing
plain = Drawing.batches
Drawing.batches = lambda *given, **named: (open("drawing", "w").close(), plain(*given, **named))[1]
"""
"""Makes an export write a file when it begins to draw."""
SLOW_HASHES = """
import time
import ncsnx.storage.reading as reading
plain = reading.sha256
reading.sha256 = lambda file, watch=reading.unwatched: plain(file, lambda count: (time.sleep(0.5), watch(count))[1])
"""
"""Makes hashing take half a second per piece of a file."""
ENDLESS_WRITE = """
import threading, time
import ncsnx.storage.atomic as atomic
plain = atomic.write_pieces
def write(*given, **named):
    if threading.current_thread() is not threading.main_thread():
        time.sleep(600)
    plain(*given, **named)
atomic.write_pieces = write
"""
"""Makes the thread that writes checkpoints wait before the first file."""

Moment = Callable[[Path, "subprocess.Popen[str]"], bool]


@attrs.frozen(kw_only=True)
class Phase:
    """A phase of a command: when it is stopped, and the expected outcome."""

    name: str
    command: list[str]
    moment: Moment | None = None
    """Whether the phase has begun, as visible from outside; None: it begins with the process."""
    prelude: str = ""
    """Python code that runs before the command and makes the moment visible."""
    within_s: float = 0.0
    """Largest random delay of the signal in seconds."""
    allowed_s: float = 0.0
    """Time for the longest network evaluation and the write, in seconds."""
    origin: str | None = "trained"
    """Folder that the command starts from; None: an empty one."""
    resumes: bool = True
    """Whether the command is repeated afterwards and its result compared; else files must stay as they were."""


def logged(text: str) -> Moment:
    """The run's log has a line with this end."""
    return lambda place, process: holds(place / "runs/digits/log.txt", f"{text}\n")()


def there(pattern: str) -> Moment:
    """A path that matches the pattern exists."""
    return lambda place, process: any(place.glob(pattern))


def reading(name: str) -> Moment:
    """The process has a file of this name open."""
    return lambda place, process: any(_leads_to(name, link) for link in Path(f"/proc/{process.pid}/fd").glob("*"))


def _leads_to(name: str, link: Path) -> bool:
    try:
        return link.readlink().name == name
    except OSError:  # closed in the meantime
        return False


fresh = partial(Phase, origin=None)
sweep = partial(Phase, within_s=3.0, allowed_s=5.0)  # at a stop, the measured part is plotted
WRITE = there("runs/digits/checkpoints/.step-*")
PHASES = [
    fresh(name="start", command=TRAINING, within_s=START_S),
    fresh(name="step", command=TRAINING, moment=logged("training"), within_s=1.0),
    fresh(name="step or held-out loss", command=WATCHED, moment=logged("training"), within_s=1.5),
    fresh(name="long step", command=LONG_STEPS, moment=logged("training"), within_s=4.0, allowed_s=2.0, resumes=False),
    fresh(name="writing a checkpoint", command=TRAINING, moment=WRITE),
    fresh(name="sampling at a checkpoint", command=SLOW_GRIDS, moment=logged("sampling"), within_s=1.0),
    Phase(name="sample: start", command=SAMPLE, within_s=START_S),
    Phase(name="sample: drawing", command=SAMPLE, moment=there("out/.parts/*.safetensors"), within_s=2.0),
    Phase(name="sample: writing pictures", command=PICTURES, moment=there("out/images/*.png"), within_s=0.3),
    Phase(name="fid: start", command=FID, within_s=START_S),
    sweep(name="fid", command=FID, moment=there("runs/digits/fid/*/.parts/*/*")),
    sweep(name="loss", command=LOSS, moment=there("runs/digits/loss/*/.lock")),
    sweep(name="likelihood", command=LIKELIHOOD, moment=there("runs/digits/likelihood/*/.parts/*/*")),
    sweep(name="comparison", command=COMPARE, moment=there("runs/digits/compare/*/.parts/*/*")),
    Phase(
        name="import of a folder",
        command=IMPORT,
        moment=there("runs/cifar10/checkpoints/step-*"),
        origin="to-import",
        within_s=0.5,
    ),
    Phase(
        name="doctor: hashing",
        command=["doctor", "digits"],
        moment=reading(part_file("optimizer")),
        prelude=SLOW_HASHES,
        within_s=0.7,
        resumes=False,
    ),
    Phase(
        name="export: drawing",
        command=["export", "digits", "--out", "exported", "--grid", "16", *CPU],
        moment=there("drawing"),
        prelude=TELLS,
        origin="endless",
        within_s=1.0,
        resumes=False,
    ),
]
Straight = Callable[[Phase], Path]


@pytest.fixture(scope="module")
def origins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders that the phases start from."""
    folder = tmp_path_factory.mktemp("origins")
    endless = training("steps=1", "sampler.steps_per_level=1M", "snapshots=none")  # sampling takes too long to wait for
    for name, command in (("trained", TRAINING), ("endless", endless)):
        (folder / name).mkdir()
        finish(*command, folder=folder / name)
    finish("doctor", "digits", folder=folder / "trained")
    published = folder / "to-import/published"
    published.mkdir(parents=True)
    states = torch.load(REPOSITORY / "tests/golden/ncsnv2_checkpoint_5000.pth", weights_only=True)
    for number in range(PUBLISHED):
        states[3] = 5_000 + number  # the step; states are network, optimizer, epoch, step, EMA
        torch.save(states, published / f"checkpoint_{states[3]}.pth")
    return folder


@pytest.fixture(scope="module")
def straight(origins: Path, tmp_path_factory: pytest.TempPathFactory) -> Straight:
    """The folder in which a phase's command wasn't stopped."""
    done: dict[str, Path] = {}

    def result(phase: Phase) -> Path:
        key = json.dumps(phase.command)
        if key not in done:
            done[key] = bring(phase, origins, tmp_path_factory.mktemp("straight") / "work")
            finish(*phase.command, folder=done[key])
        return done[key]

    return result


def bring(phase: Phase, origins: Path, place: Path) -> Path:
    if phase.origin is None:
        place.mkdir()
    else:
        shutil.copytree(origins / phase.origin, place)
    return place


def wait_for(moment: Moment, place: Path, process: "subprocess.Popen[str]") -> None:
    """Waits until the moment has come or the process has ended."""
    end_s = time.monotonic() + PATIENCE_S
    while not moment(place, process) and process.poll() is None:
        assert time.monotonic() < end_s
        time.sleep(0.0003)


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
def test_a_signal_ends_the_command_soon_and_nothing_is_lost(
    phase: Phase,
    sent: signal.Signals,
    number: int,
    origins: Path,
    straight: Straight,
    chance: random.Random,
    tmp_path: Path,
) -> None:
    place = bring(phase, origins, tmp_path / "work")
    with start(*phase.command, folder=place, prelude=phase.prelude) as process:
        if phase.moment is not None:
            wait_for(phase.moment, place, process)
        time.sleep(chance.uniform(0, phase.within_s))
        sent_s = time.monotonic()
        process.send_signal(sent)
        result = ended(process)
        took_s = time.monotonic() - sent_s
    if result.code == 0:
        pytest.skip("it ended before the signal came")
    if result.code == -sent:  # Python was loading ncsnx, or exiting; a shell shows 143 or 129 too
        assert "Traceback" not in result.err
    else:
        assert result.code == 128 + sent, result.err
        assert f"stopped by {sent.name}" in result.err
    assert "Exception ignored" not in result.err
    assert took_s < phase.allowed_s + OVERHEAD_S
    assert half_done(place) == []
    if phase.resumes:
        reached = max(steps_of(place / "runs/digits"), default=None)
        finish(*phase.command, folder=place)
        assert differences(place, straight(phase), reached) == []
    elif phase.origin is not None:
        after = files(place)
        after.pop("drawing", None)
        assert after == files(origins / phase.origin)
        assert re.findall("unsound|damaged|not sound|warning|error", result.out + result.err) == []


def differences(place: Path, straight: Path, reached: int | None) -> list[str]:
    """Differences from the folder in which the command wasn't stopped. reached: step of the stop."""
    problems = []
    for expected in sorted(straight.glob("runs/*")):
        run = place / "runs" / expected.name
        problems += [*unlike(run, expected, but_for=reached), *half_done(place)]
        for kind in ("fid", "loss", "likelihood", "compare"):
            if rows(run / kind) != rows(expected / kind):
                problems.append(f"the results of {kind} differ")
    if drawn(place) != drawn(straight):
        problems.append("the samples differ")
    return problems


def rows(sweeps: Path) -> list[str]:
    """Rows of all sweeps and trials of comparisons, without their provenance and times."""
    found = [row for path in sorted(sweeps.glob("*/scores.json")) for row in json.loads(path.read_text())["rows"]]
    found += [trial for path in sorted(sweeps.glob("*/trials.jsonl")) for trial in lines(path)]
    return [json.dumps({**row, "made": None, "seconds": None}) for row in found]


def drawn(place: Path) -> dict[str, bytes]:
    """Files of the samples; the protocol without its provenance."""
    found = files(place / "out")
    if "protocol.json" in found:
        protocol = json.loads(found["protocol.json"])
        found["protocol.json"] = json.dumps({**protocol, "made": None}).encode()
    return found


def assert_interrupted(process: "subprocess.Popen[str]") -> None:
    """The second Ctrl-C ends the process at once."""
    assert process.poll() is None, "the first ended it"
    process.send_signal(signal.SIGINT)
    sent_s = time.monotonic()
    result = ended(process)
    assert result.code == 130
    assert "interrupted" in result.err
    assert "Traceback" not in result.err
    assert time.monotonic() - sent_s < OVERHEAD_S


@pytest.mark.parametrize("number", range(3))
def test_a_second_interrupt_ends_the_process_within_a_network_evaluation(number: int, tmp_path: Path) -> None:
    with start(*LONG_PASS, folder=tmp_path) as process:
        wait_for(logged("training"), tmp_path, process)
        time.sleep(1 + number)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert_interrupted(process)
    assert half_done(tmp_path) == []


def test_the_first_interrupt_waits_for_a_checkpoint_and_the_second_loses_nothing(tmp_path: Path) -> None:
    with start(*TRAINING, folder=tmp_path, prelude=ENDLESS_WRITE) as process:
        wait_for(WRITE, tmp_path, process)
        process.send_signal(signal.SIGINT)
        time.sleep(1.0)
        assert_interrupted(process)
    finish(*TRAINING, folder=tmp_path)
    assert half_done(tmp_path) == []


@pytest.mark.parametrize("number", range(3))
def test_a_hangup_under_nohup_changes_nothing(number: int, chance: random.Random, tmp_path: Path) -> None:
    with start(*TRAINING, folder=tmp_path, through=("nohup",)) as process:
        if number:
            wait_for(logged("training"), tmp_path, process)
        time.sleep(chance.uniform(0, 1.0))
        process.send_signal(signal.SIGHUP)
        result = ended(process)
    assert result.code == 0, result.err
    assert steps_of(tmp_path / "runs/digits")[-1] == 24
    assert half_done(tmp_path) == []

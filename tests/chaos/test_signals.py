"""SIGTERM and SIGHUP in the phases of long commands, and SIGHUP under nohup.

Expected: a complete checkpoint or none, and a prompt end with exit code 143 or 129.
"""

import json
import random
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

from tests.chaos.trials import finish, half_done, holds, unlike, wait_for
from tests.forked import REPOSITORY
from tests.training.tiny import CPU, ended, files, lines, start, steps_of, training

pytestmark = pytest.mark.chaos

OVERHEAD_S = 5.0
"""Time that Python takes to exit on a busy machine, in seconds."""
STRIKES, TRIALS = 2, 6
"""Signals that must come in time, and most trials to make so many."""
START_S = 6.0
"""About the time until a training begins."""
TRAINING = training("steps=24", "checkpoint_every=6", "eval_every=4", "log_every=1")
# passes of about half a second; a step of one minute
LONG_STEPS = training("batch_size=65536", "accumulation=128", "steps=1", "log_every=1", "snapshots=none")
SLOW_GRIDS = training("steps=6", "checkpoint_every=3", "log_every=1", "sampler.steps_per_level=100", "snapshots.n=16")
SAMPLE = ["sample", "digits", "--out", "out", "--n", "64", "--batch-size", "8", "sampler.steps_per_level=30", *CPU]
PICTURES = ["sample", "digits", "--out", "out", "--n", "600", "--batch-size", "600", *CPU]
FID = ["fid", "digits", "--n", "600", "features.steps=30", "features.width=8", *CPU]
LOSS = ["loss", "digits", "--batch-size", "8", *CPU]
COMPARE = ["compare", "digits", "--samplers", "dpmpp", "--evaluations", "40", "--n", "300", "--seeds", "2"]
COMPARE += ["features.steps=30", "features.width=8", *CPU]
IMPORT = ["import", "published", "cifar10", "model.width=4", "schedule.levels=10"]
PUBLISHED = 24
"""Number of files that are imported from one folder."""
Moment = Callable[[Path, "subprocess.Popen[str]"], bool]


@attrs.frozen(kw_only=True)
class Phase:
    """A phase of a command: when it is stopped, and the expected outcome."""

    name: str
    command: list[str]
    moment: Moment | None = None
    """Whether the phase has begun, as visible from outside; None: it begins with the process."""
    within_s: float = 0.0
    """Largest random delay of the signal in seconds."""
    allowed_s: float = 0.0
    """Time for the longest network evaluation and the write, in seconds."""
    origin: str | None = "trained"
    """Folder that the command starts from; None: an empty one."""
    resumes: bool = True
    """Whether the command is repeated afterwards and its result compared."""


def logged(text: str) -> Moment:
    """The run's log has a line with this end."""
    return lambda place, process: holds(place / "runs/digits/log.txt", f"{text}\n")()


def there(pattern: str) -> Moment:
    """A path that matches the pattern exists."""
    return lambda place, process: any(place.glob(pattern))


fresh = partial(Phase, origin=None)
sweep = partial(Phase, within_s=3.0, allowed_s=5.0)  # at a stop, the measured part is plotted
WRITE = there("runs/digits/checkpoints/.step-*")
PHASES = [
    fresh(name="start", command=TRAINING, within_s=START_S),
    fresh(name="step", command=TRAINING, moment=logged("training"), within_s=1.0),
    fresh(name="long step", command=LONG_STEPS, moment=logged("training"), within_s=4.0, allowed_s=2.0, resumes=False),
    fresh(name="writing a checkpoint", command=TRAINING, moment=WRITE),
    fresh(name="sampling at a checkpoint", command=SLOW_GRIDS, moment=logged("sampling"), within_s=1.0),
    Phase(name="sample: start", command=SAMPLE, within_s=START_S),
    Phase(name="sample: drawing", command=SAMPLE, moment=there("out/samples-*.safetensors"), within_s=2.0),
    Phase(name="sample: writing pictures", command=PICTURES, moment=there("out/images/*.png"), within_s=0.1),
    Phase(name="fid: start", command=FID, within_s=START_S),
    sweep(name="fid", command=FID, moment=there("runs/digits/fid/*/.parts/*/part-*")),
    sweep(name="loss", command=LOSS, moment=there("runs/digits/loss/*/.parts/*/.lock")),
    sweep(name="comparison", command=COMPARE, moment=there("runs/digits/compare/*/.parts/*/part-*")),
    Phase(
        name="import of a folder",
        command=IMPORT,
        moment=there("runs/cifar10/checkpoints/step-*"),
        origin="to-import",
        within_s=0.5,
    ),
]
Straight = Callable[[Phase], Path]


@pytest.fixture(scope="module")
def origins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders that the phases start from."""
    folder = tmp_path_factory.mktemp("origins")
    (folder / "trained").mkdir()
    finish(*TRAINING, folder=folder / "trained")
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


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
def test_a_signal_ends_the_command_soon_and_nothing_is_lost(
    phase: Phase, sent: signal.Signals, origins: Path, straight: Straight, chance: random.Random, tmp_path: Path
) -> None:
    struck = 0
    for number in range(TRIALS):
        place = bring(phase, origins, tmp_path / f"work-{number}")
        if is_stopped(phase, sent, place, straight, chance):
            struck += 1
            if phase.resumes:
                reached = max(steps_of(place / "runs/digits"), default=None)
                finish(*phase.command, folder=place)
                assert differences(place, straight(phase), reached) == []
        if struck == STRIKES:
            break
    assert struck, "every trial ended before its signal came"


def is_stopped(phase: Phase, sent: signal.Signals, place: Path, straight: Straight, chance: random.Random) -> bool:
    """Whether the signal came before the command had ended, which it then does as it should."""
    with start(*phase.command, folder=place) as process:
        if phase.moment is not None:
            wait_for(partial(phase.moment, place, process), process)
        time.sleep(chance.uniform(0, phase.within_s))
        sent_s = time.monotonic()
        process.send_signal(sent)
        result = ended(process)
        took_s = time.monotonic() - sent_s
    assert "Traceback" not in result.err
    assert "Exception ignored" not in result.err
    assert half_done(place) == []
    if result.code == -sent and phase.moment is not None:  # Python was exiting: all the work is done
        assert differences(place, straight(phase), None) == [], result.err
    if result.code == 0 or (result.code == -sent and phase.moment is not None):
        return False
    if result.code != -sent:  # otherwise Python was loading ncsnx; a shell shows 143 or 129 too
        assert result.code == 128 + sent, result.err
        assert f"stopped by {sent.name}" in result.err
    assert took_s < phase.allowed_s + OVERHEAD_S
    return True


def differences(place: Path, straight: Path, reached: int | None) -> list[str]:
    """Differences from the folder in which the command wasn't stopped. reached: step of the stop."""
    problems = []
    for expected in sorted(straight.glob("runs/*")):
        run = place / "runs" / expected.name
        problems += [*unlike(run, expected, but_for=reached), *half_done(place)]
        if rows(run) != rows(expected):
            problems.append("the measurements differ")
    if drawn(place) != drawn(straight):
        problems.append("the samples differ")
    return problems


def rows(run: Path) -> list[str]:
    """The ledger, without provenance and times; empty for a run that was only trained."""
    ledger = run / "measurements.jsonl"
    found = lines(ledger) if ledger.exists() else []
    values = [{**row.get("values", {}), "seconds": None} for row in found]
    return [json.dumps({**row, "made": None, "values": one}) for row, one in zip(found, values, strict=True)]


def drawn(place: Path) -> dict[str, bytes]:
    """Files of the samples; the protocol without its provenance."""
    found = files(place / "out")
    if "protocol.json" in found:
        protocol = json.loads(found["protocol.json"])
        found["protocol.json"] = json.dumps({**protocol, "made": None}).encode()
    return found


@pytest.mark.parametrize("number", range(3))
def test_a_hangup_under_nohup_changes_nothing(number: int, chance: random.Random, tmp_path: Path) -> None:
    with start(*TRAINING, folder=tmp_path, through=("nohup",)) as process:
        if number:
            wait_for(partial(logged("training"), tmp_path, process), process)
        time.sleep(chance.uniform(0, 1.0))
        process.send_signal(signal.SIGHUP)
        result = ended(process)
    assert result.code == 0, result.err
    assert steps_of(tmp_path / "runs/digits")[-1] == 24
    assert half_done(tmp_path) == []

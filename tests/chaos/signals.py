"""Item 5: SIGTERM and SIGHUP in every phase of every command, SIGHUP under nohup, and two Ctrl-C.

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
import torch

from ncsnx.runs.names import part_file
from tests.chaos.report import Tally
from tests.chaos.trials import debris, finish, must, result_of, start_after, unlike, unsound
from tests.chaos.watching import POLL_S, half_written, holds, wait_for
from tests.cli.command import REPOSITORY
from tests.training.tiny import CPU, files, lines, start, steps_of, training

OVERHEAD_S = 5.0
"""Time that Python takes to exit on a busy machine, in seconds."""
SIGNALS = {signal.SIGTERM: 1.0, signal.SIGHUP: 0.5}
"""Signal → fraction of a phase's trials that are made with it; both have the same handler."""
PUBLISHED = 24
"""Number of files that are imported from one folder."""
MADE_UP = "held-out losses made up for"

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
DOCTOR = ["doctor", "digits"]
EXPORT = ["export", "digits", "--out", "exported", "--grid", "16", *CPU]
ENDLESS = training("steps=1", "sampler.steps_per_level=1M", "snapshots=none")
"""A run whose sampling takes too long to wait for."""
IMPORT = ["import", "published", "cifar10", "model.width=4", "schedule.levels=10"]
TELLS = """
from ncsnx.sampling.drawing import Drawing
plain = Drawing.batches
Drawing.batches = lambda *given, **named: (open("drawing", "w").close(), plain(*given, **named))[1]
"""
"""Makes an export write a file when it begins to draw."""
SLOW_DISK = """
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
LIKELIHOOD = ["likelihood", "digits", "--range", "18:24", "--n", "12", "--batch-size", "2", *CPU]
COMPARE = ["compare", "digits", "--samplers", "dpmpp", "--evaluations", "40", "--n", "300", "--seeds", "2"]
COMPARE += ["features.steps=30", "features.width=8", *CPU]

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
    times: int = 4
    origin: str | None = "trained"
    """Folder that the command starts from; None: an empty one."""
    resumes: bool = True
    """Whether the command is resumed afterwards and its result compared."""
    leaves_all: bool = False
    """Whether all files must stay unchanged and no new ones appear."""

    def bring(self, folder: Path, place: Path) -> Path:
        """Copies the initial folder to a new place and returns it."""
        if self.origin is None:
            place.mkdir()
        else:
            shutil.copytree(folder / self.origin, place)
        return place


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


def phases(start_s: float) -> list[Phase]:
    """All phases. start_s: seconds until a training begins."""
    fresh: dict[str, None] = {"origin": None}
    write = there("runs/digits/checkpoints/.step-*")
    return [
        Phase(name="start", command=TRAINING, within_s=start_s, times=8, **fresh),
        Phase(name="step", command=TRAINING, moment=logged("training"), within_s=1.0, times=6, **fresh),
        Phase(name="step or held-out loss", command=WATCHED, moment=logged("training"), within_s=1.5, times=6, **fresh),
        Phase(
            name="pass of a long step",
            command=LONG_STEPS,
            moment=logged("training"),
            within_s=4.0,
            allowed_s=2.0,
            times=3,
            resumes=False,
            **fresh,
        ),
        Phase(name="writing a checkpoint", command=TRAINING, moment=write, times=8, **fresh),
        Phase(name="sampling at a checkpoint", command=SLOW_GRIDS, moment=logged("sampling"), within_s=1.0, **fresh),
        Phase(name="sample: start", command=SAMPLE, within_s=start_s),
        Phase(name="sample: drawing", command=SAMPLE, moment=there("out/.parts/*.safetensors"), within_s=2.0),
        Phase(
            name="sample: writing pictures", command=PICTURES, moment=there("out/images/*.png"), within_s=0.3, times=3
        ),
        Phase(name="fid: start", command=FID, within_s=start_s),
        # at a stop, the measured part is plotted
        Phase(name="fid", command=FID, moment=there("runs/digits/fid/*/.parts/*/*"), within_s=3.0, allowed_s=5.0),
        Phase(name="loss", command=LOSS, moment=there("runs/digits/loss/*/.lock"), within_s=1.5, allowed_s=5.0),
        Phase(
            name="doctor: hashing",
            command=DOCTOR,
            moment=reading(part_file("optimizer")),
            prelude=SLOW_DISK,
            within_s=0.7,
            resumes=False,
            leaves_all=True,
        ),
        Phase(
            name="export: drawing",
            command=EXPORT,
            moment=there("drawing"),
            prelude=TELLS,
            origin="endless",
            within_s=1.0,
            resumes=False,
            leaves_all=True,
        ),
        Phase(
            name="import of a folder",
            command=IMPORT,
            moment=there("runs/cifar10/checkpoints/step-*"),
            origin="to-import",
            within_s=0.5,
        ),
        Phase(
            name="likelihood",
            command=LIKELIHOOD,
            moment=there("runs/digits/likelihood/*/.parts/*/*"),
            within_s=2.0,
            allowed_s=5.0,
        ),
        Phase(
            name="comparison",
            command=COMPARE,
            moment=there("runs/digits/compare/*/.parts/*/*"),
            within_s=3.0,
            allowed_s=5.0,
        ),
    ]


def trials(tally: Tally, folder: Path) -> None:
    """Runs the trials of all phases in subfolders of `folder`."""
    chance = random.Random(tally.seed)
    _prepare(folder)
    start_s = _seconds_to_begin(folder / "timed")
    straight: dict[str, Path] = {}
    for phase in phases(start_s):
        key = json.dumps(phase.command)
        if phase.resumes and key not in straight:
            straight[key] = phase.bring(folder, folder / f"straight-{len(straight)}")
            must(finish(*phase.command, folder=straight[key]))
        times = [
            _trial(tally, phase, number, sent, folder, chance, straight.get(key))
            for sent, share in SIGNALS.items()
            for number in range(round(share * phase.times))
        ]
        ended = [time_s for time_s in times if time_s is not None]
        tally.require(phase.name, len(ended), 1)
        if ended:
            allowed = f"of {phase.allowed_s + OVERHEAD_S:.1f} s"
            tally.facts.append(f"{phase.name}: {len(ended)} stopped, the slowest after {max(ended):.2f} s {allowed}")
    for sent in SIGNALS:
        tally.require(f"start, stopped by ncsnx, {sent.name}", tally.also[_by_itself("start", sent)], 1)
    for what in (_struck("writing a checkpoint"), MADE_UP):
        tally.require(what, tally.also[what], 1)
    _interrupts_in_a_write(tally, folder)
    for number in range(3):
        _second_interrupt(tally, number, folder)
        _ignored_hangup(tally, number, folder, chance)


def _prepare(folder: Path) -> None:
    """Makes the folders that the phases start from."""
    for name, command in (("trained", TRAINING), ("endless", ENDLESS)):
        (folder / name).mkdir()
        must(finish(*command, folder=folder / name))
    must(finish(*DOCTOR, folder=folder / "trained"))
    published = folder / "to-import/published"
    published.mkdir(parents=True)
    states = torch.load(REPOSITORY / "tests/golden/ncsnv2_checkpoint_5000.pth", weights_only=True)
    for number in range(PUBLISHED):
        states[3] = 5_000 + number  # the step; states are network, optimizer, epoch, step, EMA
        torch.save(states, published / f"checkpoint_{states[3]}.pth")


def _seconds_to_begin(place: Path) -> float:
    """Seconds until a training begins."""
    place.mkdir()
    begun_s = time.monotonic()
    with start(*TRAINING, folder=place) as process:
        wait_for(partial(logged("training"), place, process), process)
        took_s = time.monotonic() - begun_s
        result_of(process)
    return took_s


def _by_itself(phase: str, sent: signal.Signals) -> str:
    return f"stopped by ncsnx, exit {128 + sent}: {phase}"


def _struck(phase: str) -> str:
    return f"signals while a checkpoint was being written: {phase}"


def _trial(
    tally: Tally,
    phase: Phase,
    number: int,
    sent: signal.Signals,
    folder: Path,
    chance: random.Random,
    straight: Path | None,
) -> float | None:
    """Stops the command once; returns the seconds until it ended, or None if it had finished before."""
    name = f"{phase.name} {sent.name} {number}"
    place = phase.bring(folder, folder / name.replace(" ", "-").replace(":", ""))
    launched = partial(start_after, phase.prelude) if phase.prelude else start
    with launched(*phase.command, folder=place) as process:
        if phase.moment is not None:
            wait_for(partial(phase.moment, place, process), process, POLL_S)
        time.sleep(chance.uniform(0, phase.within_s))
        sent_s = time.monotonic()
        process.send_signal(sent)
        struck = bool(half_written(place))
        result = result_of(process)
        took_s = time.monotonic() - sent_s
    if result.code == 0 or (result.code == -sent and straight is not None and not _unlike(place, straight, None)):
        tally.count("ended before the signal came")  # or the work was done and Python was exiting
        return None
    problems = _unlike_a_stop(result.code, result.err, place, sent)
    if phase.leaves_all:
        problems += _unlike_before(phase, result.out + result.err, folder, place)
    if took_s > phase.allowed_s + OVERHEAD_S:
        problems.append(f"it took {took_s:.1f} s to end")
    problems += _half_done(place)
    if struck:
        tally.count(_struck(phase.name))
    tally.count(_by_itself(phase.name, sent) if result.code > 0 else f"stopped before ncsnx had begun: {phase.name}")
    if straight is not None:
        owed = _owes_a_loss(place)
        reached = max(steps_of(place / "runs/digits"), default=None)
        again = finish(*phase.command, folder=place)
        problems += [f"it did not resume: {again.err[-500:]}"] if again.code != 0 else _unlike(place, straight, reached)
        tally.count(MADE_UP, owed)
    tally.trial(name, problems)
    shutil.rmtree(place)
    return took_s


def _interrupted_again(process: "subprocess.Popen[str]") -> tuple[float, list[str]]:
    """Sends a second Ctrl-C: seconds until the process ended, and what was wrong with the end."""
    sent_s = time.monotonic()
    process.send_signal(signal.SIGINT)
    result = result_of(process)
    took_s = time.monotonic() - sent_s
    problems = []
    if result.code != 130 or "interrupted" not in result.err or "Traceback" in result.err:
        problems.append(f"exit code {result.code}, and it said {result.err[-300:]!r}")
    if took_s > OVERHEAD_S:
        problems.append(f"it took {took_s:.1f} s")
    return took_s, problems


def _second_interrupt(tally: Tally, number: int, folder: Path) -> None:
    """Two Ctrl-C within one network evaluation: the second ends the process, not the evaluation."""
    place = folder / f"second-interrupt-{number}"
    place.mkdir()
    with start(*LONG_PASS, folder=place) as process:
        wait_for(partial(logged("training"), place, process), process)
        time.sleep(1 + number)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        problems = [] if process.poll() is None else ["the first ended it: the evaluation was too short"]
        took_s, more = _interrupted_again(process)
    problems += more
    tally.facts.append(f"second Ctrl-C {number}: ended after {took_s:.2f} s")
    tally.trial(f"second Ctrl-C {number}", [*problems, *debris(place), *unsound(place / "runs/digits")])


def _interrupts_in_a_write(tally: Tally, folder: Path) -> None:
    """The first Ctrl-C waits for the checkpoint that is being written, the second doesn't; nothing is lost."""
    place = folder / "interrupts-in-a-write"
    place.mkdir()
    with start_after(ENDLESS_WRITE, *TRAINING, folder=place) as process:
        wait_for(lambda: bool(half_written(place)), process)
        process.send_signal(signal.SIGINT)
        time.sleep(1.0)
        problems = [] if process.poll() is None else ["the first ended it before the checkpoint was complete"]
        _, more = _interrupted_again(process)
    problems += [*more, *unsound(place / "runs/digits")]
    again = finish(*TRAINING, folder=place)
    problems += [f"it did not resume: {again.err[-500:]}"] if again.code != 0 else _half_done(place)
    tally.trial("two Ctrl-C while a checkpoint is being written", problems)


def _ignored_hangup(tally: Tally, number: int, folder: Path, chance: random.Random) -> None:
    """A SIGHUP under nohup at any moment has no effect on the training."""
    place = folder / f"nohup-{number}"
    place.mkdir()
    with start_after("", *TRAINING, folder=place, through=("nohup",)) as process:
        if number:
            wait_for(partial(logged("training"), place, process), process)
        time.sleep(chance.uniform(0, 1.0))
        process.send_signal(signal.SIGHUP)
        result = result_of(process)
    problems = [] if result.code == 0 else [f"exit code {result.code}, and it said {result.err[-500:]!r}"]
    steps = steps_of(place / "runs/digits")
    problems += [] if steps and steps[-1] == 24 else [f"checkpoints of {steps}"]
    tally.trial(f"SIGHUP under nohup {number}", [*problems, *debris(place), *unsound(place / "runs/digits")])


def _unlike_a_stop(code: int, err: str, place: Path, sent: signal.Signals) -> list[str]:
    """Problems of an end that should be a clean shutdown."""
    if code == -sent:  # Python was still loading ncsnx; a shell shows 143 or 129 too
        begun = (place / "runs/digits").exists() and not any(place.glob("runs/digits/checkpoints/*"))
        return [f"it ended by the signal after it had begun, and had said {err[-300:]!r}"] if begun or err else []
    problems = [] if code == 128 + sent else [f"exit code {code}"]
    if f"stopped by {sent.name}" not in err:
        problems.append("it did not say why it ended")
    if "Traceback" in err or "Exception ignored" in err:
        problems.append("a traceback")
    return [*problems, f"it said: {err[-1_000:]}"] if problems else []


def _unlike_before(phase: Phase, said: str, folder: Path, place: Path) -> list[str]:
    """Files that changed although none should, and messages about damage that doesn't exist."""
    assert phase.origin is not None
    before, after = files(folder / phase.origin), files(place)
    after.pop("drawing", None)
    problems = [f"{name} was made or changed" for name in after if after[name] != before.get(name)]
    problems += [f"{name} is gone" for name in before if name not in after]
    if found := re.findall("unsound|damaged|not sound|warning|error", said):
        problems.append(f"it told of damage ({', '.join(found)}): {said[-1_000:]}")
    return problems


def _half_done(place: Path) -> list[str]:
    """Half-written files: checkpoints that don't verify, temporary files."""
    return [*debris(place), *(problem for run in sorted(place.glob("runs/*")) for problem in unsound(run))]


def _owes_a_loss(place: Path) -> int:
    """1 if the newest checkpoint of WATCHED lacks the held-out loss of its step, else 0."""
    run = place / "runs/digits"
    steps = steps_of(run)
    if not steps or json.loads((run / "config.json").read_text())["experiment"]["eval_every"] != 1:
        return 0
    held_out = [record["step"] for record in lines(run / "metrics.jsonl") if "held_out" in record]
    return int(steps[-1] not in held_out)


def _unlike(place: Path, straight: Path, reached: int | None) -> list[str]:
    """Differences from the folder in which the command wasn't stopped. reached: step of the stop."""
    problems = []
    for expected in sorted(straight.glob("runs/*")):
        run = place / "runs" / expected.name
        problems += [*unlike(run, expected, but_for=reached), *unsound(run)]
        for kind in ("fid", "loss", "likelihood"):
            if _rows(run / kind) != _rows(expected / kind):
                problems.append(f"the rows of {kind} differ")
        if _trials(run) != _trials(expected):
            problems.append("the trials of the comparison differ")
    if _drawn(place) != _drawn(straight):
        problems.append("the samples differ")
    return problems


def _trials(run: Path) -> list[str]:
    """Trials of all comparisons, without their times."""
    found = [trial for path in sorted(run.glob("compare/*/trials.jsonl")) for trial in lines(path)]
    return [json.dumps({**trial, "seconds": None}) for trial in found]


def _drawn(place: Path) -> dict[str, bytes]:
    """Files of the samples; the protocol without its provenance."""
    found = files(place / "out")
    if "protocol.json" in found:
        protocol = json.loads(found["protocol.json"])
        found["protocol.json"] = json.dumps({**protocol, "made": None}).encode()
    return found


def _rows(sweeps: Path) -> list[str]:
    """Rows of all sweeps, without their provenance."""
    found = [row for path in sorted(sweeps.glob("*/scores.json")) for row in json.loads(path.read_text())["rows"]]
    return [json.dumps({**row, "made": None}) for row in found]

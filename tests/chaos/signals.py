"""SIGTERM in every phase of every command: a whole checkpoint or none, exit 143 soon, and nothing lost; two Ctrl-C.

`trials` makes them; `python -m tests.chaos.signals [--seed N]` makes these alone.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import attrs

from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import checkpoints, verify
from ncsnx.runs.names import step_name
from tests.training.tiny import CPU, command, files, lines, saved, start, steps_of, training

OVERHEAD_S = 2.5
"""What Python takes to end on a busy machine, which is no part of the work."""
LOOK_S = 0.002
PATIENCE_S = 180.0

TRAINING = training("steps=24", "checkpoint_every=6", "eval_every=4", "log_every=1")
# a held-out loss after each step, which takes a good part of the time
WATCHED = training("steps=24", "checkpoint_every=12", "eval_every=1", "log_every=1", "batch_size=299", "snapshots=none")
# passes of some half a second; a step of one minute
LONG_STEPS = training("batch_size=65536", "accumulation=128", "steps=1", "log_every=1", "snapshots=none")
# one pass that takes longer than anybody would wait
LONG_PASS = training("batch_size=16384", "steps=1", "log_every=1", "snapshots=none")
SLOW_GRIDS = training("steps=6", "checkpoint_every=3", "log_every=1", "sampler.steps_per_level=100", "snapshots.n=16")
SAMPLE = ["sample", "digits", "--out", "out", "--n", "64", "--batch-size", "8", "sampler.steps_per_level=30", *CPU]
PICTURES = ["sample", "digits", "--out", "out", "--n", "600", "--batch-size", "600", *CPU]
FID = ["fid", "digits", "--n", "600", "features.steps=30", "features.width=8", *CPU]
LOSS = ["loss", "digits", "--batch-size", "8", *CPU]
LIKELIHOOD = ["likelihood", "digits", "--range", "18:24", "--n", "12", "--batch-size", "2", *CPU]


class Tally(Protocol):
    """Where trials are counted: see `tests.chaos.report`."""

    seed: int
    facts: list[str]

    def trial(self, name: str, problems: list[str]) -> None: ...

    def count(self, what: str, number: int = 1) -> None: ...

    def require(self, what: str, found: int, least: int) -> None: ...


Moment = Callable[[Path], bool]


@attrs.frozen(kw_only=True)
class Phase:
    """What is stopped, when, and what must come of it."""

    name: str
    command: list[str]
    moment: Moment | None = None
    """Whether the phase has begun, as seen from outside; None: it begins with the process."""
    within_s: float = 0.0
    """The signal comes up to so much later."""
    allowed_s: float = 0.0
    """The longest network evaluation and the write."""
    times: int = 4
    trained: bool = True
    """Whether it begins from a finished run."""
    resumes: bool = True
    """Whether it is carried to its end afterwards, and compared."""


def logged(text: str) -> Moment:
    """The run's log has a line that ends so."""

    def has_come(place: Path) -> bool:
        log = place / "runs/digits/log.txt"
        return log.exists() and f"{text}\n" in log.read_text(errors="replace")

    return has_come


def there(pattern: str) -> Moment:
    """Something of this form has appeared."""
    return lambda place: any(place.glob(pattern))


def phases(start_s: float) -> list[Phase]:
    """All of them. start_s: how long a training takes to begin."""
    fresh = {"trained": False}
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
        Phase(name="writing a checkpoint", command=TRAINING, moment=write, times=5, **fresh),
        Phase(name="sampling at a checkpoint", command=SLOW_GRIDS, moment=logged("sampling"), within_s=1.0, **fresh),
        Phase(name="sample: start", command=SAMPLE, within_s=start_s),
        Phase(name="sample: drawing", command=SAMPLE, moment=there("out/.parts/*.safetensors"), within_s=2.0),
        Phase(
            name="sample: writing pictures", command=PICTURES, moment=there("out/images/*.png"), within_s=0.3, times=3
        ),
        Phase(name="fid: start", command=FID, within_s=start_s),
        # what was measured is drawn at a stop
        Phase(name="fid", command=FID, moment=there("runs/digits/fid/*/.parts/*/*"), within_s=3.0, allowed_s=5.0),
        Phase(name="loss", command=LOSS, moment=there("runs/digits/loss/*/.lock"), within_s=1.5, allowed_s=5.0),
        Phase(
            name="likelihood",
            command=LIKELIHOOD,
            moment=there("runs/digits/likelihood/*/.parts/*/*"),
            within_s=2.0,
            allowed_s=5.0,
        ),
    ]


def trials(tally: Tally, folder: Path) -> None:
    """Makes the trials of all phases, in subfolders of `folder`."""
    chance = random.Random(tally.seed)
    trained = _made(folder / "trained", TRAINING)
    begun_s = time.monotonic()
    with start(*TRAINING, folder=_new(folder / "timed")) as process:
        _wait(process, lambda: logged("training")(folder / "timed"))
        start_s = time.monotonic() - begun_s
        process.communicate()
    straight: dict[str, Path] = {}
    for phase in phases(start_s):
        key = json.dumps(phase.command)
        if phase.resumes and key not in straight:
            straight[key] = _made(
                folder / f"straight-{len(straight)}", phase.command, trained if phase.trained else None
            )
        times = [
            _trial(tally, phase, number, folder, chance, trained, straight.get(key)) for number in range(phase.times)
        ]
        ended = [time_s for time_s in times if time_s is not None]
        tally.require(phase.name, len(ended), 1)
        if ended:
            allowed = f"of {phase.allowed_s + OVERHEAD_S:.1f} s"
            tally.facts.append(f"{phase.name}: {len(ended)} stopped, the slowest after {max(ended):.2f} s {allowed}")
    for number in range(3):
        _second_interrupt(tally, number, folder)


def _trial(
    tally: Tally,
    phase: Phase,
    number: int,
    folder: Path,
    chance: random.Random,
    trained: Path,
    straight: Path | None,
) -> float | None:
    """Stops the command once; returns the seconds until it ended, None where it was done before."""
    name = f"{phase.name} {number}"
    place = folder / name.replace(" ", "-").replace(":", "")
    if phase.trained:
        shutil.copytree(trained, place)
    else:
        place.mkdir()
    with start(*phase.command, folder=place) as process:
        if phase.moment is not None:
            _wait(process, partial(phase.moment, place))
        time.sleep(chance.uniform(0, phase.within_s))
        sent_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_S)
        took_s = time.monotonic() - sent_s
    if process.returncode == 0:
        tally.count("ended before the signal came")
        return None
    problems = _unlike_a_stop(process.returncode, err, place)
    if took_s > phase.allowed_s + OVERHEAD_S:
        problems.append(f"it took {took_s:.1f} s to end")
    problems += _unsound(place)
    tally.count(f"stopped: {phase.name}")
    if process.returncode == -signal.SIGTERM:
        tally.count("of these by the signal itself, before ncsnx had begun")
    if straight is not None:
        owed = _owes_a_loss(place)
        again = command(*phase.command, folder=place)
        problems += [f"it didn't go on: {again.err[-500:]}"] if again.code != 0 else _unlike(place, straight)
        tally.count("held-out losses made up for", owed)
    tally.trial(name, problems)
    shutil.rmtree(place)
    return took_s


def _second_interrupt(tally: Tally, number: int, folder: Path) -> None:
    """Two Ctrl-C within one network evaluation: the second ends the process, not the evaluation."""
    place = _new(folder / f"second-interrupt-{number}")
    with start(*LONG_PASS, folder=place) as process:
        _wait(process, lambda: logged("training")(place))
        time.sleep(1 + number)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        problems = [] if process.poll() is None else ["the first ended it: the evaluation was too short"]
        sent_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
        took_s = time.monotonic() - sent_s
    if process.returncode != 130 or "interrupted" not in err or "Traceback" in err:
        problems.append(f"exit code {process.returncode}, and it said {err[-300:]!r}")
    if took_s > OVERHEAD_S:
        problems.append(f"it took {took_s:.1f} s")
    tally.facts.append(f"second Ctrl-C {number}: ended after {took_s:.2f} s")
    tally.trial(f"second Ctrl-C {number}", [*problems, *_unsound(place)])


def _made(place: Path, words: list[str], trained: Path | None = None) -> Path:
    """A folder in which the command came to its end undisturbed."""
    if trained is None:
        place.mkdir()
    else:
        shutil.copytree(trained, place)
    result = command(*words, folder=place)
    if result.code != 0:
        raise SystemExit(f"without any disturbance, ncsnx {' '.join(words)} failed: {result.err}")
    return place


def _new(place: Path) -> Path:
    place.mkdir()
    return place


def _wait(process: "subprocess.Popen[str]", condition: Callable[[], bool]) -> None:
    """Returns when the condition holds or the process has ended."""
    end_s = time.monotonic() + PATIENCE_S
    while process.poll() is None and not condition():
        if time.monotonic() > end_s:
            process.kill()
            raise SystemExit(f"it never came to its phase: {process.communicate()[1]}")
        time.sleep(LOOK_S)


def _unlike_a_stop(code: int, err: str, place: Path) -> list[str]:
    """In what an end differs from one in good order."""
    if code == -signal.SIGTERM:  # Python was still loading ncsnx: a shell shows 143 too
        begun = (place / "runs/digits").exists() and not any(place.glob("runs/digits/checkpoints/*"))
        return ["it ended by the signal after it had begun"] if begun or err else []
    problems = [] if code == 128 + signal.SIGTERM else [f"exit code {code}"]
    if "stopped by SIGTERM" not in err:
        problems.append("it didn't say why it ended")
    if "Traceback" in err or "Exception ignored" in err:
        problems.append("a traceback")
    return [*problems, f"it said: {err[-1_000:]}"] if problems else []


def _unsound(place: Path) -> list[str]:
    """What is half written: checkpoints that don't verify, temporary files."""
    problems = [f"debris: {path.relative_to(place)}" for path in place.rglob(".*.tmp-*")]
    run = Run(place / "runs/digits")
    for step in checkpoints(run):
        try:
            verify(run.checkpoints / step_name(step))
        except NcsnxError as error:
            problems.append(f"the checkpoint of step {step} is unsound: {error}")
    return problems


def _owes_a_loss(place: Path) -> int:
    """1 where the newest checkpoint of WATCHED stands without the held-out loss of its step."""
    run = place / "runs/digits"
    steps = steps_of(run)
    if not steps or json.loads((run / "config.json").read_text())["experiment"]["eval_every"] != 1:
        return 0
    held_out = [record["step"] for record in lines(run / "metrics.jsonl") if "held_out" in record]
    return int(steps[-1] not in held_out)


def _unlike(place: Path, straight: Path) -> list[str]:
    """In what the folder differs from the one in which the command wasn't stopped."""
    run, expected = place / "runs/digits", straight / "runs/digits"
    problems = _unsound(place)
    for step in steps_of(expected):
        if step not in steps_of(run):
            problems.append(f"no checkpoint of step {step}")
        elif saved(run, step) != saved(expected, step):
            problems.append(f"the checkpoint of step {step} differs")
    if (run / "metrics.jsonl").read_bytes() != (expected / "metrics.jsonl").read_bytes():
        problems.append("metrics.jsonl differs")
    if files(run / "snapshots") != files(expected / "snapshots"):
        problems.append("the grids differ")
    if _drawn(place) != _drawn(straight):
        problems.append("the samples differ")
    for kind in ("fid", "loss", "likelihood"):
        if _rows(run / kind) != _rows(expected / kind):
            problems.append(f"the rows of {kind} differ")
    return problems


def _drawn(place: Path) -> dict[str, bytes]:
    """What was sampled; the protocol without when and by whom."""
    found = files(place / "out")
    if "protocol.json" in found:
        protocol = json.loads(found["protocol.json"])
        found["protocol.json"] = json.dumps({**protocol, "made": None}).encode()
    return found


def _rows(sweeps: Path) -> list[str]:
    """The rows of all sweeps without when and by whom."""
    found = [row for path in sorted(sweeps.glob("*/scores.json")) for row in json.loads(path.read_text())["rows"]]
    return [json.dumps({**row, "made": None}) for row in found]


@attrs.define
class _Printed:
    """A tally that prints."""

    seed: int
    facts: list[str] = attrs.Factory(list)
    tried: int = 0
    failed: int = 0
    counts: "Counter[str]" = attrs.Factory(Counter)

    def trial(self, name: str, problems: list[str]) -> None:
        self.tried += 1
        self.failed += bool(problems)
        print(f"{'FAILED' if problems else 'passed'} {name} {'; '.join(problems)}", flush=True)

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number

    def require(self, what: str, found: int, least: int) -> None:
        if found < least:
            self.trial(f"enough of it ({what})", [f"{found} instead of at least {least}"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.signals", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    tally = _Printed(parser.parse_args().seed)
    with tempfile.TemporaryDirectory(prefix="ncsnx-signals-") as folder:
        trials(tally, Path(folder))
    for what, number in tally.counts.items():
        print(f"{number:>4}  {what}")
    print("\n".join(tally.facts))
    print(f"{tally.tried} trials, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Commands in several ranks, started by torchrun as users start it, and their processes."""

import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.forked import REPOSITORY
from tests.training import tiny
from tests.training.tiny import PATIENCE_S, Result, start, training

RANKS = ("RANK", "TORCHELASTIC_RESTART_COUNT")
wait_until = partial(tiny.wait_until, poll_s=0.02)


def small(*changes: str) -> list[str]:
    """The command of a training of seconds, with changes as in `training`."""
    return training("snapshots.sampler=cas", "snapshots.sampler.steps=3", *changes)


def launch(
    *words: str,
    folder: Path,
    ranks: int = 2,
    options: tuple[str, ...] = (),
    prelude: str = "",
    through: tuple[str, ...] = (),
) -> "subprocess.Popen[str]":
    """Starts `torchrun -m ncsnx -- WORDS`.

    prelude: Python code that each rank runs first. through: a program that runs the launcher.
    """
    program = ["-m", "ncsnx", "--"]
    if prelude:
        script = folder / "start.py"
        script.write_text(f"import os, sys\n{prelude}\nfrom ncsnx.cli import main\nmain()\n")
        program = [str(script)]
    environment = {name: value for name, value in os.environ.items() if name not in RANKS}
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", *options]
    return subprocess.Popen(
        [*through, *launcher, *program, *words],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def unwatched(world: int, *words: str, folder: Path) -> "list[subprocess.Popen[str]]":
    """Starts the ranks of `ncsnx WORDS` by themselves, as srun does."""
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    return [start(*words, folder=folder, environment={**shared, "RANK": str(rank)}) for rank in range(world)]


def result_of(process: "subprocess.Popen[str]") -> Result:
    """Result of a launcher; one that hangs is killed with its ranks, and the test fails."""
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        for one in ranks_of(process).values():
            os.kill(one, 9)
        process.kill()
        raise
    return Result(process.returncode, out, err)


def finish(*words: str, folder: Path, ranks: int = 2, options: tuple[str, ...] = (), prelude: str = "") -> Result:
    """Runs `torchrun -m ncsnx -- WORDS` to its end."""
    return result_of(launch(*words, folder=folder, ranks=ranks, options=options, prelude=prelude))


def ranks_of(launcher: "subprocess.Popen[str]", attempt: int | None = None) -> dict[int, int]:
    """Rank → process of the launcher's running ranks. attempt: only those of this restart."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        values = dict(word.decode(errors="replace").partition("=")[::2] for word in words)
        is_here = attempt is None or values.get(RANKS[1]) == str(attempt)
        if parent == launcher.pid and RANKS[0] in values and is_here:
            found[int(values[RANKS[0]])] = int(folder.name)
    return found


def messages(result: Result) -> list[str]:
    """The lines of ncsnx in a failed launch, without those of the launcher."""
    lines = result.err.splitlines()
    own = [line for line in lines if not line.startswith(("W1", "E1", "I1", "W0", "E0", "I0", "[rank"))]
    ends = [number for number, line in enumerate(own) if line.startswith("Traceback")]
    return own[: ends[0]] if ends else own

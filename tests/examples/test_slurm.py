"""The batch scripts in examples/slurm/, run by bash with small programs instead of Slurm's."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest

from tests.docs.test_blocks import parsed

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "examples" / "slurm"
TINY = (
    *("model.width=4", "batch_size=8", "schedule.levels=4", "snapshots=none", "eval_every=1000000", "log_every=1"),
    *("checkpoint_every=1000000", "--threads", "1", "--device", "cpu"),
)
ENDLESS, LIMIT_S = "steps=1000000", 240
PROGRAMS = {
    "python": 'exec {python} "$@"',
    # the step's program becomes the process that gets srun's signals
    "srun": 'echo "srun $*" >> {log}; while [ "${{1#-}}" != "$1" ]; do shift; done; exec "$@"',
    "scontrol": 'echo "scontrol $*" >> {log}; [ "$1" != show ] || echo localhost',
    # one process, however many were asked for
    "torchrun": 'echo "torchrun $*" >> {log}; shift 4; '
    'exec {python} -m torch.distributed.run --nnodes 1 --nproc-per-node 1 "$@"',
}


@attrs.frozen
class Cluster:
    """A folder to work in, and an environment in which Slurm seems to run a job there."""

    folder: Path
    environment: dict[str, str]

    def start(self, script: str, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["bash", SCRIPTS / script, *arguments],
            cwd=self.folder,
            env=self.environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, script: str, *arguments: str, **variables: str) -> tuple[int, str]:
        process = self.start(script, *arguments, **variables)
        output = process.communicate(timeout=LIMIT_S)[0]
        return process.returncode, output

    def stopped(self, script: str, *arguments: str, run: str, **variables: str) -> tuple[int, str]:
        """Exit code and output of a job that gets the signal when its run has taken a step."""
        process = self.start(script, *arguments, **variables)
        metrics, end = self.folder / "runs" / run / "metrics.jsonl", time.monotonic() + LIMIT_S
        while not (metrics.exists() and metrics.read_text()):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.1)
        process.send_signal(signal.SIGUSR1)
        output = process.communicate(timeout=LIMIT_S)[0]
        return process.returncode, output

    def calls(self, program: str) -> list[str]:
        log = self.folder / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line.partition(" ")[2] for line in lines if line.split()[0] == program]

    def steps(self, run: str) -> list[int]:
        return sorted(int(path.name[5:]) for path in (self.folder / "runs" / run / "checkpoints").glob("step-*"))


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, body in PROGRAMS.items():
        text = body.format(python=shlex.quote(sys.executable), log=shlex.quote(str(tmp_path / "calls")))
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NCSNX_", "SLURM_"))}
    environment = {
        **kept,
        "PATH": f"{programs}{os.pathsep}{kept['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_NNODES": "1",
    }
    return Cluster(tmp_path, environment)


@pytest.fixture
def port() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return str(free.getsockname()[1])


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.sbatch")), ids=lambda path: path.name)
def test_scripts_are_valid_and_ask_for_the_signal_and_a_requeue(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    options = re.findall(r"^#SBATCH (\S+)$", script.read_text(), re.M)
    assert {"--signal=B:USR1@120", "--requeue", "--open-mode=append"} <= set(options)


@pytest.mark.slow
def test_a_stopped_training_is_queued_again_and_resumes(cluster: Cluster) -> None:
    code, output = cluster.stopped("train.sbatch", "digits", ENDLESS, *TINY, run="digits")
    assert code == 143, output
    (step,) = cluster.steps("digits")
    assert step > 0
    assert cluster.calls("scontrol") == ["requeue 77"]

    code, output = cluster.run("train.sbatch", "digits", f"steps={step + 2}", *TINY)
    assert code == 0, output
    assert re.search(rf"resuming +from step {step:,}\n", output)
    assert cluster.steps("digits")[-1] == step + 2
    assert cluster.calls("scontrol") == ["requeue 77"], "a finished training is not queued again"
    assert all("python -m ncsnx train digits" in call for call in cluster.calls("srun"))


def test_a_failed_training_is_not_queued_again(cluster: Cluster) -> None:
    code, output = cluster.run("train.sbatch", "nothing")
    assert code == 2
    assert "nothing" in output
    assert cluster.calls("scontrol") == []


def test_a_training_that_fails_after_the_signal_is_not_queued_again(cluster: Cluster) -> None:
    failing = "trap 'exit 1' TERM\ntouch begun\nwhile true; do sleep 0.05; done"
    (cluster.folder / "bin" / "python").write_text(f"#!/bin/sh\n{failing}\n")
    process, end = cluster.start("train.sbatch", "digits"), time.monotonic() + LIMIT_S
    while not (cluster.folder / "begun").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    output = process.communicate(timeout=LIMIT_S)[0]
    assert process.returncode == 1, output
    assert cluster.calls("scontrol") == []


@pytest.mark.slow
def test_several_gpus_are_started_by_torchrun_and_stopped_alike(cluster: Cluster, port: str) -> None:
    words = ("digits", ENDLESS, *TINY, "--run", "many")
    job = {"SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "4", "PORT": port}
    code, output = cluster.stopped("train.sbatch", *words, run="many", **job)
    assert code != 0, output
    assert cluster.steps("many") != []
    assert cluster.calls("scontrol") == ["show hostnames node[1-2]", "requeue 77"]
    (call,) = cluster.calls("torchrun")
    assert call == (
        f"--nnodes 2 --nproc-per-node 4 --rdzv-id 77 --rdzv-backend c10d --rdzv-endpoint localhost:{port} "
        f"-m ncsnx -- train {' '.join(words)}"
    )


@pytest.mark.slow
def test_each_task_of_an_array_runs_its_own_line_and_a_stopped_one_is_queued_again(cluster: Cluster) -> None:
    tiny = " ".join(TINY)
    lines = [f"train digits steps=2 {tiny} --run one", f"train digits steps=2 seed=2 {tiny} --run two"]
    (cluster.folder / "settings.txt").write_text("\n".join(lines))
    code, output = cluster.run("sweep.sbatch", "settings.txt", SLURM_ARRAY_TASK_ID="2")
    assert code == 0, output
    assert [path.name for path in (cluster.folder / "runs").iterdir()] == ["two"]
    assert cluster.calls("srun") == [f"python -m ncsnx {lines[1]}"]

    code, output = cluster.run("sweep.sbatch", "settings.txt", SLURM_ARRAY_TASK_ID="3")
    assert (code, output) == (2, "settings.txt has no line 3\n")
    code, output = cluster.run("sweep.sbatch", "settings.txt")
    assert code != 0
    assert "sbatch --array=1-N" in output

    (cluster.folder / "settings.txt").write_text(f"train digits {ENDLESS} {tiny} --run three\n")
    task = {"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "1"}
    code, output = cluster.stopped("sweep.sbatch", "settings.txt", run="three", **task)
    assert code == 143, output
    assert cluster.calls("scontrol") == ["requeue 77_1"]


def test_the_settings_are_commands_of_ncsnx_each_with_its_own_run() -> None:
    lines = [line.split() for line in (SCRIPTS / "settings.txt").read_text().splitlines()]
    for arguments in lines:
        parsed(arguments)
    runs = [arguments[arguments.index("--run") + 1] for arguments in lines]
    assert len(set(runs)) == len(lines)

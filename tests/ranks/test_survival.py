"""Kills, signals, full disks, slow ranks and two machines: nothing is lost, nothing hangs."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncsnx.storage.json_lines import read_records
from tests.chaos.mounts import resize, small_disk
from tests.chaos.trials import unlike, unsound
from tests.ranks.launched import finish, launch, messages, ranks_of, result_of, small, unwatched, wait_until
from tests.training.tiny import CPU, steps_of

pytestmark = pytest.mark.ranks
# a stop ends an interval of the log, so that it would depend on the moment with longer ones
LONG = small("steps=120", "checkpoint_every=5", "snapshots.every=8", "eval_every=10", "log_every=1")
KILLS = 10
STOP_S = 30.0
"""torchrun kills ranks that are still there 30 seconds after SIGTERM."""


def in_rank_1(when: str, does: str) -> str:
    """Code for `finish` by which rank 1 does something before it reads the batch of a `step`."""
    return f"""
import time
from collections.abc import Iterator
import ncsnx.data.batches as batches
from ncsnx.errors import NcsnxError
plain = batches.TrainingBatches.at
def at(self, step):
    if os.environ["RANK"] == "1" and {when}:
        {does}
    return plain(self, step)
batches.TrainingBatches.at = at
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(*LONG, folder=folder).done()
    return folder / "runs/digits"


@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_killed_ten_times_ends_with_the_same_bits(rank: int, undisturbed: Path, tmp_path: Path) -> None:
    """The launcher restarts all ranks. Moments are counted from each start: while ranks load, train and write."""
    chance = random.Random(f"rank {rank}")
    with launch(*LONG, folder=tmp_path, options=("--max-restarts=10",)) as launcher:
        for attempt in range(KILLS):
            before = len(steps_of(tmp_path / "runs/digits")) if (tmp_path / "runs/digits").exists() else 0
            wait_until(lambda: len(ranks_of(launcher, attempt)) == 2, launcher)  # noqa: B023 (called at once)
            if attempt % 3 == 0:  # some before anything is trained, the others after a checkpoint
                time.sleep(chance.uniform(0, 6))
            else:
                wait_until(lambda: len(steps_of(tmp_path / "runs/digits")) > before, launcher)  # noqa: B023
                time.sleep(chance.uniform(0, 0.5))
            os.kill(ranks_of(launcher, attempt)[rank], signal.SIGKILL)
        result = result_of(launcher)
    assert result.code == 0, result.err
    assert unlike(tmp_path / "runs/digits", undisturbed) == []


def test_a_restart_in_which_rank_0_comes_late_resumes(undisturbed: Path, tmp_path: Path) -> None:
    """torchrun keeps its store with the addresses of dead ranks, so a plain init_process_group fails here
    (https://github.com/pytorch/pytorch/issues/167288)."""
    late = (
        "import time\nif os.environ['RANK'] == '0' and os.environ['TORCHELASTIC_RESTART_COUNT'] != '0': time.sleep(3)"
    )
    with launch(*LONG, folder=tmp_path, options=("--max-restarts=3",), prelude=late) as launcher:
        wait_until(lambda: (tmp_path / "runs/digits/checkpoints/step-00000010").exists(), launcher)
        os.kill(ranks_of(launcher)[1], signal.SIGKILL)
        result = result_of(launcher)
    assert result.code == 0, result.err
    assert unlike(tmp_path / "runs/digits", undisturbed) == []


@pytest.mark.parametrize("killed", [0, 2])
def test_without_an_agent_the_death_of_a_rank_ends_the_others(killed: int, tmp_path: Path) -> None:
    """Three processes as srun starts them, with nobody who watches."""
    processes = unwatched(3, *LONG, folder=tmp_path)
    wait_until(lambda: (tmp_path / "runs/digits/checkpoints/step-00000005").exists(), processes[killed])
    processes[killed].kill()
    begun_s = time.monotonic()
    results = [result_of(process) for process in processes]
    assert time.monotonic() - begun_s < STOP_S
    others = [result for rank, result in enumerate(results) if rank != killed]
    assert [result.code for result in others] == [1, 1]
    said = "".join(result.err for result in others)
    # the store ends with rank 0, so that nobody knows who else has said it
    assert said.count("another rank ended without a message") in (1, 2)
    assert "Traceback" not in said
    assert unsound(tmp_path / "runs/digits") == []


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_stopped_rank_ends_while_another_one_works(stopped: int, undisturbed: Path, tmp_path: Path) -> None:
    """One rank samples for hours. The other has no image and waits for it."""
    long = ("--n", "1", "--out", str(tmp_path / "out"), *CPU, "sampler.steps_per_level=1M")
    processes = unwatched(2, "sample", str(undisturbed), *long, folder=tmp_path)
    wait_until(lambda: (tmp_path / "out/.holder.json").exists(), processes[0])
    time.sleep(3)
    processes[stopped].terminate()
    begun_s = time.monotonic()
    assert result_of(processes[stopped]).code == 143
    assert time.monotonic() - begun_s < STOP_S / 2
    processes[1 - stopped].kill()
    result_of(processes[1 - stopped])


@pytest.mark.parametrize("rank", [0, 1])
def test_sigterm_to_one_rank_stops_all_at_one_step(rank: int, undisturbed: Path, tmp_path: Path) -> None:
    with launch(*LONG, folder=tmp_path) as launcher:
        wait_until(lambda: (tmp_path / "runs/digits/checkpoints/step-00000005").exists(), launcher)
        os.kill(ranks_of(launcher)[rank], signal.SIGTERM)
        begun = time.monotonic()
        result = result_of(launcher)
    assert time.monotonic() - begun < STOP_S
    stopped = max(steps_of(tmp_path / "runs/digits"))
    assert result.err.count(f"stopped by SIGTERM; the same command resumes from step {stopped}") == 1
    assert result.err.count("143") >= 1  # the exit code of the ranks, as torchrun shows it
    log = (tmp_path / "runs/digits/ranks/rank-1.txt").read_text()
    assert f"ended at step {stopped}/120" in log
    assert finish(*LONG, folder=tmp_path).code == 0
    assert unlike(tmp_path / "runs/digits", undisturbed, but_for=stopped) == []


@pytest.mark.usefixtures("mounting")
def test_a_full_disk_ends_all_ranks_with_one_message_and_nothing_is_lost(undisturbed: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "runs", pages=200):
        result = finish(*LONG, folder=tmp_path)
        (own,) = [line for line in messages(result) if line.startswith("error")]
        assert "No space left on device" in own
        assert unsound(tmp_path / "runs/digits") == []
        resize(tmp_path / "runs")
        assert finish(*LONG, folder=tmp_path).code == 0
        assert unlike(tmp_path / "runs/digits", undisturbed) == []


def test_an_error_of_one_rank_ends_all_with_one_message_that_names_it(tmp_path: Path) -> None:
    """The data of rank 1 can't be read from the third batch on."""
    prelude = in_rank_1("step == 7", "raise NcsnxError('picture 12 is gone')")
    result = finish(*LONG, folder=tmp_path, prelude=prelude)
    (own,) = [line for line in messages(result) if line.startswith("error")]
    assert own.startswith("error: rank 1 (")
    assert "picture 12 is gone" in own
    assert "it resumes from step 7" in result.err
    assert steps_of(tmp_path / "runs/digits") == [5, 7]


def test_a_rank_that_hangs_is_given_up_after_the_limit(tmp_path: Path) -> None:
    prelude = f"os.environ['NCSNX_RANK_LIMIT'] = '5'\n{in_rank_1('step == 7', 'time.sleep(3600)')}"
    result = finish(*LONG, folder=tmp_path, prelude=prelude)
    (own,) = [line for line in messages(result) if line.startswith("error")]
    assert "NCSNX_RANK_LIMIT" in result.err
    assert own


def test_a_launcher_that_is_asked_to_stop_stops_all_ranks_with_a_checkpoint(tmp_path: Path) -> None:
    with launch(*LONG, folder=tmp_path) as launcher:
        wait_until(lambda: (tmp_path / "runs/digits/checkpoints/step-00000005").exists(), launcher)
        launcher.terminate()
        result = result_of(launcher)
    assert result.code != 0
    assert result.err.count("the same command resumes from step") == 1
    assert unsound(tmp_path / "runs/digits") == []


@pytest.fixture
def two_hosts() -> Iterator[list[tuple[str, str, str]]]:
    """(name, address, network interface) of two network namespaces that a cable joins."""
    names, pid = ["a", "b"], os.getpid()
    hosts = [(f"ncsnx-{pid}-{name}", f"10.77.{pid % 250}.{number}") for number, name in enumerate(names, start=1)]
    ends = [f"n{pid}{name}" for name in names]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        for name, _ in hosts:
            ip("netns", "add", name)
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for end, (name, address) in zip(ends, hosts, strict=True):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces need a superuser and iproute2: {error}")
    else:
        yield [(*host, end) for host, end in zip(hosts, ends, strict=True)]
    finally:
        for name, _ in hosts:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def test_two_machines_train_one_run(two_hosts: list[tuple[str, str, str]], undisturbed: Path, tmp_path: Path) -> None:
    options = ("--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint={two_hosts[0][1]}:29533", "--rdzv-id=two")
    launchers = [
        launch(
            *LONG,
            folder=tmp_path,
            ranks=1,
            options=(*options, f"--rdzv-conf=is_host={int(is_host)}", f"--local-addr={address}"),
            # the host's name leads to its loopback device
            through=("ip", "netns", "exec", name, "env", f"GLOO_SOCKET_IFNAME={interface}"),
        )
        for is_host, (name, address, interface) in zip((True, False), two_hosts, strict=True)
    ]
    results = [result_of(launcher) for launcher in launchers]
    assert [result.code for result in results] == [0, 0], [result.err for result in results]
    assert unlike(tmp_path / "runs/digits", undisturbed) == []


def test_with_fewer_machines_a_run_goes_on(tmp_path: Path) -> None:
    """Two launchers stand for two machines. One is killed with its rank, and the other continues alone."""
    elastic = ("--nnodes=1:2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:29571", "--max-restarts=3")
    patience = "--rdzv-conf=last_call_timeout=3,keep_alive_interval=1,keep_alive_max_attempt=3,is_host="
    first, second = (
        launch(*LONG, folder=tmp_path, ranks=1, options=(*elastic, "--rdzv-id=test", f"{patience}{is_host}"))
        for is_host in (1, 0)
    )
    with first, second:
        wait_until(lambda: (tmp_path / "runs/digits/checkpoints/step-00000010").exists(), first)
        (process,) = ranks_of(second).values()
        second.kill()
        os.kill(process, signal.SIGKILL)
        result = result_of(first)
    assert result.code == 0, result.err
    worlds = [record["runtime"]["ranks"] for record in read_records(tmp_path / "runs/digits/segments.jsonl")]
    assert worlds[0] == 2
    assert worlds[-1] == 1
    assert max(steps_of(tmp_path / "runs/digits")) == 120

"""Starts the ranks of a command on this machine by torch's own launcher."""

import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.quantities import counted
from ncsnx.ranks.joining import rank_limit_s
from ncsnx.ranks.rank_group import LIMIT_VARIABLE
from ncsnx.spelling import argument, parameter


def launch(count: int, words: Sequence[str], *, device: str, processors: int) -> int:
    """Runs `ncsnx WORDS` in `count` ranks on this machine; returns the exit code of the command.

    words: the arguments without those that start ranks.
    device: the device that was asked for. processors: those of this machine that the ranks share as threads. Raises
    UsageError if there are fewer GPUs, unless the device is `cpu`.
    """
    import torch

    if "RANK" in os.environ:
        raise UsageError(f"{parameter('gpus')} starts the ranks, but a launcher has already started this one")
    found = torch.cuda.device_count()
    if device not in ("auto", "cuda", "cpu"):
        raise UsageError(f"{parameter('gpus')} gives each rank a GPU, so {argument('device', device)} cannot be chosen")
    if device != "cpu" and count > found:
        nearest = Hint("use all of them", adds=argument("gpus", found))
        trial = Hint("try several processes on its processors", adds=argument("device", "cpu"))
        raise UsageError(
            f"{parameter('gpus')} {count}: this machine has {counted(found, 'CUDA device')}",
            nearest if found else trial,
        )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, processors // count)))
    return _launched(count, words)


def _launched(count: int, words: Sequence[str]) -> int:
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.ERROR)  # the ranks say themselves why they end
    # `python -m` would import modules of the working folder
    isolated = ["-P"] if sys.path[0] not in ("", str(Path.cwd())) else []
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
    )
    try:
        elastic_launch(config, sys.executable)(*isolated, "-m", "ncsnx", *words)
    except ChildFailedError as error:
        # the launcher ends the other ranks by SIGTERM
        by_time = sorted(error.failures.items(), key=lambda item: (item[1].timestamp, item[1].exitcode >= 0, item[0]))
        rank, first = min(by_time, key=lambda item: item[1].exitcode == -signal.SIGTERM)
        if first.exitcode >= 0:
            return first.exitcode
        name = signal.Signals(-first.exitcode).name
        hints = [Hint("the same command resumes")]
        if name == "SIGABRT":  # by which NCCL ends a rank
            longer = f"export {LIMIT_VARIABLE}={2 * rank_limit_s():g}"
            hints.append(Hint("if it only waited for a slow rank, allow more", longer))
        raise NcsnxError(f"rank {rank} (process {first.pid}) was ended by {name}", *hints) from None
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0

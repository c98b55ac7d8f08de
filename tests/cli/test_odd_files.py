"""Irregular files and a forged zip are refused in one line, at once, by every parameter that names a place."""

import itertools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.command import REPOSITORY
from tests.cli.test_paths import COMMANDS, PATHS, Parameter
from tests.storage.giants import forged_zip

SPARE_BYTES = 256 * 2**20
"""Memory left to the commands: more than any zip's list of members, much less than a forged one declares."""
LIMIT_S = 20
"""Time limit of a command; one that waits for a pipe never ends."""
ODD = ("pipe.zip", "link.npz", "socket", "zeros.npy", "forged.zip")
LIMITED = """
import json, os, resource, signal, sys
from pathlib import Path
import ncsnx.data.summary, ncsnx.evaluation.distance_sweep, ncsnx.exchange.published_files
from ncsnx.registering import import_modules_of
import_modules_of("ncsnx.samplers")
from tests.training.tiny import command
def too_late(number, frame):
    raise TimeoutError("it waits")
signal.signal(signal.SIGALRM, too_late)
taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[1]),) * 2)
found = []
for words in json.load(sys.stdin):
    signal.alarm(int(sys.argv[2]))
    try:
        result = command(*words, folder=Path.cwd())
        found.append((result.code, result.err))
    except Exception as error:
        found.append((-1, repr(error)))
    signal.alarm(0)
print(json.dumps(found))
"""
BESIDE = {
    ("restore", "--inpaint"): ["--mask", "mask.npy"],
    ("restore", "--mask"): ["--inpaint", "picture.png"],
    ("restore", "--truth"): ["--measure", "measured.npz", "--operator", "mask"],
    ("reference", "--features"): ["digits"],
    ("reference", "--reference"): ["digits"],
    ("import", "FILE|FOLDER"): ["--run", "imported"],
    ("new", "--from"): [],
}
"""(Command, parameter) → what else it takes for the parameter's file to be opened."""
FIELDS = [
    ["data=images", "data.image_size=8", "data.root={}"],
    ["data=arrays", "data.image_size=8", "data.channels=1", "data.path={}"],
    ["data=packed", "data.image_size=8", "data.channels=1", "data.path={}"],
]
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the addresses as Linux does")


@pytest.fixture
def place(workplace: Path) -> Path:
    """A run, small sound files, and what is odd."""
    os.mkfifo(workplace / "pipe.zip")
    (workplace / "link.npz").symlink_to("pipe.zip")
    (workplace / "zeros.npy").symlink_to("/dev/zero")
    forged_zip(workplace / "forged.zip")
    np.save(workplace / "mask.npy", np.eye(8))
    Image.new("L", (8, 8)).save(workplace / "picture.png")
    return workplace


def typed(parameter: Parameter, text: str) -> list[str]:
    """The command with `text` for the parameter, and with what is sound for whatever it needs besides."""
    given = list(parameter.command)
    for other in COMMANDS[parameter.command]:
        if other == parameter:
            given += other.typed(text)
        elif other.required:
            sound = {"--out": "new", "NAME": "mine", "lsun|ffhq": "lsun"}.get(other.name, "digits")
            given += other.typed(sound)
    given += ["--size=8"] if parameter.command == ("data", "pack") else []
    return given + BESIDE.get((parameter.command[0], parameter.name), [])


def outcomes(folder: Path, commands: list[list[str]]) -> list[tuple[int, str]]:
    """The exit code and the standard error of each command, in one process with SPARE_BYTES of memory."""
    finished = subprocess.run(
        [sys.executable, "-c", LIMITED, str(SPARE_BYTES), str(LIMIT_S)],
        input=json.dumps(commands),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return [(code, err) for code, err in json.loads(finished.stdout)]


@pytest.mark.slow
def test_every_parameter_that_names_a_place_refuses_what_is_odd_in_one_line_at_once(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("socket")
        commands = [typed(one, odd) for odd in ODD for one in PATHS]
        for odd, fields in itertools.product(ODD, FIELDS):
            changes = [field.format(odd) for field in fields]
            commands += [["train", "digits", "--run=other", *changes], ["data", "check", "digits", *changes]]
        found = outcomes(place, commands)
    failures = [
        (words, code, err) for words, (code, err) in zip(commands, found, strict=True) if not refused(code, err)
    ]
    assert failures == []


def refused(code: int, err: str) -> bool:
    """Whether a command was refused in one line."""
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    return code in (1, 2) and len(errors) == 1 and "Traceback" not in err


def test_what_is_odd_is_named_with_what_was_expected(place: Path) -> None:
    told = {
        ("data", "show", "pipe.zip"): "pipe.zip: cannot be read: is not a regular file",
        ("data", "check", "/dev/zero"): "/dev/zero: cannot be read: is not a regular file",
        ("plan", "forged.zip"): "its list of members has 4,294,901,756 bytes, and the limit for such files is 134,217",
        ("import", "forged.zip", "digits", "--run=mine"): "and the limit for such files is 4,194,304",
        ("reference", "forged.zip"): "and the limit for such files is 134,217,728",
        ("fid", "digits", "--reference=forged.zip"): "and the limit for such files is 134,217,728",
    }
    for (words, expected), (_, err) in zip(told.items(), outcomes(place, [list(words) for words in told]), strict=True):
        assert expected in err, (words, err)

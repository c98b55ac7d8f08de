"""Runs made by somebody hostile: no code runs, nothing outside is read or written, nothing waits, markup is text."""

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import attrs
import numpy as np
import pytest
import torch
from safetensors.torch import save

from ncsnx.config import Arrays
from ncsnx.config.codec import identity, unstructure
from ncsnx.errors import NcsnxError
from ncsnx.networks import empty_network
from ncsnx.runs.folder import Run
from ncsnx.storage.sealed import sealed
from tests.cli.command import REPOSITORY
from tests.cli.hostile import (
    COMMANDS,
    LATEST,
    PUBLISHED,
    Attack,
    moved_outside,
    pickled,
    replaced_by_device,
    replaced_by_giant,
    replaced_by_pipe,
    reseal,
    untouched,
    with_header,
    with_tensors,
)
from tests.published import states_of, write
from tests.training.tiny import Result

RUN = "runs/digits"
NO_FILES = (replaced_by_pipe, replaced_by_device, replaced_by_giant)
BY_NAME = {attack.name: attack for attack in COMMANDS}
SAMPLE, LOSS, LIKELIHOOD, FID, TRAIN = (BY_NAME[name] for name in ("sample", "loss", "likelihood", "fid", "train"))
EXPORT, DOCTOR, SHOW, NEIGHBORS = (BY_NAME[name] for name in ("export", "doctor", "show", "neighbors"))


@pytest.fixture(scope="module")
def published(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The latest checkpoint in the published form."""
    states = states_of(trained / RUN / LATEST, Run(trained / RUN).experiment())
    return write(tmp_path_factory.mktemp("published") / PUBLISHED, states)


@pytest.fixture
def workplace(workplace: Path, published: Path) -> Path:
    """A copy of the run to spoil, and beside it what is imported into it."""
    shutil.copy(published, workplace)
    return workplace


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that is nobody's business."""
    folder = tmp_path / "outside"
    folder.mkdir()
    return folder


def assert_orderly(result: Result) -> None:
    """Asserts that the command did its work, or said in one line why not; an examination reports all findings."""
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    is_finding = " is not sound: " in result.err
    assert (result.code, len(errors)) in ((0, 0), (1, 0 if is_finding else 1)), result.err
    assert "Traceback" not in result.err
    assert "\x1b" not in result.out + result.err
    assert max(map(len, result.err.splitlines()), default=0) < 2_000


PLACES = [(one, place) for one in COMMANDS for place in (*one.files, *one.folders)]
# sweeps read checkpoints as sample does
FILES = [(one, place) for one in COMMANDS if one not in (LOSS, LIKELIHOOD, FID) for place in one.files]
# all three of them in each place would take a minute: one, chosen by the names
NO_FILE_IN_PLACE = [
    (one, place, NO_FILES[crc32(f"{one.name} {place}".encode()) % len(NO_FILES)]) for one, place in FILES
]


@pytest.mark.parametrize(("attack", "place"), PLACES, ids=[f"{one.name}-{place}" for one, place in PLACES])
def test_a_symbolic_link_leads_nobody_out(workplace: Path, outside: Path, attack: Attack, place: str) -> None:
    moved_outside(workplace / RUN, place, outside)
    with untouched(outside):
        assert_orderly(attack.on(workplace))


@pytest.mark.parametrize(
    ("attack", "place", "replace"), NO_FILE_IN_PLACE, ids=[f"{one.name}-{place}" for one, place in FILES]
)
def test_what_is_no_file_or_too_large_a_one_is_neither_waited_for_nor_read(
    workplace: Path, attack: Attack, place: str, replace: Callable[[Path], None]
) -> None:
    try:
        replace(workplace / RUN / place)
    except PermissionError:
        replaced_by_pipe(workplace / RUN / place)  # only the superuser makes devices
    assert_orderly(attack.on(workplace))


@pytest.mark.parametrize("attack", COMMANDS, ids=lambda attack: attack.name)
def test_what_a_command_does_not_need_may_be_a_link_and_its_code_is_never_run(
    workplace: Path, outside: Path, attack: Attack
) -> None:
    run = workplace / RUN
    used = {*attack.files, *attack.folders}
    parts = {part for place in used for part in (place, *map(str, Path(place).parents))}
    for place in ("experiment.py", *(other for one in COMMANDS for other in (*one.files, *one.folders))):
        is_inside = (run / place).resolve().is_relative_to(run.resolve())
        if place not in parts and is_inside and not place.startswith("checkpoints"):
            moved_outside(run, place, outside)
    made = workplace / "executed"
    (outside / "experiment.py").write_text(f"open({str(made)!r}, 'w')\nraise SystemExit(3)\n")
    with untouched(outside):
        result = attack.on(workplace)
    assert_orderly(result)
    assert result.code == 0
    assert not made.exists()


NESTED = b'{"schema_version": 1, "experiment": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
"""Deeper than Python's own reading goes."""
SHALLOWER = b'{"schema_version": 1, "experiment": ' + b'{"a":' * 800 + b"1" + b"}" * 800 + b"}"
"""Python reads it, and can't walk over it."""


def changed(old: str, new: str) -> Callable[[bytes], bytes]:
    """A configuration with another text in one place."""

    def change(content: bytes) -> bytes:
        assert old.encode() in content
        return content.replace(old.encode(), new.encode(), 1)

    return change


CONFIGURATIONS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nested beyond reading": (lambda content: NESTED, "nested more than 64 deep"),
    "nested beyond walking": (lambda content: SHALLOWER, "nested more than 64 deep"),
    "a key that is there twice": (changed('"seed": 1234', '"seed": 1, "seed": 1234'), "the key 'seed' occurs twice"),
    "NaN": (changed('"lr": 0.002', '"lr": NaN'), "NaN is not a JSON number"),
    "beyond the floats": (changed('"lr": 0.002', '"lr": 1e999'), "1e999 is beyond the range of floats"),
    "beyond all digits": (changed('"seed": 1234', f'"seed": {"9" * 5000}'), "expected JSON, but"),
    "a version beyond all digits": (
        changed('"schema_version": 1', f'"schema_version": {"9" * 4000}'),
        "newer than this ncsnx reads",
    ),
    "a billion levels": (changed('"levels": 4', '"levels": 1000000000'), "must be between 2 and 1,000,000"),
    "a billion channels": (changed('"width": 4', '"width": 1000000000'), "must be between 1 and 16,384"),
    "half a character": (changed('"note": ""', '"note": "\\ud800"'), "surrogates not allowed"),
    "another encoding": (lambda content: content.decode().encode("utf-16"), "expected JSON, but"),
    "markup and escapes": (
        changed('"name": "digits"', '"name": "[red]\\u001b[31m\\nerror: fake"'),
        "name: must be 1 to 100 of the characters",
    ),
    "a note that moves the cursor": (changed('"note": ""', '"note": "\\u001b[2J"'), "one line of printable text"),
    "a class path": (changed('"type": "ncsnv2"', '"type": "os.system"'), "expected one of ncsn"),
    "a list": (lambda content: b"[]", "expected an object, found list"),
    "a fingerprint that is none": (
        lambda content: json.dumps({**json.loads(content), "data_fingerprint": ["[red]x" * 100_000]}).encode(),
        "data_fingerprint: expected text, found list",
    ),
}


@pytest.mark.parametrize("what", CONFIGURATIONS)
def test_a_hostile_configuration_is_refused_in_one_line(workplace: Path, what: str) -> None:
    change, expected = CONFIGURATIONS[what]
    path = workplace / RUN / "config.json"
    path.write_bytes(change(path.read_bytes()))
    for attack in COMMANDS:
        result = attack.on(workplace)
        assert_orderly(result)
        if attack.name == "list":
            assert expected in result.out
        else:
            assert result.code == 1
            assert expected in result.err + result.out


def test_a_network_that_no_memory_holds_is_refused_before_any_is_taken(workplace: Path) -> None:
    path = workplace / RUN / "config.json"
    before = path.read_text()
    assert '"width": 4' in before
    path.write_text(before.replace('"width": 4', '"width": 16384').replace('"levels": 4', '"levels": 1000000'))
    for checkpoint in (workplace / RUN / "checkpoints").iterdir():
        state = {"identity": identity(Run(path.parent).experiment())}
        (checkpoint / "state.json").write_text(json.dumps(state))
        reseal(checkpoint)
    for attack in (SAMPLE, LOSS, LIKELIHOOD, FID, NEIGHBORS):
        result = attack.on(workplace)
        assert_orderly(result)
        assert "bytes; the weights of the experiment's network have " in result.err
    with pytest.raises(NcsnxError, match="GiB, but this machine has"):
        empty_network(Run(path.parent).experiment())


# what a file of the latest checkpoint holds instead, under a manifest that vouches for it
CONTENTS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "an empty file": ("ema.safetensors", lambda content: b""),
    "a header of an exabyte": ("ema.safetensors", lambda content: (2**60).to_bytes(8, "little") + content[8:]),
    "a header of 10 MB": ("ema.safetensors", lambda content: (10**7).to_bytes(8, "little") + b" " * 10**7),
    "a shape that lies": ("ema.safetensors", with_header(lambda header: first(header).update(shape=[2**40]))),
    "a negative shape": ("ema.safetensors", with_header(lambda header: first(header).update(shape=[-1]))),
    "offsets that overlap": ("ema.safetensors", with_header(lambda header: first(header).update(data_offsets=[0, 8]))),
    "a type of its own": ("ema.safetensors", with_header(lambda header: first(header).update(dtype="os.system"))),
    "one tensor more": ("ema.safetensors", with_tensors(lambda tensors: tensors.update({HOSTILE: torch.zeros(1)}))),
    "one tensor less": ("ema.safetensors", with_tensors(lambda tensors: tensors.popitem())),
    "another shape": (
        "ema.safetensors",
        with_tensors(lambda tensors: tensors.update({"begin_conv.weight": torch.zeros(3)})),
    ),
    "no number": (
        "ema.safetensors",
        with_tensors(lambda tensors: [tensor.fill_(torch.nan) for tensor in tensors.values()]),
    ),
    "a model of another shape": (
        "model.safetensors",
        with_tensors(lambda tensors: tensors.update({"begin_conv.weight": torch.zeros(3)})),
    ),
    "a model with a name of its own": (
        "model.safetensors",
        with_tensors(lambda tensors: tensors.update({HOSTILE: torch.zeros(1)})),
    ),
    "an optimizer of another type": (
        "optimizer.safetensors",
        with_tensors(lambda tensors: tensors.update({name: value.to(torch.int8) for name, value in tensors.items()})),
    ),
    "an optimizer of names of its own": (
        "optimizer.safetensors",
        with_tensors(lambda tensors: tensors.update({HOSTILE: torch.zeros(1)})),
    ),
    "a state that is a list": ("state.json", lambda content: b"[]"),
    "a state that is nested": ("state.json", lambda content: NESTED),
    "a state of another identity": ("state.json", lambda content: b'{"identity": "\\u001b[31m"}'),
}
HOSTILE = "[bold]\x1b[31m\nerror: fake\u202e" + "x" * 5_000


def first(header: dict[str, Any]) -> dict[str, Any]:
    """The header's entry for its first tensor."""
    return next(value for name, value in header.items() if name != "__metadata__")


@pytest.mark.parametrize("what", CONTENTS)
def test_hostile_contents_under_a_right_hash_end_in_one_line(workplace: Path, what: str) -> None:
    name, change = CONTENTS[what]
    path = workplace / RUN / LATEST / name
    path.write_bytes(change(path.read_bytes()))
    reseal(path.parent)
    assert_orderly((SAMPLE if name == "ema.safetensors" else TRAIN).on(workplace))
    if what == "no number":
        assert_orderly(LOSS.on(workplace))
        assert_orderly(LIKELIHOOD.on(workplace))


@pytest.mark.parametrize("size", [1.5, True, -1, "9", 2**70, None])
def test_a_size_that_is_none_makes_a_checkpoint_unsound(workplace: Path, size: object) -> None:
    path = workplace / RUN / LATEST / "manifest.json"
    content = json.loads(path.read_bytes())
    del content["digest"]
    content["files"]["ema.safetensors"]["bytes"] = size
    path.write_bytes(sealed(content))
    for attack in (SAMPLE, EXPORT, DOCTOR, TRAIN):
        assert_orderly(attack.on(workplace))
    assert (workplace / RUN / "unsound/step-00000012").exists(), "the doctor moved it away"


def test_data_that_only_the_run_names_are_not_read(workplace: Path, outside: Path) -> None:
    """Wherever they are: without a fingerprint of them, anybody may have written the path."""
    images = np.zeros((4, 1, 8, 8), np.uint8)
    np.save(outside / "secret.npy", images)
    path = workplace / RUN / "config.json"
    content = json.loads(path.read_text())
    data = Arrays(path=str(outside / "secret.npy"), image_size=8)
    content["experiment"]["data"] = unstructure(attrs.evolve(Run(path.parent).experiment(), data=data))["data"]
    content["experiment"]["sampler"]["data_init"] = True
    content["data_fingerprint"] = None
    path.write_text(json.dumps(content))
    for checkpoint in (workplace / RUN / "checkpoints").iterdir():
        (checkpoint / "state.json").write_text(json.dumps({"identity": identity(Run(path.parent).experiment())}))
        reseal(checkpoint)
    with untouched(outside):
        plain = ((one, ()) for one in (SAMPLE, LOSS, LIKELIHOOD, EXPORT))
        for attack, options in (*plain, *((one, ("--features", "classifier")) for one in (FID, NEIGHBORS))):
            result = attack.on(workplace, "digits", *options)
            assert_orderly(result)
            assert "has no fingerprint to check it" in result.err
            assert "no experiment here has the same data" in result.err
    experiments = workplace / "experiments"
    experiments.mkdir()
    (experiments / "mine.py").write_text(DECLARED.format(path=str(outside / "secret.npy")))
    assert SAMPLE.on(workplace).code == 0, "an experiment here now has the same data"


DECLARED = """
import attrs
from ncsnx.config import Arrays, register
from ncsnx.config.discovery import built_in_folder
from ncsnx.config.loading import load_file

digits = load_file(built_in_folder() / "digits.py").registered[0].experiment
register(attrs.evolve(digits, name="mine", data=Arrays(path={path!r}, image_size=8)))
"""


@pytest.mark.parametrize("step", [10**300, -1, True, 10**18])
def test_a_step_that_no_folder_has_is_not_looked_for(workplace: Path, step: int) -> None:
    assert SAMPLE.on(workplace).code == 0
    (path,) = (workplace / RUN / "samples").glob("*/protocol.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "step": step}))
    assert_orderly(DOCTOR.on(workplace))
    assert_orderly(SAMPLE.on(workplace))


def test_samples_of_terabytes_are_not_hashed(workplace: Path) -> None:
    assert SAMPLE.on(workplace).code == 0
    (path,) = (workplace / RUN / "samples").glob("*/samples.safetensors")
    replaced_by_giant(path)
    for attack in (SAMPLE, DOCTOR):
        result = attack.on(workplace)
        assert_orderly(result)
        assert result.code == 1


@pytest.mark.parametrize("name", ["log.txt", "metrics.jsonl", "segments.jsonl"])
def test_what_has_another_name_elsewhere_is_not_written_to(workplace: Path, outside: Path, name: str) -> None:
    path = workplace / RUN / name
    shutil.copy(path, outside / name)
    path.unlink()
    path.hardlink_to(outside / name)
    before = (outside / name).read_bytes()
    assert_orderly(TRAIN.on(workplace))
    assert (outside / name).read_bytes() == before


@pytest.mark.parametrize("attack", COMMANDS, ids=lambda attack: attack.name)
def test_no_pickle_is_loaded(workplace: Path, attack: Attack) -> None:
    made = workplace / "executed"
    run = workplace / RUN
    for checkpoint in (run / "checkpoints").iterdir():
        for name in ("model", "ema", "optimizer"):
            (checkpoint / f"{name}.safetensors").write_bytes(pickled(made))
        reseal(checkpoint)
    result = attack.on(workplace)
    assert_orderly(result)
    if attack.name not in ("train", "show", "list", "doctor"):  # training falls back to the beginning
        assert result.code == 1
    assert not made.exists()


@pytest.mark.parametrize("what", ["pickle", "pipe", "link", "another type"])
def test_unfinished_work_that_was_planted_is_never_loaded(workplace: Path, outside: Path, what: str) -> None:
    made = workplace / "executed"
    (outside / "part").write_bytes(b"precious")
    assert SAMPLE.on(workplace).code == 0
    (folder,) = (workplace / RUN / "samples").iterdir()
    record = json.loads((folder / "protocol.json").read_text())
    (folder / "protocol.json").write_text(json.dumps({**record, "complete": False}))
    (folder / ".parts").mkdir()
    part = folder / ".parts/00000000-00000001.safetensors"
    if what == "pickle":
        part.write_bytes(pickled(made))
    elif what == "pipe":
        os.mkfifo(part)
    elif what == "link":
        part.symlink_to(outside / "part")
    else:
        images = torch.zeros(2, 1, 1, 8, 8, dtype=torch.complex64)
        part.write_bytes(save({"indices": torch.arange(2), "images": images, "frames": torch.zeros(0, 2, 1, 1, 8, 8)}))
    with untouched(outside):
        result = SAMPLE.on(workplace)
    assert (result.code, made.exists()) == (0, False), result.err


RECORDS: dict[str, bytes] = {
    "nested": NESTED + b"\n",
    "nested less": b'{"step": 1, "loss": ' + b"[" * 800 + b"]" * 800 + b"}\n",
    "twice": b'{"step": 99, "step": 1}\n',
    "no number": b'{"step": NaN}\n',
    "a step that is text": b'{"step": "[red]\\u001b[31m"}\n',
    "a step beyond all digits": b'{"step": ' + b"9" * 5000 + b"}\n",
    "no text": b"\xff\xfe\x00\n",
    "a list": b"[]\n",
    "pickle": pickled(Path("/nowhere")) + b"\n",
}


@pytest.mark.parametrize(
    ("name", "what"), [*(("metrics.jsonl", what) for what in RECORDS), ("segments.jsonl", "nested")]
)
def test_hostile_records_stop_a_training_in_one_line(workplace: Path, name: str, what: str) -> None:
    path = workplace / RUN / name
    path.write_bytes(path.read_bytes() + RECORDS[what])
    assert_orderly(TRAIN.on(workplace))


def test_a_segment_that_claims_anything_is_only_quoted(workplace: Path) -> None:
    path = workplace / RUN / "segments.jsonl"
    segment = json.loads(path.read_text())
    segment["runtime"]["device"] = HOSTILE
    segment["versions"]["torch"] = [HOSTILE] * 1_000
    path.write_text(json.dumps(segment) + "\n")
    result = TRAIN.on(workplace)
    assert_orderly(result)
    assert "bit-identity" in result.err
    assert "\nerror: fake" not in (workplace / RUN / "log.txt").read_text()


SCORES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a step beyond all floats": lambda scores: scores["rows"][0].update(step=10**400),
    "a score beyond all floats": lambda scores: scores["rows"][0].update(score=10**400),
    "text for numbers": lambda scores: [
        scores["rows"][0].update({"error": "[red]\x1b[31m", "levels": [None, "x", {}, 1e300], HOSTILE: HOSTILE}),
        scores.update(metric=HOSTILE, caption=HOSTILE),
    ],
    "numbers at the ends of the floats": lambda scores: [
        scores["rows"][0].update(levels=[5e-324, 1e308, 1, 1], error=1e308, kernel_distance=-1e308),
    ],
    "a score at the end of the floats": lambda scores: scores["rows"][0].update(score=1e308),
    "a row twice": lambda scores: scores["rows"].append(scores["rows"][0]),
    "nested": lambda scores: scores.update(protocol=json.loads("[" * 500 + "]" * 500)),
}


@pytest.mark.parametrize("what", SCORES)
def test_hostile_scores_are_shown_as_text_or_refused_in_one_line(swept: Path, tmp_path: Path, what: str) -> None:
    place = Path(shutil.copytree(swept, tmp_path / "work"))
    for attack in (LOSS, FID):
        (path,) = (place / RUN / attack.name).glob("*/scores.json")
        scores = json.loads(path.read_text())
        SCORES[what](scores)
        path.write_text(json.dumps(scores))
        for picture in path.parent.glob("*.png"):
            picture.unlink()  # it has to be drawn again
        assert_orderly(attack.on(place))
    assert_orderly(SAMPLE.on(place, "digits", "--ckpt", "best"))


@pytest.fixture(scope="module")
def swept(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose latest checkpoint has a score and a loss. Not to be changed."""
    folder = tmp_path_factory.mktemp("swept")
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    for attack in (LOSS, FID):
        assert attack.on(folder).code == 0
    return folder


def test_the_name_of_a_folder_is_text(trained: Path, tmp_path: Path) -> None:
    name = "~[bold red]x[/bold red] error: fake $\\frac{ \u202e\u2066 . "
    place = tmp_path / "work"
    shutil.copytree(trained / RUN, place / "runs" / name)
    for words in (*(attack.words for attack in (SAMPLE, LOSS, FID)), ("show", "{run}"), ("list",), ("doctor", "{run}")):
        result = Attack("any", words, ()).on(place, f"runs/{name}")
        assert_orderly(result)
        assert result.code == 0
        assert not {"\u202e", "\u2066"} & set(result.err + result.out)


def test_the_name_of_a_folder_with_control_characters_is_refused_in_a_line(trained: Path, tmp_path: Path) -> None:
    name, place = "x\x1b[31m\nerror: fake", tmp_path / "work"
    shutil.copytree(trained / RUN, place / "runs" / name)
    refused = Attack("any", ("show", "{run}"), ()).on(place, f"runs/{name}")
    assert (refused.code, refused.out) == (2, "")
    assert "contains control characters" in refused.err
    assert "\x1b" not in refused.err
    listed = Attack("any", ("list",), ()).on(place, f"runs/{name}")
    assert_orderly(listed)
    assert "\x1b" not in listed.err + listed.out


def test_on_a_terminal_names_neither_colour_nor_move_anything(trained: Path, tmp_path: Path) -> None:
    names = ["[b]x[red]", "[link=a]y", "z\x1b]0;t\x07\x1b[2J", "w\u202e"]
    for name in names:
        shutil.copytree(trained / RUN, tmp_path / "runs" / name)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color"}
    listing = [sys.executable, "-m", "ncsnx", "list"]
    process = subprocess.Popen(listing, cwd=tmp_path, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    assert process.wait() == 0
    os.close(ours)
    for inert in (b"[b]x[red]", b"[link=a]y", b"z\\x1b]0;t\\x07\\x1b[2J", b"w\\u202e"):
        assert inert in shown
    assert b"\x1b]" not in shown
    assert b"\x1b[2J" not in shown

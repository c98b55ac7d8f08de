"""Item 3: truncated files and flipped bits in every file of a checkpoint."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import attrs

from ncsnx.errors import NcsnxError
from ncsnx.runs import checkpoint
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import UnsoundError
from ncsnx.runs.names import step_name
from ncsnx.sampling.score_model import load
from tests.chaos.report import Tally
from tests.chaos.trials import finish, must, one_line, side_by_side, unlike
from tests.training.tiny import CPU, training

FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json", "manifest.json")
TRUNCATIONS, FLIPS = 200, 1_000
WITH_COMMANDS = 2
"""Number of damages, per kind and file, after which `train` and `sample` run as processes."""
TRAIN = training("steps=9", "checkpoint_every=3", "snapshots=none")
LAST, BEFORE = 9, 6


@attrs.frozen
class Damage:
    """A damage to a file."""

    name: str
    place: int
    """Offset of the byte whose bit is flipped, or of the first byte that is cut off."""
    bit: int | None
    """The flipped bit; None: the file is truncated."""

    def __str__(self) -> str:
        return (
            f"{self.name} cut at {self.place:,}"
            if self.bit is None
            else f"{self.name} bit {self.bit} of {self.place:,}"
        )

    def of(self, content: bytes) -> bytes:
        if self.bit is None:
            return content[: self.place]
        changed = bytearray(content)
        changed[self.place] ^= 1 << self.bit
        return bytes(changed)


def plan(seed: int, sizes: dict[str, int]) -> list[Damage]:
    """Equally many damages per file, at random places."""
    chance = random.Random(f"damage {seed}")
    cuts = [Damage(name, chance.randrange(sizes[name]), None) for name in FILES * (TRUNCATIONS // len(FILES))]
    flips = [Damage(name, chance.randrange(sizes[name]), chance.randrange(8)) for name in FILES * (FLIPS // len(FILES))]
    return [*cuts, *flips]


def trials(tally: Tally, folder: Path) -> None:
    expected = folder / "undisturbed"
    expected.mkdir()
    must(finish(*TRAIN, folder=expected))
    sizes = {name: (_checkpoint(expected) / name).stat().st_size for name in FILES}
    damages = plan(tally.seed, sizes)
    work = Path(shutil.copytree(expected, folder / "work"))
    for damage in damages:
        _while_damaged(work, damage, lambda one=damage: tally.trial(f"{one}", in_this_process(work)))
        kind = "flipped bits" if damage.bit is not None else "truncations"
        tally.count(f"{kind} in {damage.name}, through the loader, the fallback and sampling")
    chosen = [one for name in FILES for kind in (True, False) for one in _some(damages, name, kind)]

    def one(pair: tuple[int, Damage]) -> None:
        number, damage = pair
        place = Path(shutil.copytree(expected, folder / f"commands-{number}"))
        tally.trial(f"{damage}, by commands", by_commands(place, damage, expected))
        tally.count("of them also by the commands train and sample --ckpt, as processes")
        shutil.rmtree(place)

    side_by_side(one, list(enumerate(chosen)))


def in_this_process(place: Path) -> list[str]:
    """Problems: damage that the loader or sampling overlooks."""
    run = Run(place / "runs/digits")
    return [
        f"{what} noticed nothing"
        for what, use in (
            ("loading", lambda: checkpoint.read_checkpoint(_checkpoint(place))),
            ("sampling of the step", lambda: load(run, LAST)),
            ("sampling of the latest", lambda: load(run, "latest")),
        )
        if not _is_refused(use)
    ]


def by_commands(place: Path, damage: Damage, expected: Path) -> list[str]:
    """Problems of the commands: `sample` must refuse; `train` must report it, fall back and end as if undamaged."""
    path = _checkpoint(place) / damage.name
    path.write_bytes(damage.of(path.read_bytes()))
    refused = finish("sample", "digits", "--ckpt", str(LAST), "--n", "1", *CPU, folder=place)
    problems = one_line(refused, "unsound", damage.name, f"--ckpt {BEFORE}")
    if (place / "runs/digits/samples").exists():
        problems.append("sample made a folder")
    trained = finish(*TRAIN, folder=place)
    said = [line for line in trained.err.splitlines() if line.startswith("warning: ")]
    wanted = (f"step {LAST} is unsound", damage.name, f"falling back to step {BEFORE}")
    if trained.code != 0 or len(said) != 1 or not all(words in said[0] for words in wanted):
        problems.append(f"train ended with {trained.code} and said: {trained.err}")
    aside = place / f"runs/digits/checkpoints/{step_name(LAST)}.unsound-1"
    if not aside.is_dir():
        problems.append("the damaged checkpoint was not kept aside")
    return [*problems, *unlike(place / "runs/digits", expected / "runs/digits")]


def _checkpoint(place: Path) -> Path:
    return place / "runs/digits/checkpoints" / step_name(LAST)


def _while_damaged(place: Path, damage: Damage, use: Callable[[], None]) -> None:
    path = _checkpoint(place) / damage.name
    content = path.read_bytes()
    path.write_bytes(damage.of(content))
    try:
        use()
    finally:
        path.write_bytes(content)


def _is_refused(use: Callable[[], object]) -> bool:
    try:
        use()
    except UnsoundError:
        return True
    except NcsnxError:
        return False  # a refusal that doesn't say that the checkpoint is damaged
    return False


def _some(damages: list[Damage], name: str, is_flip: bool) -> list[Damage]:
    return [one for one in damages if one.name == name and (one.bit is not None) == is_flip][:WITH_COMMANDS]

"""`python -m tests.runs.frozen`: freezes a run of the current schema version, with its export and expected results.

Run it once per version, after `ncsnx.config.codec.CONFIG_VERSION` was increased, with the program that writes that
version. Its result is committed and never regenerated. `vN/run` is the output of `ncsnx train` without the names of
this machine and its folders and without TensorBoard events, `vN/export` that of `ncsnx export`, and `vN/expected.json`
holds the expected results of both.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

from ncsnx.config.codec import CONFIG_VERSION
from tests.cli.command import REPOSITORY
from tests.training.tiny import CPU, command, lines

FROZEN = Path(__file__).parent
FIELDS = (
    "model.width=2",
    "batch_size=32",
    "schedule.levels=5",
    "sampler.steps_per_level=2",
    "snapshots.n=4",
    "checkpoint_every=20",
)
"""Overrides for the smallest network that works: a run of 250 kB."""
STEPS, LONGER = 20, 30
IMAGES = 4


def main() -> int:
    place = FROZEN / f"v{CONFIG_VERSION}"
    if place.exists():
        print(f"{place} is frozen already, and stays as it is", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary).resolve()
        shutil.copytree(REPOSITORY / "experiments", work / "experiments")
        _ncsnx("train", "digits", *FIELDS, f"steps={STEPS}", *CPU, folder=work)
        place.mkdir()
        shutil.copytree(work / "runs/digits", place / "run", ignore=shutil.ignore_patterns("tensorboard", ".lock"))
        forget_this_machine(place / "run", work, "train", "digits", *FIELDS, f"steps={STEPS}", *CPU)
        _ncsnx("export", "digits", "--out", "export", "--grid", "0", *CPU, folder=work)
        shutil.copytree(work / "export", place / "export")
        (place / "expected.json").write_text(json.dumps(expectation(work)) + "\n")
    return 0


def expectation(work: Path) -> dict[str, object]:
    """Results of the run `runs/digits` in `work`: images, the held-out loss, and losses of further training."""
    sampled = json.loads(_ncsnx("sample", "digits", "--n", str(IMAGES), "--json", *CPU, folder=work))
    (row,) = json.loads(_ncsnx("loss", "digits", "--json", *CPU, folder=work))
    _ncsnx("train", "digits", *FIELDS, f"steps={LONGER}", *CPU, folder=work)
    trained = [record["loss"] for record in lines(work / "runs/digits/metrics.jsonl") if "loss" in record]
    return {"grey_levels": grey_levels(work / sampled["folder"]), "held_out_loss": row["score"], "losses": trained}


def grey_levels(samples: Path) -> list[list[int]]:
    """The pixels of each sampled image, 0 to 255, row by row."""
    from PIL import Image

    pictures = sorted((samples / "images").iterdir())
    return [list(Image.open(path).tobytes()) for path in pictures]


def _ncsnx(*arguments: str, folder: Path) -> str:
    result = command(*arguments, folder=folder)
    if result.code != 0:
        raise SystemExit(f"ncsnx {' '.join(arguments)}: {result.err}")
    return result.out


def forget_this_machine(run: Path, work: Path, *command_line: str) -> None:
    """Removes the names of this machine and its folders from a copy of a run that was made in `work`."""
    for name in ("origins.json", "log.txt", "segments.jsonl"):
        text = (run / name).read_text().replace(f"{work}/", "")
        (run / name).write_text(text)
    (segment,) = lines(run / "segments.jsonl")
    segment |= {"command": " ".join(["ncsnx", *command_line]), "host": "frozen", "pid": 1, "git": None}
    (run / "segments.jsonl").write_text(json.dumps(segment) + "\n")


if __name__ == "__main__":
    sys.exit(main())

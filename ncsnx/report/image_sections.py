"""Sections of pictures: grids drawn while training, samples, and images that agree with measurements."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ncsnx.inverse.posterior.calibration_table import CALIBRATION_TITLES, calibration_in_words, calibration_rows
from ncsnx.inverse.task_record import CALIBRATION_FILE, TaskRecord, misfit_in_words
from ncsnx.quantities import counted, number
from ncsnx.report.chart import thinned_steps
from ncsnx.report.embedded_pictures import PictureBudget
from ncsnx.report.history_sections import as_command
from ncsnx.report.page_blocks import Block, CommandLines, Frame, Paragraph, PictureFigure, Slider, Table
from ncsnx.report.run_facts import Problems, RunFacts, folders_in
from ncsnx.runs.names import step_of
from ncsnx.runs.records.sample_record import PROTOCOL_FILE, TASK_FILE, SampleRecord
from ncsnx.runs.score_files import value
from ncsnx.storage import reading

MOST_FRAMES = 16
"""Most grids of a run's slider."""
_MOST_FOLDERS = 4
"""Most folders of samples, and of tasks, that are shown, the newest ones."""
_MOST_PICTURES = 20


def snapshot_blocks(facts: RunFacts, place: int, problems: Problems, budget: PictureBudget) -> Iterator[Block]:
    """The grids drawn while training, as a slider. place: index of the run in the page."""
    none: list[tuple[int, Path]] = []
    entries = problems.tried(lambda: _grids(facts), none)
    frames = []
    for index in thinned_steps(len(entries), MOST_FRAMES):
        step, path = entries[index]
        alt = f"Grid of samples of {facts.name} at step {step:,}"
        picture = problems.tried(partial(budget.embedded, path, alt), None)
        if picture is not None:
            frames.append(Frame(f"{step:,}", f"snapshot-{place}-{index}", picture, f"Step {step:,}."))
    if frames:
        last = frames[-1]
        frames[-1] = Frame(last.label, last.identifier, last.picture, last.caption, ("checked",))
        left = len(entries) - len(frames)
        words = f" {counted(left, 'grid')} in between are left out." if left else ""
        yield Paragraph(f"Uncurated: the same noise at every step.{words}")
        yield Slider("Samples by training step", f"snapshots-{place}", tuple(frames))


def sample_blocks(facts: RunFacts, tasks: bool, problems: Problems, budget: PictureBudget) -> Iterator[Block]:
    """Folders of samples with their protocols. tasks: those of tasks, else the others."""
    folders = []
    for entry in folders_in(facts.run, "samples", problems):
        try:
            is_task = (entry.path / TASK_FILE).lstat() is not None
        except OSError:
            is_task = False
        if is_task == tasks:
            folders.append(entry.path)
    if len(folders) > _MOST_FOLDERS:
        what = "tasks" if tasks else "folders of samples"
        problems.lines.append(f"{facts.run.samples}: the newest {_MOST_FOLDERS} of {len(folders):,} {what} are shown")
    for folder in reversed(folders[-_MOST_FOLDERS:]):
        record = problems.document(folder / PROTOCOL_FILE, SampleRecord)
        if record is not None:
            yield from _sample_folder(facts, folder, record, problems, budget)


def _sample_folder(
    facts: RunFacts, folder: Path, record: SampleRecord, problems: Problems, budget: PictureBudget
) -> Iterator[Block]:
    words = _protocol_words(record)
    task = problems.document(folder / TASK_FILE, TaskRecord)
    name = "Samples" if task is None else f"Task {task.task}"
    picture = problems.tried(lambda: _picture(folder / "grid.png", f"{name} of {facts.name}: {words}", budget), None)
    if picture is not None:
        yield PictureFigure(picture, f"{name}: {words}.")
    else:
        yield Paragraph(f"{name}: {words}; without a picture.")
    if task is not None:
        misfit = misfit_in_words(task.misfit, bounded=facts.experiment is None or facts.experiment.data.is_bounded)
        yield Paragraph(f"Largest misfit to the measurement: {misfit}.")
        yield from _truth_blocks(facts, folder, task, problems, budget)
    command = record.made.get("command")
    if isinstance(command, str):
        yield CommandLines("Repeat it", (as_command(command),))


def _truth_blocks(
    facts: RunFacts, folder: Path, task: TaskRecord, problems: Problems, budget: PictureBudget
) -> Iterator[Block]:
    """Comparison of a task's images with the truth."""
    rows = tuple(
        (one.picture, _psnr(one.psnr, "psnr_of_mean"), _psnr(one.psnr, "psnr_of_one"))
        for one in task.pictures[:_MOST_PICTURES]
        if one.psnr
    )
    if rows:
        yield Table("PSNR to the truth, dB", ("picture", "of the mean of its images", "of one"), rows)
    others = tuple(
        (one.picture, *map(_distance, (one.ssim_of_mean, one.ssim_of_one, one.nmse_of_mean, one.nmse_of_one)))
        for one in task.pictures[:_MOST_PICTURES]
        if one.range is not None
    )
    if others:
        head = ("picture", "SSIM of the mean", "SSIM of one", "NMSE of the mean", "NMSE of one")
        yield Table("Structural similarity and normalized error", head, others)
    if task.calibration is not None:
        caption = "Truths within the central part of their alternatives"
        yield Table(caption, CALIBRATION_TITLES, tuple(calibration_rows(task.calibration)))
        words = f"Calibration: {'; '.join(calibration_in_words(task.calibration).splitlines())}."
        alt = f"Task {task.task} of {facts.name}. {words}"
        picture = problems.tried(lambda: _picture(folder / CALIBRATION_FILE, alt, budget), None)
        yield Paragraph(words) if picture is None else PictureFigure(picture, words)


def _grids(facts: RunFacts) -> list[tuple[int, Path]]:
    try:
        entries = reading.entries(facts.run.snapshots)
    except FileNotFoundError:
        return []
    steps = [(step_of(entry.name.removesuffix(".png")), entry.path) for entry in entries if entry.name.endswith(".png")]
    return sorted((step, path) for step, path in steps if step is not None)


def _picture(path: Path, alt: str, budget: PictureBudget) -> Any:
    try:
        path.lstat()
    except OSError:
        return None
    return budget.embedded(path, alt)


def _protocol_words(record: SampleRecord) -> str:
    protocol = record.protocol
    sampler = protocol.get("sampler")
    tag = sampler.get("type", "unknown") if isinstance(sampler, dict) else "unknown"
    n, step, seed, evaluations = (value(protocol, key) or 0.0 for key in ("n", "step", "seed", "evaluations"))
    weights = {"ema": "EMA", "raw": "raw"}.get(str(protocol.get("weights")), "unknown")
    unfinished = "" if record.complete else "; unfinished"
    return (
        f"{counted(round(n), 'image')} from seed {seed:.0f}, step {step:,.0f}, {weights} weights, sampler {tag} with "
        f"{counted(round(evaluations), 'evaluation')} per image{_window_words(protocol)}{unfinished}"
    )


def _window_words(protocol: dict[str, Any]) -> str:
    """Values that pictures of unbounded data show as black and white; empty for bounded data."""
    match protocol.get("window"):
        case [int() | float() as low, int() | float() as high]:
            return f", black {low:g} and white {high:g}"
    return ""


def _psnr(found: dict[str, float | None], key: str) -> str:
    return "equal" if found.get(key) is None else f"{found[key]:.2f}"


def _distance(value: float | None) -> str:
    return "unknown" if value is None else number(value)

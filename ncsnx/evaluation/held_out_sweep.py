"""The held-out loss of checkpoints: the whole held-out split, level by level, always with the same noise.

Denoising score matching as in training (`ncsnx.training.score_matching`), but of all held-out images, and averaged over
the noise levels so that each counts the same: what training minimises, without the luck of a batch.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch

from ncsnx.config.canonical import digest
from ncsnx.config.codec import identity
from ncsnx.config.experiment import Experiment
from ncsnx.data import Preprocessing
from ncsnx.errors import DivergedError, NcsnxError, UsageError, require_between
from ncsnx.evaluation.candidates import Candidate, load_member
from ncsnx.evaluation.estimate import seconds_per_image
from ncsnx.evaluation.plots import LossSeries, plot_losses
from ncsnx.features.data_source import DataSource
from ncsnx.networks import ScoreFunction
from ncsnx.noise.levels import sigmas
from ncsnx.quantities import counted
from ncsnx.randomness import Purpose, Stream
from ncsnx.runs.checkpoints.manifest import UnsoundError
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name
from ncsnx.runs.score_files import Row, ScoreFile, best_row, values
from ncsnx.runtime import Runtime
from ncsnx.sampling.generate import never_stop
from ncsnx.sampling.score_model import weights_of
from ncsnx.spelling import parameter
from ncsnx.storage.parts import Part, assembled, missing_indices, write_part
from ncsnx.storage.reading import refuse_links
from ncsnx.training.score_matching import score_matching_loss

EVALUATIONS = 20_000
"""By default every image passes at so many levels that a checkpoint takes at least this many evaluations."""
METRIC = "held-out loss"
PICTURES = ("losses.png", "losses.svg")


@attrs.frozen(eq=False, kw_only=True)
class HeldOutSweep:
    """Measures the loss of checkpoints of one run under one protocol."""

    run: Run
    experiment: Experiment
    source: DataSource
    runtime: Runtime
    seed: int = 0
    passes: int | None = None
    """Levels that each image is seen at; None: enough for EVALUATIONS, all levels of a small set."""
    batch_size: int = 128
    """Images at once; the loss depends on it by rounding at most."""

    def __attrs_post_init__(self) -> None:
        levels = self.experiment.schedule.levels
        if self.passes is not None and not 1 <= self.passes <= levels:
            raise UsageError(
                f"{parameter('passes')} must be between 1 and the {counted(levels, 'level')}, not {self.passes:,}"
            )
        require_between("seed", self.seed, 0, 2**32 - 1)
        require_between("batch_size", self.batch_size, 1, 1_000_000)
        if self.images == 0:
            raise NcsnxError("the data set has no held-out images, so there is no held-out loss")

    @property
    def images(self) -> int:
        """Held-out images."""
        return len(self.source.splits().held_out)

    @property
    def effective_passes(self) -> int:
        """Passes over the held-out images, each at another level of every image."""
        return self.passes or min(self.experiment.schedule.levels, -(-EVALUATIONS // self.images))

    @property
    def units(self) -> int:
        """Images that a checkpoint is shown: what progress counts."""
        return self.effective_passes * self.images

    def protocol(self) -> dict[str, Any]:
        """What determines a checkpoint's loss, beside its weights."""
        return {
            "measure": "loss",
            "identity": identity(self.experiment),
            "n": self.images,
            "seed": self.seed,
            "passes": self.effective_passes,
            "levels": self.experiment.schedule.levels,
            "power": self.experiment.loss.power,
            "weights": weights_of(self.experiment)[0],
            "precision": self.experiment.precision,
            "split": "held-out",
            "fingerprint": self.source.fingerprint,
        }

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The noise levels, largest first."""
        return sigmas(self.experiment.schedule)

    def caption(self) -> str:
        """The protocol in a sentence, for people and for plots."""
        weights = "EMA" if weights_of(self.experiment)[0] == "ema" else "raw"
        return (
            f"denoising score matching, σ to the power {self.experiment.loss.power:g}: "
            f"{counted(self.images, 'held-out image')}, each at {self.effective_passes:,} of "
            f"{counted(len(self.sigmas), 'noise level')}, noise from seed {self.seed}, {weights} weights; data "
            f"{self.source.fingerprint[:8]}"
        )

    def draw(self, scores: ScoreFile) -> tuple[Path, Path]:
        """Draws all losses that there are into losses.png and losses.svg. Raises NcsnxError."""
        best = best_row(scores.rows)
        return plot_losses(
            scores.folder / "losses",
            LossSeries(
                steps=[row["step"] for row in scores.rows],
                means=[row["score"] for row in scores.rows],
                sigmas=self.sigmas,
                by_level=[values(row, "levels", len(self.sigmas)) for row in scores.rows],
            ),
            title=self.run.name,
            caption=self.caption(),
            best=next((index for index, row in enumerate(scores.rows) if row is best), None),
        )

    def seconds(self, candidate: Candidate) -> float:
        """How long a candidate will take, by evaluations that are timed now. Raises NcsnxError."""
        model = load_member(self.run, candidate.step, self.runtime)
        return seconds_per_image(model, min(self.batch_size, self.images)) * self.units

    def scores(self) -> ScoreFile:
        """Where this protocol's losses are kept, with those that are there. Raises NcsnxError."""
        protocol = self.protocol()
        name = f"n{self.images}-passes{self.effective_passes}-seed{self.seed}-{digest(protocol)[:8]}"
        return ScoreFile.open(self.run.loss / name, protocol, METRIC, self.caption())

    def measure(
        self,
        candidate: Candidate,
        scores: ScoreFile,
        *,
        check_stop: Callable[[], None] = never_stop,
        advance: Callable[[int], None] = lambda count: None,
    ) -> Row:
        """The row of a checkpoint: 'score' is the mean over the levels, 'levels' each level's mean, largest σ first.

        An interrupted one resumes after its last finished batch; batches are kept until `settle` is called. check_stop
        is asked before each evaluation and ends it by raising; advance is told of images. Raises NcsnxError;
        DivergedError where the loss isn't finite.
        """
        model = load_member(self.run, candidate.step, self.runtime)
        if model.weights_sha256 != candidate.weights_sha256:
            raise UnsoundError(f"the checkpoint of step {candidate.step:,} has been replaced meanwhile")
        parts = self._parts(candidate, scores)
        self._measure_missing(model.network, parts, check_stop, advance)
        by_level = self._by_level(assembled(parts, self.images)["losses"])
        return {
            "step": candidate.step,
            "weights_sha256": model.weights_sha256,
            "score": _mean([loss for loss in by_level if loss is not None]),
            "levels": by_level,
        }

    def settle(self, candidate: Candidate, scores: ScoreFile) -> None:
        """Removes the batches of a checkpoint whose row is kept."""
        shutil.rmtree(self._parts(candidate, scores), ignore_errors=True)

    def _parts(self, candidate: Candidate, scores: ScoreFile) -> Path:
        parts = scores.folder / ".parts" / f"{step_name(candidate.step)}-{candidate.weights_sha256[:8]}"
        refuse_links(parts.parent, parts)
        return parts

    @torch.no_grad()
    def _measure_missing(
        self, network: ScoreFunction, parts: Path, check_stop: Callable[[], None], advance: Callable[[int], None]
    ) -> None:
        """Adds the losses (B, passes) of the batches of images that aren't among the parts."""
        held_out, device = self.source.splits().held_out, self.runtime.device
        preprocessing = Preprocessing(self.experiment.data, held_out.value_range, self.experiment.seed)
        stream = Stream(self.seed, Purpose.HELD_OUT_NOISE)
        passes = self.effective_passes
        missing = missing_indices(
            parts, self.images, lambda indices, shapes: shapes == {"losses": [len(indices), passes]}
        )
        advance(passes * (self.images - len(missing)))
        for start in range(0, len(missing), self.batch_size):
            indices = torch.tensor(missing[start : start + self.batch_size])
            positions = indices.to(device)
            x = preprocessing.held_out(held_out.read(indices).pixels.to(device), positions)
            losses = []
            for number in range(passes):
                check_stop()
                seen = self._levels(positions, number)
                # step 0 is the noise of the batch that is looked at while training
                noise = stream.normal(positions, self.experiment.data.shape, step=number + 1)
                losses.append(score_matching_loss(network, x, seen, noise, self.experiment.loss.power).cpu())
                advance(len(indices))
            batch = torch.stack(losses, dim=1)
            if not bool(torch.isfinite(batch).all()):
                raise DivergedError("its held-out loss isn't finite")
            write_part(parts, Part(indices, {"losses": batch.float()}))

    def _by_level(self, losses: torch.Tensor) -> list[float | None]:
        """Each level's mean of the losses, (n, passes) float32; None where no image was seen at it."""
        sums, counts = torch.zeros(2, self.experiment.schedule.levels, dtype=torch.float64)
        for start in range(0, self.images, self.batch_size):
            batch = losses[start : start + self.batch_size].double()
            positions = torch.arange(start, start + len(batch))
            for number in range(self.effective_passes):
                seen = self._levels(positions, number)
                sums.index_add_(0, seen, batch[:, number])
                counts.index_add_(0, seen, torch.ones(len(batch), dtype=torch.float64))
        return [total / count if count else None for total, count in zip(sums.tolist(), counts.tolist(), strict=True)]

    def _levels(self, positions: torch.Tensor, number: int) -> torch.Tensor:
        return level_of(positions, number, self.effective_passes, self.experiment.schedule.levels)


def level_of(positions: torch.Tensor, number: int, passes: int, levels: int) -> torch.Tensor:
    """The level of each image, positions (B,) int64, in pass `number` of `passes`: (B,) int64 in [0, levels).

    Image j is seen at j + ⌊number · levels / passes⌋ mod levels: in each pass neighbours are at neighbouring levels,
    and the passes of one image are spread evenly; with as many passes as levels it is seen at every one.
    """
    return (positions + number * levels // passes) % levels


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)

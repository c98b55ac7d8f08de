"""Held-out loss of checkpoints: over the whole held-out split, by noise level, always with the same noise.

This is the denoising score-matching loss of training (`ncsnx.training.losses`) over all held-out images, with
equal weight for each noise level. Where training draws its σ from these levels, that is the training objective without
the variance of a batch; with a log-normal σ it isn't, since training sees the ends of the range less often.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor

from ncsnx.config.converter import unstructure
from ncsnx.config.experiment import Experiment
from ncsnx.data import Preprocessing
from ncsnx.errors import DivergedError, NcsnxError, UsageError
from ncsnx.evaluation.measure import Measure
from ncsnx.evaluation.plots import plot_losses
from ncsnx.features.real_images import DataSource
from ncsnx.quantities import counted
from ncsnx.randomness import Purpose, Stream
from ncsnx.ranks.sharing import batches_of
from ncsnx.runs.ledger import Quantity, Row, Series, Subject
from ncsnx.space import Space
from ncsnx.spelling import parameter
from ncsnx.storage.batch_files import Tensors
from ncsnx.training.losses import build_loss
from ncsnx.work import Advance, Work

_EVALUATIONS = 20_000
"""Fewest evaluations per checkpoint, which determines the default number of passes."""
_LEVELS_SHOWN = 5
"""Number of levels in the table: σ_1, σ_L and some in between."""


@attrs.frozen(eq=False, kw_only=True)
class HeldOutLoss(Measure):
    """The held-out loss of checkpoints."""

    tag: ClassVar = "loss"

    source: DataSource
    seed: int = 0
    passes: int | None = None
    """Number of levels that each image is evaluated at; None for enough levels (at most all) for 20,000 evaluations."""
    batch_size: int = 128
    """Images per batch; changes the loss by rounding at most."""

    def __attrs_post_init__(self) -> None:
        levels = len(self.sigmas)
        if self.passes is not None and not 1 <= self.passes <= levels:
            raise UsageError(
                f"{parameter('passes')} must be between 1 and the {counted(levels, 'level')}, not {self.passes:,}"
            )
        self.source.splits().require_classes(self.experiment.model.classes, self.spec.space.class_names)
        if self.count == 0:
            raise NcsnxError("the data set has no held-out images, so there is no held-out loss")

    @property
    def count(self) -> int:
        """Number of held-out images."""
        return len(self.source.splits().held_out)

    @property
    def effective_passes(self) -> int:
        """Passes over the held-out images, each with another level for every image."""
        return self.passes or min(len(self.sigmas), -(-_EVALUATIONS // self.count))

    @property
    def quantities(self) -> list[Quantity]:
        last = len(self.sigmas) - 1
        shown = sorted({round(last * place / (_LEVELS_SHOWN - 1)) for place in range(_LEVELS_SHOWN)})
        levels = [Quantity("levels", f"at σ={self.sigmas[level]:.3g}", place=level) for level in shown]
        identifier = "denoising_score_matching_loss" if self.experiment.loss.learns_scores else None
        return [Quantity("score", "held-out loss", identifier=identifier), *levels]

    @property
    def kept_as(self) -> str:
        return f"n{self.count}-passes{self.effective_passes}-noise{self.seed}"

    def facts(self) -> dict[str, Any]:
        return {
            "n": self.count,
            "noise_seed": self.seed,
            "passes": self.effective_passes,
            "split": "held-out",
            **self.source.facts,
            **loss_facts(self.experiment, self.source.space),
        }

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The noise levels, largest first."""
        return self.spec.levels

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment of the run."""
        return self.run.experiment()

    def words(self) -> dict[str, str]:
        given = " given their classes" if self.experiment.model.classes else ""
        if noise := self.spec.space.noise:
            given += f", with noise of σ = {noise:.4g} of their own"
        return {
            "": (
                f"{self.experiment.loss.in_words}, "
                f"{counted(self.count, 'held-out image')}{given}, "
                f"each at {self.effective_passes:,} of {counted(len(self.sigmas), 'noise level')}, noise from seed "
                f"{self.seed}"
            ),
            "data": self.source.fingerprint[:8],
        }

    def draw(self, series: Series) -> None:
        plot_losses(self.place / "losses", series.rows, self.sigmas, title=self.run.name, caption=series.caption)

    # ----------------------------------------------------------------------------------------------- a checkpoint

    def units(self, subject: Subject) -> int:
        """Network evaluations, each of one image."""
        return self.effective_passes * self.count

    def parts(self, subject: Subject, indices: Sequence[int], work: Work, advance: Advance) -> Iterator[Tensors]:
        (model,) = self.load(subject)
        held_out, device = self.source.splits().held_out, self.runtime.device
        preprocessing = Preprocessing(self.experiment.data, model.space, held_out.value_range, self.experiment.seed)
        stream, loss_of = Stream(self.seed, Purpose.HELD_OUT_NOISE), build_loss(self.experiment, model.space)
        for batch in map(torch.tensor, batches_of(indices, self.batch_size)):
            positions = batch.to(device)
            images = held_out.read(batch)
            x = preprocessing.held_out(images.pixels.to(device), positions)
            cond = model.network.class_cond(images.labels.to(device))
            losses = []
            for number in range(self.effective_passes):
                work.check_stop()
                seen = level_of(positions, number, self.effective_passes, len(self.sigmas))
                # step 0 is the noise of the held-out batch that training evaluates
                noise = stream.normal(positions, self.experiment.data.shape, step=number + 1)
                with torch.no_grad():
                    loss = loss_of(model.network, x, model.network.sigmas[seen], noise, cond)
                losses.append(loss.cpu())
                advance(len(batch))
            table = torch.stack(losses, dim=1)
            if not bool(torch.isfinite(table).all()):
                raise DivergedError("its held-out loss is not finite")
            yield {"losses": table.float()}

    def measured(self, subject: Subject, whole: Mapping[str, Tensor], work: Work) -> Row:
        """'levels' is the mean loss per level, largest σ first; 'score' their mean."""
        by_level = self._by_level(whole["losses"])
        seen = [loss for loss in by_level if loss is not None]
        return {"score": sum(seen) / len(seen), "levels": by_level}

    def _by_level(self, losses: Tensor) -> list[float | None]:
        """Mean per level of the losses, (n, passes) float32; None for levels without an image."""
        sums, counts = torch.zeros(2, len(self.sigmas), dtype=torch.float64)
        for number, of_pass in enumerate(losses.double().unbind(dim=1)):
            seen = level_of(torch.arange(self.count), number, self.effective_passes, len(self.sigmas))
            sums.index_add_(0, seen, of_pass)
            counts.index_add_(0, seen, torch.ones_like(of_pass))
        return [total / count if count else None for total, count in zip(sums.tolist(), counts.tolist(), strict=True)]


def loss_facts(experiment: Experiment, space: Space) -> dict[str, Any]:
    """The facts that the loss of an experiment depends on, but for network, images and noise.

    Losses of other facts are other quantities.
    """
    data, loss = experiment.data, experiment.loss
    facts = {
        "schedule": unstructure(experiment.schedule),
        "loss": unstructure(loss),
        "transform": data.transform,
        "dequantization": data.dequantization,
    }
    if not space.bounded:
        facts["scale"] = space.span
    if loss.uses_sigma_data:
        facts["sigma_data"] = space.sigma_data
    if space.noise:
        facts["noise"] = space.noise
    if space.shot is not None:
        facts["shot"] = [space.shot.gain, space.shot.read]
    if experiment.model.classes:
        facts["classes"] = experiment.model.classes
    return facts


def level_of(positions: Tensor, number: int, passes: int, levels: int) -> Tensor:
    """The level of each image at `positions`, (B,) int64, in pass `number` of `passes`: (B,) int64 in [0, levels).

    Image j gets level (j + ⌊number · levels / passes⌋) mod levels. In each pass, consecutive images are at consecutive
    levels. The passes of one image are spread evenly; with as many passes as levels, it is evaluated at every level.
    """
    return (positions + number * levels // passes) % levels

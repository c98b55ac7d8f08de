"""A checkpoint in the published format is used on rectangles, with the published network's scores."""

from typing import Any

import attrs
import pytest
import torch

import ncsnx
from ncsnx.config import AnnealedLangevin, Arrays, Experiment
from ncsnx.errors import UsageError
from ncsnx.exchange.importing import import_checkpoint
from ncsnx.exchange.sources.published import Published
from ncsnx.runs.folder import Run
from ncsnx.runtime import Runtime
from ncsnx.sampling.loading import load
from ncsnx.sampling.model import Model
from ncsnx.work import SILENT
from tests.golden_networks import TOLERANCE, relative_error
from tests.plain_ncsnv2 import plain_score
from tests.published import STEP, golden_experiment, golden_states, write
from tests.spaces import space_of

CPU = Runtime(device=torch.device("cpu"), threads=1)
TRAINED, OTHERS = (64, 48), ((48, 64), (158, 48), (40, 40))
"""(height, width) of the images that it was trained on, and of others."""


@pytest.fixture(scope="module")
def states() -> list[Any]:
    return golden_states("ncsnv2")


@pytest.fixture(scope="module")
def model(states: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("imported")
    path = write(folder / f"checkpoint_{STEP}.pth", states)
    data = Arrays(path="slices.npy", image_size=TRAINED, channels=3, low=-1.0, high=1.0)
    experiment: Experiment = attrs.evolve(golden_experiment("ncsnv2"), data=data)
    run = Run.create(folder / "runs", "small", experiment, {}, None, None, space_of(experiment.data))
    import_checkpoint(run, Published().read(str(path), experiment, SILENT))
    return load(run, STEP, runtime=CPU)


@pytest.mark.parametrize("size", [TRAINED, *OTHERS], ids=str)
@torch.no_grad()
def test_every_size_has_the_published_score(model: Model, states: list[Any], size: tuple[int, int]) -> None:
    sized = model.at_size(size)
    assert sized.shape == (3, *size)
    assert (sized.size_remark is None) == (size == TRAINED)
    x = torch.rand(2, *sized.shape, generator=torch.Generator().manual_seed(1))
    sigma = torch.tensor([model.network.noise_levels[0], model.network.noise_levels[-1]])
    expected = plain_score("NCSNv2", states[4], x, sigma)
    assert relative_error(sized.score(x, sigma.view(-1, 1, 1, 1)), expected) < TOLERANCE


def test_samples_of_another_size_are_drawn_with_a_warning(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    quick = AnnealedLangevin(step_size=1e-5, steps_per_level=1)
    drawn = ncsnx.draw(model, n=2, size=(16, 24), sampler=quick)
    assert drawn.shape == (2, 3, 16, 24)
    assert "the images have 16×24 pixels, but the network was trained on 64×48" in caplog.text
    with pytest.raises(UsageError, match="size 15,24: NCSNv2Network needs images whose height and width") as refused:
        model.at_size((15, 24))
    assert "choose size 14,24 or 16,24" in str(refused.value)
    for wrong in ("16", (16,), (0, 8), (8, 16_385), (16, 24.0)):
        with pytest.raises(UsageError, match=r"^size (must be an int or two ints|.*: expected a number of pixels, or)"):
            ncsnx.draw(model, n=1, size=wrong)  # type: ignore[arg-type]

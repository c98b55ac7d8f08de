"""The measured networks: ours trains as the training loop does; the published one is imported without a trace."""

import shutil
import sys
from pathlib import Path

import attrs
import pytest
import torch

from ncsnx.benchmarking.benchmark import _images, _probe
from ncsnx.benchmarking.measured_network import PARTS, OwnNetwork, PartClock, backward
from ncsnx.benchmarking.published_code import PublishedNetwork
from ncsnx.config import NCSNv2
from ncsnx.config.discovery import resolve
from ncsnx.config.experiment import Experiment
from ncsnx.data import open_data
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.networks import build_network
from ncsnx.runs.folder import Run
from ncsnx.runtime import Runtime
from ncsnx.stopping import StopRequest
from ncsnx.training.loop import train_steps
from ncsnx.training.training_state import TrainingState
from ncsnx.work import SILENT
from tests.training.test_stopping import _Unseen

CPU = torch.device("cpu")
CHECKOUT = Path(__file__).parent / "checkout"


@pytest.fixture(scope="module")
def digits() -> Experiment:
    return attrs.evolve(
        resolve("digits").experiment,
        model=NCSNv2(width=4),
        batch_size=4,
        steps=3,
        checkpoint_every=3,
        eval_every=1_000,
        snapshots=None,
        clip_norm=1.0,
        warmup_steps=2,
    )


def published(folder: Path, experiment: Experiment) -> PublishedNetwork:
    images = open_data(experiment.data, folder).train
    return PublishedNetwork(folder, build_network(experiment), experiment, images, CPU)


def test_our_steps_are_those_of_the_training_loop(digits: Experiment, tmp_path: Path) -> None:
    data = open_data(digits.data, tmp_path)
    runtime = Runtime.choose(device="cpu")
    ours = OwnNetwork("default", digits, runtime, data.train)
    for clock in (None, PartClock(CPU), None):
        ours.step(clock)
    state = TrainingState(digits, runtime)
    run = Run.create(tmp_path / "runs", "run", digits, {}, None, "f" * 64)
    train_steps(state, data, run, runtime, _Unseen(), StopRequest())
    found, expected = ours.state.parts(), state.parts()
    assert list(found) == ["model", "ema", "optimizer"]
    assert all(torch.equal(found[part][name], tensor) for part in expected for name, tensor in expected[part].items())


def test_images_of_another_size_are_random(digits: Experiment, tmp_path: Path) -> None:
    other, images, pixels = _images(digits, 16, tmp_path, SILENT)
    assert (pixels, other.data.shape, images.shape) == ("random", (1, 16, 16), (1, 16, 16))
    stored = images.read(torch.arange(len(images))).pixels
    assert stored.float().std() == pytest.approx(256 / 12**0.5, rel=0.02)
    assert _images(digits, 8, tmp_path, SILENT)[2] == "the data set"


def test_the_parts_of_a_step_are_timed(digits: Experiment, tmp_path: Path) -> None:
    images = open_data(digits.data, tmp_path).train
    ours = OwnNetwork("default", digits, Runtime.choose(device="cpu"), images)
    clock = PartClock(CPU)
    ours.step(clock)
    assert list(clock.seconds) == list(PARTS)
    assert all(seconds > 0 for seconds in clock.seconds.values())
    assert clock.seconds["network"] == max(clock.seconds.values())


def test_the_published_code_gets_our_weights_and_leaves_no_trace(digits: Experiment) -> None:
    path, models = list(sys.path), {name for name in sys.modules if name.partition(".")[0] in ("models", "losses")}
    theirs = published(CHECKOUT, digits)
    network = build_network(digits)
    probe = _probe(network, digits, CPU)
    assert theirs.require_agreement(network, probe) < 2e-5
    assert sys.path == path
    assert {name for name in sys.modules if name.partition(".")[0] in ("models", "losses")} == models
    assert not list(CHECKOUT.rglob("__pycache__"))
    ours = OwnNetwork("plain", digits, Runtime.choose(device="cpu", plain=True), theirs.batches.dataset)
    backward(ours, probe)
    backward(theirs, probe)
    expected, found = ours.gradients(), theirs.gradients()
    assert expected.keys() == found.keys()
    largest = max(gradient.abs().max() for gradient in expected.values())
    assert max((found[name] - expected[name]).abs().max() for name in expected) < 2e-5 * largest


def test_the_published_step_updates_weights_and_average(digits: Experiment) -> None:
    assert digits.ema is not None
    theirs = published(CHECKOUT, digits)
    before = {name: tensor.clone() for name, tensor in theirs.network.state_dict().items()}
    averages = {name: tensor.clone() for name, tensor in theirs._average.shadow.items()}
    clock = PartClock(CPU)
    theirs.step(clock)
    after = theirs.network.state_dict()
    assert all(not torch.equal(after[name], before[name]) for name in before if name.startswith("begin_conv"))
    name = "end_conv.weight"
    assert not torch.equal(theirs._average.shadow[name], averages[name])
    expected = torch.lerp(averages[name], after[name], 1 - digits.ema.rate)
    torch.testing.assert_close(theirs._average.shadow[name], expected)
    assert clock.seconds["network"] > clock.seconds["data"] > 0


def test_another_folder_is_refused(digits: Experiment, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not a checkout of the published implementation: models/__init__\.py is"):
        published(tmp_path, digits)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("models/ncsnv2.py", "output / self", "1.001 * output / self", "with the same weights its outputs differ by 1"),
        ("models/ncsnv2.py", "output / self", "missing / self", r"ncsnv2\.py:34: NameError: name 'missing'"),
        ("models/ema.py", "class EMAHelper:", "raise SystemExit(3)\n\n\nclass EMAHelper:", r"ema\.py:1: SystemExit: 3"),
        ("losses/dsm.py", "import torch", "import torch)", r"dsm\.py:1: SyntaxError: unmatched"),
        ("models/ncsnv2.py", '"sigmas", get', '"levels", get', "has other tensors than the published one: levels"),
    ],
)
def test_code_that_fails_or_differs_is_refused(
    file: str, old: str, new: str, message: str, digits: Experiment, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(CHECKOUT, tmp_path / "checkout"))
    source = (folder / file).read_text()
    (folder / file).write_text(source.replace(old, new))
    network = build_network(digits)
    with pytest.raises(NcsnxError, match=message):
        published(folder, digits).require_agreement(network, _probe(network, digits, CPU))

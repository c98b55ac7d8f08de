"""Ranges of checkpoints as typed."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncsnx.config import AnnealedLangevin, Digits, Experiment, Geometric, NCSNv2
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import UnsoundError, write_checkpoint
from ncsnx.runs.selection import select
from tests.runs.kept import weights


@pytest.fixture
def ladder(run: Run) -> Run:
    """A run with checkpoints at 100, 200, … 600 and a checkpoint interval of 100."""
    run.update_experiment(attrs.evolve(run.experiment(), checkpoint_every=100, steps=1_000))
    for step in range(100, 700, 100):
        write_checkpoint(run.checkpoints, step, [("model.safetensors", weights(run.experiment(), b""))])
    return run


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("all", (100, 200, 300, 400, 500, 600)),
        ("latest", (600,)),
        ("300", (300,)),
        ("0.3k", (300,)),
        ("200:400", (200, 300, 400)),
        ("0.2k:0.4k", (200, 300, 400)),
        ("200:600:200", (200, 400, 600)),
        ("300:300", (300,)),
    ],
)
def test_a_range_means_its_checkpoints_ends_included(ladder: Run, text: str, steps: tuple[int, ...]) -> None:
    assert select(ladder, text) == steps


def test_the_third_part_keeps_multiples_of_it_wherever_the_range_begins(ladder: Run) -> None:
    assert select(ladder, "100:600:200") == (200, 400, 600)


def test_a_range_beyond_the_run_means_the_checkpoints_that_it_holds(ladder: Run) -> None:
    assert select(ladder, "500:100000000000") == (500, 600)


def test_an_unsound_checkpoint_of_a_range_is_refused_with_the_range_to_type(ladder: Run) -> None:
    (ladder.checkpoints / "step-00000600" / "model.safetensors").write_bytes(b"")
    with pytest.raises(UnsoundError, match=r"checkpoint 600 .* is unsound: .*use the checkpoint before it: range=500"):
        select(ladder, "latest")


def test_a_range_that_holds_no_checkpoint_lists_those_there_are(ladder: Run) -> None:
    with pytest.raises(UsageError, match=r"holds no checkpoint of run 'small'; it has 100, 200, 300, 400, 500, 600$"):
        select(ladder, "700:800")


def test_a_step_without_a_checkpoint_lists_the_nearest(ladder: Run) -> None:
    with pytest.raises(UsageError, match="no checkpoint of step 350; nearest: "):
        select(ladder, "350")


@pytest.mark.parametrize(
    "text", ["", ":", "100:", ":100", "a:b", "100:200:300:400", "latest:600", "100-200", "-5:7", "400:200", "100:200:0"]
)
def test_what_is_no_range_is_refused_with_what_is_accepted(ladder: Run, text: str) -> None:
    with pytest.raises(UsageError, match="expected all, latest, best, a step such as 150k, FIRST:LAST or"):
        select(ladder, text)


def test_a_run_without_checkpoints_says_so(run: Run) -> None:
    with pytest.raises(NcsnxError, match="no checkpoint yet"):
        select(run, "all")


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with one checkpoint, of step 20."""
    experiment = Experiment(
        name="small",
        data=Digits(),
        schedule=Geometric(sigma_max=8.0, sigma_min=0.01, levels=10),
        model=NCSNv2(width=8),
        sampler=AnnealedLangevin(step_size=1e-5, steps_per_level=2),
        steps=100,
    )
    run = Run.create(tmp_path_factory.mktemp("tried"), "small", experiment, {}, None, "f" * 64)
    write_checkpoint(run.checkpoints, 20, [("model.safetensors", weights(run.experiment(), b""))])
    return run


@given(st.text(alphabet="0123456789:kKmM.alltes -_\x00\u202e", max_size=30))
def test_whatever_is_typed_gives_checkpoints_or_one_clear_line(tried: Run, text: str) -> None:
    try:
        steps = select(tried, text)
    except NcsnxError as error:
        said = str(error)
        assert said.isprintable()
    else:
        assert steps == (20,)

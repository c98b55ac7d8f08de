"""posterior.safetensors: its numbers, streamed, and what a kill leaves."""

import json
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.inverse import Masking, Task
from ncsnx.inverse.posterior import maps as posterior_maps
from ncsnx.inverse.posterior.maps import POSTERIOR_FILE, QUANTILES, pixel_maps, read_posterior, write_posterior
from ncsnx.inverse.task_record import record_task
from ncsnx.stopping import stopped_by
from tests.spaces import unit_space

SHAPE = (1, 8, 8)
KNOWN = torch.arange(64).view(SHAPE) < 32


class Killed(Exception):
    """Stands for a stop."""


def write(folder: Path, samples: Tensor, pictures: int, own: tuple[float, float], samples_sha256: str) -> str:
    """Writes the maps of samples, of as many pictures."""
    space = attrs.evolve(unit_space(*SHAPE), own=own)
    maps = [pixel_maps(images, space) for images in samples.chunk(pictures)]
    return write_posterior(folder / POSTERIOR_FILE, maps, space, len(samples) // pictures, samples_sha256)


@given(
    pictures=st.integers(1, 3),
    count=st.integers(1, 45),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 5)),
    part_bytes=st.integers(1, 2_000),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_give_the_mean_deviation_and_quantiles_of_all(
    tmp_path: Path, pictures: int, count: int, shape: tuple[int, int, int], part_bytes: int, seed: int
) -> None:
    samples = torch.rand(pictures * count, *shape, generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posterior_maps, "_PART_BYTES", part_bytes)
        written = write(tmp_path, samples, pictures, (-2.0, 3.0), "a")
    assert written == sha256((tmp_path / POSTERIOR_FILE).read_bytes()).hexdigest()
    found = read_posterior(tmp_path / POSTERIOR_FILE)
    assert (found.alternatives, found.low, found.high) == (count, -2, 3)
    own = -2 + 5 * samples.double().view(pictures, count, *shape).numpy()
    np.testing.assert_allclose(found.mean, own.mean(axis=1), atol=1e-5)
    for share in QUANTILES:
        expected = np.quantile(own, share, axis=1, method="weibull")
        np.testing.assert_allclose(found.quantiles[share], expected, atol=1e-5)
    if count == 1:
        assert found.deviation.isnan().all()
    else:
        np.testing.assert_allclose(found.deviation, own.std(axis=1, ddof=1), atol=1e-5)


def test_the_file_says_what_its_numbers_are(tmp_path: Path) -> None:
    write(tmp_path, torch.rand(6, *SHAPE), 2, (0.0, 255.0), "hash")
    with safe_open(tmp_path / POSTERIOR_FILE, "np") as file:
        assert set(file.keys()) == {"mean", "deviation", *(f"quantile_{100 * share:g}" for share in QUANTILES)}
        assert {file.get_slice(name).get_shape() == [2, *SHAPE] for name in file.keys()} == {True}  # noqa: SIM118
        said = json.loads(file.metadata()["posterior"])
    assert (said["low"], said["high"], said["samples_sha256"], said["deviation_ddof"]) == (0, 255, "hash", 1)
    assert said["quantiles"]["quantile_97.5"] == 0.975


def test_a_file_of_something_else_is_refused_with_what_to_do(tmp_path: Path) -> None:
    place = tmp_path / POSTERIOR_FILE
    for make in (lambda: None, lambda: place.write_bytes(b"no"), lambda: save_file({"mean": torch.zeros(1)}, place)):
        make()
        with pytest.raises(NcsnxError, match=r"cannot read .*; restore the pictures again"):
            read_posterior(place)


def test_a_stop_between_pictures_keeps_the_earlier_file(tmp_path: Path) -> None:
    calls = []

    def stop() -> None:
        calls.append(1)
        if len(calls) > 1:
            raise Killed

    (tmp_path / POSTERIOR_FILE).write_bytes(b"earlier")
    save_file({"samples": torch.rand(6, *SHAPE)}, tmp_path / "samples-00000.safetensors")
    task = Task(name="half", operator=Masking(KNOWN), values=torch.zeros(2, 32))
    with pytest.raises(Killed):
        record_task(task, tmp_path, 3, unit_space(*SHAPE), check_stop=stop)
    assert {path.name for path in tmp_path.iterdir()} == {"samples-00000.safetensors", POSTERIOR_FILE}
    assert (tmp_path / POSTERIOR_FILE).read_bytes() == b"earlier"


@pytest.mark.parametrize("looks", [0, 5, 10, 11])
def test_a_stop_is_looked_for_before_each_map_that_is_written_and_while_the_file_is_hashed(
    looks: int, tmp_path: Path
) -> None:
    space, seen = unit_space(*SHAPE), list[int]()
    maps = [pixel_maps(torch.rand(3, *SHAPE), space)]

    def stop() -> None:
        seen.append(1)
        if len(seen) > looks:
            raise Killed

    with stopped_by(stop), pytest.raises(Killed) if looks < 11 else nullcontext():
        write_posterior(tmp_path / POSTERIOR_FILE, maps, space, 3, "hash")
    written = [POSTERIOR_FILE] if looks >= 10 else []  # a header and nine maps
    assert [path.name for path in tmp_path.iterdir()] == written

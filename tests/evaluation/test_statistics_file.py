"""Statistics files of other programs, and invalid ones."""

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ncsnx.errors import NcsnxError
from ncsnx.evaluation.reference import open_reference, read_statistics
from ncsnx.features.feature_network import Extracted
from ncsnx.work import Work

D = 3
MEAN = np.array([1.0, 2.0, 3.0])
COVARIANCE = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 0.2], [0.1, 0.2, 4.0]])


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **({"mu": MEAN, "sigma": COVARIANCE} | arrays))
    return path


def read(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    return read_statistics(path, D, "Inception")[0]


class Three:
    """A network of three features that is never called."""

    name, dimensions, has_logits = "three", D, False
    facts: dict[str, Any] = {"type": "three"}  # noqa: RUF012

    def __call__(self, images: torch.Tensor) -> Extracted:
        raise AssertionError("a file of statistics needs no features")


def test_mu_and_sigma_are_read_as_they_are(tmp_path: Path) -> None:
    path = save(tmp_path / "a [1].npz", mu_s=np.arange(4))  # as in a reference batch of ADM
    (mean, covariance), sha256 = read_statistics(path, D, "Inception")
    assert torch.equal(mean, torch.from_numpy(MEAN))
    assert torch.equal(covariance, torch.from_numpy(COVARIANCE))
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_compressed_file_of_float32_is_read_in_float64(tmp_path: Path) -> None:
    single = COVARIANCE.astype(np.float32)
    single[0, 1] = np.nextafter(single[0, 1], 1, dtype=np.float32)  # rounded differently from its transposed entry
    np.savez_compressed(tmp_path / "a.npz", mu=MEAN.astype(np.float32), sigma=single)
    mean, covariance = read(tmp_path / "a.npz")
    assert covariance.dtype == mean.dtype == torch.float64
    assert torch.equal(covariance, covariance.T)
    assert np.allclose(covariance.numpy(), COVARIANCE, rtol=1e-6)


def test_a_covariance_of_fewer_images_than_features_passes_after_rounding_to_float32(tmp_path: Path) -> None:
    dimensions = 200
    features = np.random.default_rng(0).normal(size=(20, dimensions)) * np.linspace(0.1, 10, dimensions)
    sigma = np.cov(features, rowvar=False).astype(np.float32)
    assert np.linalg.eigvalsh(sigma.astype(np.float64))[0] < -1e-9 * sigma.max()  # rounding shows
    path = save(tmp_path / "few.npz", mu=features.mean(axis=0), sigma=sigma)
    assert read_statistics(path, dimensions, "Inception")[0][1].shape == (dimensions, dimensions)


def test_a_file_is_a_reference_without_images(tmp_path: Path) -> None:
    path = save(tmp_path / "stats.npz")
    reference = open_reference(str(path), None, Three(), tmp_path / "cache", Work())
    assert (reference.name, reference.count, reference.sample) == ("file stats.npz", None, None)
    assert reference.perfect_model(1_000, Work()) is None
    assert reference.why_unknown == "unknown, since file stats.npz holds mean and covariance only"
    assert reference.facts["fingerprint"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert reference.facts["kind"] == "npz"
    assert torch.equal(reference.covariance, torch.from_numpy(COVARIANCE))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        (
            {"mu": MEAN[:2]},
            r"mu: expected real numbers of shape \(3,\), found float64 of shape \(2,\).*here are Inception.* features=",
        ),
        ({"sigma": COVARIANCE[:2]}, r"sigma: expected real numbers of shape \(3, 3\), found float64 of shape \(2, 3\)"),
        ({"mu": np.array([1.0, np.nan, 0.0])}, "expected finite numbers"),
        ({"sigma": COVARIANCE * np.inf}, "expected finite numbers"),
        ({"sigma": np.triu(COVARIANCE)}, "expected a covariance as sigma.*opposite entries that differ by up to 0.5"),
        ({"sigma": -COVARIANCE}, "found eigenvalues from -4"),
        ({"sigma": np.eye(D) + 5 * (1 - np.eye(D))}, "eigenvalues from -4.000 to 11.00"),
        ({"sigma": np.zeros((D, D))}, "and one above; found eigenvalues from 0.* to 0"),
        ({"sigma": COVARIANCE * 1j}, "sigma: expected real numbers .* found complex128"),
    ],
)
def test_arrays_that_are_no_statistics_of_these_features_are_refused(
    tmp_path: Path, arrays: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(NcsnxError, match=complaint) as error:
        read(save(tmp_path / "stats.npz", **arrays))
    assert re.search(r"stats\.npz(, array (mu|sigma))?: ", str(error.value))


def _not_there(path: Path) -> None:
    """Writes no file."""


def _one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, MEAN)


def _no_sigma(path: Path) -> None:
    np.savez(path, mu=MEAN, covariance=COVARIANCE)


@pytest.mark.parametrize("make", [_not_there, os.mkfifo, _one_array, _no_sigma])
def test_what_is_no_such_file_is_one_line_that_names_it(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "stats.npz"
    make(path)
    with pytest.raises(NcsnxError) as error:
        read(path)
    assert re.match(rf"{re.escape(str(path))}(, array mu)?: ", str(error.value))
    assert "\n" not in str(error.value)
    assert "allow_pickle=True" not in str(error.value)

"""A checkpoint's recorded scores are those of its weights and its experiment, and no others."""

from pathlib import Path
from typing import Any

import pytest

from ncsnx.config.codec import identity
from ncsnx.evaluation.reference import PerfectModel
from ncsnx.exchange.recorded_scores import recorded_scores, without_folders
from ncsnx.quantities import with_error
from ncsnx.runs.folder import Run
from ncsnx.runs.score_files import ScoreFile
from tests.config.examples import minimal

OWN = "a" * 64


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs", "one", minimal(), {}, None, "f" * 64)


def sweep(place: Path, metric: str, row: dict[str, Any], **protocol: object) -> None:
    whole = {"measure": "distance", "identity": identity(minimal()), "n": 100, **protocol}
    scores = ScoreFile.open(place, whole, metric, f"{protocol.get('n', 100)} images")
    scores.add({"step": 10, "weights_sha256": OWN, "score": 5.0, **row}, "2026-01-01")


def test_the_numbers_of_every_sweep_are_found_those_of_the_most_images_first(run: Run) -> None:
    sweep(run.loss / "one", "held-out loss", {"score": 12.5, "levels": [1.0]}, measure="loss", n=99_999)
    sweep(run.likelihood / "one", "bits per dimension", {"score": 2.5, "error": 0.25}, measure="likelihood", n=99_999)
    sweep(run.fid / "few", "FD (digits classifier 1a2b3c4d)", {"error": 0.25, "kernel_distance": 0.5}, n=100)
    covered = {"precision": 0.5, "recall": 0.25, "inception_score": 2.0, "inception_score_spread": 0.125}
    sweep(run.fid / "many", "FID", {"error": 0.25, "kernel_distance": 0.5, **covered}, n=1_000)
    found = recorded_scores(run, minimal(), 10, OWN)
    assert [
        tuple((one.name, with_error(one.value, one.error)) for one in score.measured) for score in found.scores
    ] == [
        (
            ("FID", "5.00 ± 0.25"),
            ("KID", "0.5000"),
            ("precision", "0.5000"),
            ("recall", "0.2500"),
            ("IS", "2.00 ± 0.12"),
        ),
        (("FD (digits classifier 1a2b3c4d)", "5.00 ± 0.25"), ("KD (digits classifier 1a2b3c4d)", "0.5000")),
        (("bits per dimension", "2.50 ± 0.25"),),
        (("held-out loss", "12.50"),),
    ]
    assert [score.caption for score in found.scores] == ["1000 images", "100 images", "99999 images", "99999 images"]
    assert found.scores[0].protocol["n"] == 1_000
    assert found.unreadable == ()


def test_a_perfect_model_comes_after_the_score_that_it_is_held_beside(run: Run) -> None:
    sweep(run.fid / "one", "FID", {"error": 0.25, "kernel_distance": 0.5})
    scores = ScoreFile.read(run.fid / "one")
    perfect = PerfectModel(score=1.25, spread=0.125, n=100, reference_images=1_000, drawn=100, draws=5)
    scores.perfect_model = perfect.to_json()
    scores.write()
    (score,) = recorded_scores(run, minimal(), 10, OWN).scores
    assert [one.name for one in score.measured] == [
        "FID",
        "FID of a perfect model (100 real images against the rest)",
        "KID",
    ]
    assert (score.measured[1].value, score.measured[1].error) == (1.25, 0.125)


def test_scores_of_other_weights_another_step_or_another_experiment_are_not_its_own(run: Run) -> None:
    sweep(run.fid / "other-weights", "FID", {"weights_sha256": "b" * 64})
    sweep(run.fid / "other-step", "FID", {"step": 20})
    sweep(run.fid / "other-experiment", "FID", {}, identity="c" * 64)
    assert recorded_scores(run, minimal(), 10, OWN).scores == ()


def test_a_sweep_that_cannot_be_read_is_named_and_hides_no_other(run: Run) -> None:
    sweep(run.fid / "good", "FID", {})
    (run.fid / "broken").mkdir()
    (run.fid / "broken" / "scores.json").write_text("{")
    found = recorded_scores(run, minimal(), 10, OWN)
    assert len(found.scores) == 1
    (line,) = found.unreadable
    assert "broken/scores.json: expected JSON" in line


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("path", ["/home/ada/patients (2) (0123abcd)/scans", "../scans", "scans"])
def test_a_caption_names_a_folder_without_its_path(kind: str, path: str) -> None:
    def caption(place: str) -> str:
        why = f"unknown, since {kind} {place} holds mean and covariance only"
        return f"10 images; features: Inception (1a2b3c4d); reference: {kind} {place} (4d3c2b1a); perfect model: {why}"

    assert without_folders(caption(path)) == caption("scans")
    split = "10 images; reference: digits, training images (1,498) (4d3c2b1a); perfect model: 1.2"
    assert without_folders(split) == split

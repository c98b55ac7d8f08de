"""The page's server: what it answers, refuses and restores, by real processes."""

import io
import os
import signal
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

import ncsnx
from ncsnx.page.server import MOST_JSON
from tests.page.serving import Served, served
from tests.training.tiny import command

SIDES = (40, 32)
"""Width and height of the picture."""
NOISE = 20


def picture(channels: int = 3) -> Image.Image:
    """A smooth picture with white noise."""
    x, y = np.meshgrid(np.linspace(40, 200, SIDES[0]), np.linspace(0, 30, SIDES[1]))
    smooth = np.stack([x + y, 220 - x, x], axis=2)[..., :channels]
    values = smooth + NOISE * np.random.default_rng(0).standard_normal(smooth.shape)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8).squeeze())


def content_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


@pytest.fixture(scope="module")
def page(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("page"), "--runs", str(trained / "runs"), "--keep", "kept") as found:
        yield found


@pytest.fixture(scope="module")
def uploaded(page: Served) -> str:
    """Id of the picture."""
    return str(page.json("pictures", content_of(picture()))["id"])


def test_the_policy_allows_the_page_itself_and_nothing_from_elsewhere(page: Served) -> None:
    answer = page.request()
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["script-src"].startswith("'sha256-")
    assert policy["style-src"].startswith("'sha256-")
    text = answer.read().decode()
    assert " style=" not in text  # the policy forbids both
    assert " onclick=" not in text
    assert "http" not in text


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("http://127.0.0.1:{port}/", {}, 404),
        ("http://127.0.0.1:{port}/{wrong}/models", {}, 404),
        ("models", {"Host": "evil.com"}, 400),
        ("models", {"Origin": "http://evil.com"}, 403),
        ("models", {"Origin": "null"}, 403),
        ("jobs/../../etc/passwd", {}, 404),
        ("jobs/%2e%2e%2f%2e%2e%2fetc%2fpasswd", {}, 404),
        ("runs/..", {}, 404),
        ("pictures/0000000000000000/shown.png", {}, 404),
    ],
)
def test_who_lacks_the_token_or_comes_from_elsewhere_is_refused(
    page: Served, path: str, headers: dict[str, str], status: int
) -> None:
    port = page.address.split(":")[2].split("/")[0]
    assert page.request(path.format(port=port, wrong="0" * 32), **headers).status == status


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (b"[]", "Expected a JSON object"),
        (b"{", "Expected a JSON object"),
        (b'{"task": "erase"}', "task"),
        (b'{"task": "denoise", "noise": "1"}', "noise"),
        (b'{"task": "denoise", "save": "/tmp/x"}', "save"),
        (b'{"task": "deblur"}', "at least 1 alternative"),
        (b'{"task": "denoise", "n": 1000}', "0 to 16 alternatives"),
        (b'{"task": "inpaint", "n": 1}', "nothing is painted"),
        (b"1" * (MOST_JSON + 1), "too much"),
    ],
)
def test_what_the_page_never_asks_for_is_refused(page: Served, uploaded: str, asked: bytes, said: str) -> None:
    body = asked.replace(b'{"', b'{"picture": "' + uploaded.encode() + b'", "model": "photographs", "')
    answer = page.request("jobs", body)
    assert 400 <= answer.status < 500
    assert said in answer.read().decode()


def test_a_model_that_is_not_listed_is_refused(page: Served, uploaded: str) -> None:
    assert page.request("pictures?model=/etc", content_of(picture())).status == 404
    body = f'{{"picture": "{uploaded}", "model": "../x", "task": "denoise"}}'.encode()
    assert page.request("jobs", body).status == 404


def test_an_uploaded_picture_is_said_to_be_what_it_is(page: Served) -> None:
    color = page.json("pictures", content_of(picture()))
    assert color["size"] == [*SIDES]
    assert not color["gray"]
    assert not color["jpeg"]
    assert color["noise"] * 255 == pytest.approx(NOISE, rel=0.25)  # of 3,840 values, and clipped nowhere
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    turned = page.json("pictures", content_of(picture(1), "JPEG", exif=exif))
    assert turned["size"] == [*reversed(SIDES)]
    assert turned["gray"]
    assert turned["jpeg"]
    for name in ("shown.png", "whole.png"):
        shown = Image.open(io.BytesIO(page.request(f"pictures/{turned['id']}/{name}").read()))
        assert shown.size == (SIDES[1], SIDES[0])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"not a picture", "not a picture of a known format"),
        (content_of(picture())[:700], "truncated"),
    ],
)
def test_a_broken_file_is_a_sentence(page: Served, content: bytes, said: str) -> None:
    answer = page.request("pictures", content)
    assert answer.status == 400
    assert said in answer.read().decode()


def test_a_denoised_picture_is_that_of_the_library(page: Served, uploaded: str, tmp_path: Path) -> None:
    id = page.begin(uploaded, "denoise")
    job = page.ended(id)
    assert job["state"] == "done", job["error"]
    before, after = job["command"]
    assert (before, after.partition(" --runs ")[0]) == ("ncsnx restore photographs --denoise ", " --save restored.png")
    picture().save(tmp_path / "given.png")
    ncsnx.restore("photographs", denoise=tmp_path / "given.png", save=tmp_path / "saved.png", progress=False)
    restored = Image.open(io.BytesIO(page.request(f"jobs/{id}/restored.png").read()))
    # the processes may differ in their threads, and so in rounding
    assert np.abs(np.asarray(restored, int) - np.asarray(Image.open(tmp_path / "saved.png"), int)).max() <= 1


def test_painted_holes_are_filled_and_all_else_is_left(page: Served, uploaded: str) -> None:
    strokes = [
        {"points": [[8, 8], [20, 8]], "size": 5},
        {"points": [[30, 20], [36, 26]], "size": 0},
        {"points": [[32, 22], [34, 24]], "size": 0, "erase": True},
    ]
    id = page.begin(uploaded, "inpaint", n=2, quick=True, strokes=strokes)
    job = page.ended(id)
    assert job["state"] == "done", job["error"]
    with zipfile.ZipFile(io.BytesIO(page.request(f"jobs/{id}/all.zip").read())) as archive:
        files = {name: np.asarray(Image.open(archive.open(name))) for name in archive.namelist()}
    names = {"restored.png", "before.png", "mask.png", "spread.png", "alternative-1.png", "alternative-2.png"}
    assert files.keys() == names == set(job["files"])
    hole = files["mask.png"] == 255
    assert set(np.unique(files["mask.png"])) == {0, 255}
    assert hole[8, 8:21].all()
    assert hole[20:26, 30:36].sum() == 32
    assert hole[22:24, 32:34].sum() == 0
    for name in ("restored.png", "alternative-1.png", "alternative-2.png"):
        assert np.abs(files[name][~hole].astype(int) - np.asarray(picture())[~hole]).max() <= 1
        assert (files[name][hole] != np.asarray(picture())[hole]).any()
    assert 0 < job["spread"] < 1
    assert (files["spread.png"][~hole] == files["spread.png"].min(axis=(0, 1))).all(), "known pixels don't spread"
    assert files["spread.png"][hole].max() > 200, "the largest spread is bright"


def test_restorations_wait_for_each_other_and_stop_at_once(page: Served, uploaded: str) -> None:
    slow = {"n": 16, "blur": 1.5}
    first = page.begin(uploaded, "deblur", **slow)
    page.until(first, "running")
    second = page.begin(uploaded, "deblur", **slow)
    waiting = page.json(f"jobs/{second}")
    assert waiting["state"] == "waiting"
    assert waiting["is_behind"]
    assert page.json(f"jobs/{second}/stop", b"") == {}
    assert page.json(f"jobs/{second}")["state"] == "stopped"
    assert page.json(f"jobs/{first}")["state"] == "running"
    assert not page.json(f"jobs/{first}")["is_behind"]
    assert page.json(f"jobs/{first}/stop", b"") == {}  # answers once the process has ended
    assert page.json(f"jobs/{first}")["state"] == "stopped"
    third = page.begin(uploaded, "deblur", **slow)
    page.until(third, "running")
    page.json(f"jobs/{third}/stop", b"")


def test_a_process_that_is_killed_is_a_sentence(page: Served, uploaded: str) -> None:
    id = page.begin(uploaded, "deblur", n=16)
    page.until(id, "running")
    for worker in page.workers():
        os.kill(worker, signal.SIGKILL)
    job = page.ended(id)
    assert job["state"] == "failed"
    assert "probably because memory ran out" in job["error"]


def test_the_page_lists_runs_and_has_their_reports(page: Served) -> None:
    listed = page.json("models")
    assert listed["models"] == ["photographs", "digits"]
    (run,) = listed["runs"]
    report = page.request(f"runs/{run['name']}")
    assert b": ncsnx report</title>" in report.read()
    assert "script-src" not in report.headers["Content-Security-Policy"]


def test_a_model_of_a_fixed_size_takes_pictures_of_it(page: Served) -> None:
    small = picture(1).resize((8, 8))
    seen = page.json("pictures?model=digits", content_of(small))
    assert (seen["fixed"], seen["channels"]) == ([8, 8], 1)
    large = page.json("pictures?model=digits", content_of(picture(1)))
    strokes = [{"points": [[15, 10], [25, 20]], "size": 0}]
    asked = {"model": "digits", "fit": True, "n": 1, "quick": True, "strokes": strokes}
    job = page.ended(id := page.begin(large["id"], "inpaint", **asked))
    assert job["state"] == "done", job["error"]
    for name in ("before.png", "restored.png"):
        assert Image.open(io.BytesIO(page.request(f"jobs/{id}/{name}").read())).size == (8, 8)


def test_a_mask_that_marks_nothing_is_a_sentence_without_paths(page: Served, uploaded: str) -> None:
    stroke = {"points": [[8, 8], [20, 20]], "size": 0}
    job = page.ended(page.begin(uploaded, "inpaint", n=1, strokes=[stroke, {**stroke, "erase": True}]))
    assert (job["state"], job["error"][:29]) == ("failed", "Nothing or everything is pain")
    job = page.ended(page.begin(uploaded, "jpeg"))
    assert job["error"].startswith("The photograph: expected a JPEG")


def test_the_restorations_that_run_are_listed_and_a_packed_one_is_whole_for_all(page: Served, uploaded: str) -> None:
    id = page.begin(uploaded, "denoise")
    assert [one["id"] for one in page.json("jobs")] == [id]
    assert page.ended(id)["state"] == "done"
    assert page.json("jobs") == []
    with ThreadPoolExecutor(4) as clients:
        packed = list(clients.map(lambda _: page.request(f"jobs/{id}/all.zip").read(), range(4)))
    assert len(set(packed)) == 1
    zipfile.ZipFile(io.BytesIO(packed[0])).testzip()


def test_ctrl_c_removes_what_is_not_kept(tmp_path: Path) -> None:
    with served(tmp_path) as page:
        uploaded = str(page.json("pictures", content_of(picture()))["id"])
        assert page.ended(page.begin(uploaded, "denoise"))["state"] == "done"
        assert list((tmp_path / "temporary").glob("ncsnx-page-*/results/denoise-*/restored.png"))
        page.until(page.begin(uploaded, "deblur", n=16), "running")
        workers = page.workers()
        assert page.interrupted() == 130
    assert list((tmp_path / "temporary").iterdir()) == []
    assert not [id for id in workers if Path(f"/proc/{id}/cmdline").exists()]
    assert list(tmp_path.iterdir()) == [tmp_path / "temporary"]


def test_a_port_that_is_taken_is_a_sentence(page: Served, tmp_path: Path) -> None:
    port = page.address.split(":")[2].split("/")[0]
    result = command("page", "--port", port, "--no-browser", folder=tmp_path)
    assert result.code == 2
    assert f"--port {port}: Address already in use" in result.err

"""The page in Debian's Chromium: `nox -s page`."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.page.serving import LIMIT_S, Served, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.page
WIDTH, HEIGHT = 96, 64


@pytest.fixture(scope="module")
def address(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("page"), "--runs", str(trained / "runs")) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def tab(browser: "Browser", address: Served) -> "Iterator[Page]":
    """The page, whose errors and requests to elsewhere fail the test."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(1000 * LIMIT_S)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda one: problems.append(one.text) if "Content Security Policy" in one.text else None)
    page.on("request", lambda one: problems.append(one.url) if not is_own(one.url, address) else None)
    page.goto(address.address)
    yield page
    page.close()
    assert problems == []


def is_own(url: str, address: Served) -> bool:
    return url.startswith((address.address, "data:", "blob:"))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of two colors with noise of 20 of 255."""
    values = np.full((HEIGHT, WIDTH, 3), 90.0)
    values[:, WIDTH // 2 :] = 170, 120, 80
    values += 20 * np.random.default_rng(0).standard_normal(values.shape)
    path = tmp_path_factory.mktemp("pictures") / "my photo.png"
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path)
    return path


def choose(tab: "Page", file: Path) -> None:
    """Chooses a photograph, and waits until it is seen."""
    tab.set_input_files("#file", file)
    tab.wait_for_selector(f"#about:has-text('{file.name}: ')")


def slide(tab: "Page", id: str, value: float) -> None:
    tab.fill(f"#{id}", str(value))


def faults(tab: "Page") -> list[str]:
    """What axe-core finds."""
    from axe_core_python.sync_playwright import Axe

    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in Axe().run(tab)["violations"]]


def test_noise_is_estimated_removed_compared_and_downloaded(tab: "Page", noisy: Path, tmp_path: Path) -> None:
    choose(tab, noisy)
    estimate = re.fullmatch(r"([0-9.]+) of 255, estimated", tab.inner_text("#noise-said"))
    assert estimate is not None
    assert float(estimate[1]) == pytest.approx(20, rel=0.2)
    tab.wait_for_selector("#cost:has-text('Takes about')")
    tab.click("#start")
    tab.wait_for_selector("#say:has-text('Done.')")
    assert tab.inner_text("#command").startswith(
        "ncsnx restore photographs --denoise './my photo.png' --save restored.png --runs "
    )
    slide(tab, "split", 25)
    assert "25%" in tab.eval_on_selector("#over", "one => getComputedStyle(one).clipPath")
    with tab.expect_download() as download:
        tab.click("#save")
    assert download.value.suggested_filename == "my photo-restored.png"
    download.value.save_as(tmp_path / "restored.png")
    given, restored = (np.asarray(Image.open(path), float) for path in (noisy, tmp_path / "restored.png"))
    left = np.s_[8:-8, 8 : WIDTH // 2 - 8]
    assert restored[left].std(axis=(0, 1)).max() < given[left].std(axis=(0, 1)).min() / 4
    slide(tab, "noise", 40)
    assert tab.inner_text("#noise-said") == "40 of 255"
    tab.click("#estimated")
    assert tab.inner_text("#noise-said") == estimate[0]


def test_the_mean_comes_first_then_alternatives_and_their_spread(tab: "Page", noisy: Path) -> None:
    choose(tab, noisy)
    slide(tab, "n", 4)
    tab.click("#start")
    tab.wait_for_selector("#result:not([hidden])")
    assert not tab.is_hidden("#stop")  # it still runs
    tab.wait_for_selector("#say:has-text('Done.')")
    labels = tab.locator("#choices button").all_inner_texts()
    assert labels == ["best guess", *(f"alternative {number}" for number in range(1, 5)), "spread"]
    tab.click("#choices button:last-child")
    assert "there the photograph doesn't say what was in it" in tab.inner_text("#meaning")
    with tab.expect_download() as download:
        tab.click("#all")
    assert download.value.suggested_filename == "restored.zip"


def test_a_hole_is_painted_erased_and_filled(tab: "Page", noisy: Path) -> None:
    choose(tab, noisy)
    tab.check("input[value=inpaint]")
    assert tab.is_disabled("#start")
    assert tab.inner_text("#cost") == "Paint over what should be filled in."
    slide(tab, "brush", 30)
    box = tab.locator("#paint").bounding_box()
    assert box is not None

    def paint() -> None:
        tab.mouse.move(box["x"] + 100, box["y"] + 100)
        tab.mouse.down()
        tab.mouse.move(box["x"] + 200, box["y"] + 120, steps=4)
        tab.mouse.up()

    paint()
    painted = "() => document.querySelector('#paint').getContext('2d').getImageData(0, 0, 96, 64).data.some(one => one)"
    assert tab.evaluate(painted)
    tab.check("#erase")
    paint()
    tab.click("#clear")
    assert not tab.evaluate(painted)
    assert tab.is_disabled("#start")
    tab.uncheck("#erase")
    paint()
    slide(tab, "n", 1)
    tab.click("#start")
    tab.wait_for_selector("#say:has-text('Done.')")
    assert "--mask mask.png --quick --n 1 --save restored.png" in tab.inner_text("#command")


def test_a_hole_is_marked_and_filled_by_the_keyboard_alone(tab: "Page", noisy: Path) -> None:
    choose(tab, noisy)
    tab.focus("input[value=denoise]")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    assert tab.is_checked("input[value=inpaint]")
    tab.focus("summary")
    tab.keyboard.press("Enter")
    for value in (10, 12, 20, 22):  # from field to field
        tab.keyboard.press("Tab")
        tab.keyboard.press("Control+a")
        tab.keyboard.type(str(value))
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    assert tab.is_enabled("#start")
    tab.focus("#start")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#stop:not([hidden])")
    tab.focus("#stop")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#say:has-text('Stopped.')", timeout=3000)
    assert tab.evaluate("() => document.activeElement.id") == "start"


def test_a_lost_connection_and_another_upload_lose_nothing(tab: "Page", noisy: Path, tmp_path: Path) -> None:
    Image.new("RGB", (3_000, 2_000), "teal").save(tmp_path / "other.png")
    choose(tab, noisy)
    tab.set_input_files("#file", tmp_path / "other.png")
    slide(tab, "noise", 30)
    assert tab.is_disabled("#start")  # the other picture is being read
    tab.wait_for_selector("#about:has-text('other.png: ')")
    choose(tab, noisy)
    lost = []
    tab.route("**/jobs/*", lambda route: route.abort() if not lost.append(1) and len(lost) < 3 else route.continue_())
    tab.click("#start")
    tab.wait_for_selector("#say:has-text('Trying again')")
    tab.wait_for_selector("#say:has-text('Done.')")


def test_a_reload_finds_the_restoration_and_another_tab_waits(tab: "Page", browser: "Browser", noisy: Path) -> None:
    choose(tab, noisy)
    tab.check("input[value=deblur]")
    slide(tab, "n", 8)
    tab.uncheck("#quick")
    tab.click("#start")
    tab.wait_for_selector("#remaining:has-text('left')")
    other = browser.new_page()
    other.goto(tab.url.partition("#")[0])
    choose(other, noisy)
    other.click("#start")
    other.wait_for_selector("#say:has-text('Another restoration runs')")
    tab.reload()
    tab.wait_for_selector("#remaining:has-text('left')")
    assert (tab.is_checked("input[value=deblur]"), tab.input_value("#n")) == (True, "8")
    tab.wait_for_selector("#others:has-text('Another restoration waits')")
    assert tab.inner_text("#about").startswith("my photo.png: 96 × 64")
    tab.click("#stop")
    tab.wait_for_selector("#say:has-text('Stopped.')", timeout=3000)
    other.wait_for_selector("#say:has-text('Done.')", timeout=1000 * LIMIT_S)
    other.close()


def test_a_gray_jpeg_is_known_as_one(tab: "Page", noisy: Path, tmp_path: Path) -> None:
    Image.open(noisy).convert("L").save(tmp_path / "gray.jpg", quality=40)
    choose(tab, tmp_path / "gray.jpg")
    assert tab.inner_text("#about") == "gray.jpg: 96 × 64, gray, JPEG"
    tab.check("input[value=jpeg]")
    tab.click("#start")
    tab.wait_for_selector("#say:has-text('Done.')")


def test_a_broken_file_is_a_sentence_and_the_page_goes_on(tab: "Page", noisy: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(noisy.read_bytes()[:500])
    tab.set_input_files("#file", tmp_path / "broken.png")
    tab.wait_for_selector("#say.bad:has-text('This picture can\\'t be read')")
    choose(tab, noisy)
    assert tab.is_enabled("#start")


def test_thirty_megapixels_are_read_and_their_time_said(tab: "Page", noisy: Path, tmp_path: Path) -> None:
    Image.open(noisy).resize((6_600, 4_546)).save(tmp_path / "large.jpg")
    choose(tab, tmp_path / "large.jpg")
    tab.wait_for_selector("#cost:has-text('Takes about'), #cost:has-text('There is memory for')")
    tab.check("input[value=super_resolve]")
    tab.select_option("#factor", "4")
    tab.wait_for_selector("#cost:has-text('There is memory for')")
    assert tab.is_disabled("#start")


@pytest.mark.parametrize("width", [400, 1_600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_has_no_fault_that_axe_core_finds(tab: "Page", noisy: Path, width: int, scheme: str) -> None:
    tab.set_viewport_size({"width": width, "height": 900})
    tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    assert faults(tab) == []
    choose(tab, noisy)
    tab.check("input[value=inpaint]")
    assert faults(tab) == []
    tab.check("input[value=denoise]")
    tab.click("#start")
    tab.wait_for_selector("#say:has-text('Done.')")
    assert faults(tab) == []
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= width


def test_a_run_can_be_chosen_and_its_report_opened(tab: "Page", tmp_path: Path) -> None:
    tab.wait_for_selector("#model option:has-text('digits')", state="attached")
    tab.select_option("#model", "digits")
    Image.fromarray(np.full((8, 8), 90, np.uint8)).save(tmp_path / "small.png")
    choose(tab, tmp_path / "small.png")
    with tab.expect_popup() as popup:
        tab.click("#runs a")
    assert "ncsnx report" in popup.value.title()

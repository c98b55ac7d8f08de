"""Opens pages in headless Chromium, by the DevTools protocol over a pipe: `nox -s browser`.

A page must say nothing on the console, request nothing, fit its window, and read in light and dark.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (380, 900, 1440)
ROOT = Path(__file__).parents[2]
LIMIT_S = 120


class Browser:
    """A browser with one tab."""

    def __init__(self, chromium: str, profile: Path) -> None:
        theirs, ours = os.pipe(), os.pipe()
        options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}")

        def connect() -> None:
            """The browser reads messages from descriptor 3 and writes to 4, in the child."""
            ends = os.dup(theirs[0]), os.dup(ours[1])
            for descriptor, end in zip((3, 4), ends, strict=True):
                os.dup2(end, descriptor)

        self.process = subprocess.Popen(
            [chromium, *options, "--remote-debugging-pipe", "about:blank"],
            pass_fds=(3, 4),
            preexec_fn=connect,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs[0])
        os.close(ours[1])
        self.to, self.of = os.fdopen(theirs[1], "wb"), os.fdopen(ours[0], "rb")
        self.number, self.buffer, self.session = 0, b"", ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a method of the protocol; events on the way are kept."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.to.write(json.dumps(message).encode() + b"\0")
        self.to.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def open(self, page: Path, width: int, mode: str, media: str = "screen") -> None:
        """Opens a page in a window of this width and waits until it is loaded."""
        features = [{"name": "prefers-color-scheme", "value": mode}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression, evaluated from outside of the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def press(self, key: str) -> None:
        """Presses and releases a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key])

    def heard(self) -> tuple[list[str], list[str]]:
        """(console messages and violations of the policy, addresses that were requested) since the page was opened."""
        said = [
            json.dumps(event["params"])
            for event in self.events
            if event.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        ]
        requests = [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        return said, requests

    def close(self) -> None:
        self.to.close()
        self.process.terminate()
        self.process.wait(30)
        self.of.close()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            piece = os.read(self.of.fileno(), 1 << 16)
            assert piece, "the browser ended"
            self.buffer += piece
        message, _, self.buffer = self.buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


KEYS = {"ArrowLeft": 37, "ArrowRight": 39}
CONTRAST = """
(() => {
  const rgb = text => text.match(/[0-9.]+/g).map(Number);
  const luminance = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  let least = [99, ''];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own || e.matches('.skip')) continue;
    const style = getComputedStyle(e);
    const ink = rgb(e instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [luminance(ink), luminance(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < least[0]) least = [ratio, e.outerHTML.slice(0, 80)];
  }
  return least;
})()
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page about two small runs that were trained and measured."""
    folder = tmp_path_factory.mktemp("reported")
    small = ("model.width=8", "batch_size=32", "steps=30", "checkpoint_every=10", "sampler.steps_per_level=1")
    for words in (
        ("train", "digits", *small, "--note", "<script>alert(1)</script>"),
        ("train", "digits", *small, "seed=3", "--run", "other"),
        ("loss", "digits", "--range", "all"),
        ("sample", "digits", "--n", "4"),
        ("report", "digits", "other", "--out", "page.html"),
    ):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(
            [sys.executable, "-m", "ncsnx", *words], cwd=folder, env=environment, check=True, timeout=LIMIT_S
        )
    return folder / "page.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium isn't installed")
    browser = Browser(CHROMIUM, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_a_page_says_nothing_requests_nothing_and_fits(browser: Browser, page: Path, width: int, mode: str) -> None:
    browser.open(page, width, mode)

    said, requests = browser.heard()
    assert said == []
    assert [address for address in requests if not address.startswith("data:")] == [page.resolve().as_uri()]
    assert browser.value("document.documentElement.scrollWidth") <= width
    ratio, where = browser.value(CONTRAST)
    assert ratio >= 4.5, where


def test_the_policy_refuses_what_a_page_must_not_do(browser: Browser, page: Path, tmp_path: Path) -> None:
    """So the silence of the other tests means something."""
    changed = tmp_path / "changed.html"
    changed.write_text(page.read_text().replace("</main>", "<p style='color: red'>x</p><script>1</script></main>"))
    browser.open(changed, 900, "light")

    said, _ = browser.heard()
    assert sum("Content Security Policy" in line for line in said) == 2


def test_arrow_keys_move_the_slider(browser: Browser, page: Path) -> None:
    browser.open(page, 900, "light")
    shown = "[...document.querySelectorAll('.slider figure')].map(f => getComputedStyle(f).display != 'none')"
    assert browser.value(f"{shown}.slice(0, 3)") == [False, False, True]
    browser.value("document.querySelector('.slider input:checked').focus()")
    browser.press("ArrowLeft")
    assert browser.value(f"{shown}.slice(0, 3)") == [False, True, False]


def test_on_paper_every_picture_is_shown(browser: Browser, page: Path) -> None:
    browser.open(page, 900, "dark", media="print")
    hidden = "[...document.querySelectorAll('section, figure')].filter(e => e.getClientRects().length == 0).length"
    assert browser.value(hidden) == 0
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"

"""docs/images/page.png: the page of `ncsnx page` in Chromium, with a noisy photograph and the restored one.

pip install . scikit-image playwright   # and Debian's chromium
python docs/images/page.py
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import skimage.data
from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent


def main() -> None:
    with TemporaryDirectory() as folder:
        portrait = skimage.data.astronaut()[0:384].astype(float)  # public domain: NASA
        portrait += 25 * np.random.default_rng(0).standard_normal(portrait.shape)
        photo = Path(folder, "portrait.png")
        Image.fromarray(portrait.clip(0, 255).astype(np.uint8)).save(photo)
        server = subprocess.Popen(
            [sys.executable, "-m", "ncsnx", "page", "--no-browser"], cwd=folder, stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            tab = browser.new_page(viewport={"width": 1060, "height": 800})
            tab.goto(server.stdout.readline().strip())
            tab.set_input_files("#file", photo)
            tab.wait_for_selector("#start:not([disabled])", timeout=60_000)
            tab.wait_for_selector("#cost:has-text('Takes about')", timeout=60_000)
            tab.fill("#n", "4")
            tab.click("#start")
            tab.wait_for_selector("#say:has-text('Done.')", timeout=1_800_000)
            tab.fill("#split", "46")
            tab.wait_for_timeout(1_000)
            tab.screenshot(path=HERE / "page.png")
            browser.close()
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()

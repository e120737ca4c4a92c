"""Take the pictures of the page to look inside a network: docs/images/explorer*.png.

dvc repro && dvc exp run -n no-mask -S causal=false
python -m docs.make.explorer_pictures      (needs Chromium and its driver: apt-get install chromium chromium-driver)
"""

from __future__ import annotations

import argparse
import base64
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docs.make import pages
from stages.common import command
from stages.common.errors import UserError

PAGE, FOLDER = Path("data/explain/explorer.html"), Path("docs/images")
PATIENCE = 120  # seconds for a page to draw itself, on a busy machine
DESKTOP, PHONE = 1280, 390  # pixels
NEXT = "document.querySelector('[data-role=next]')?.click()"  # the head that looks at the answer, where there is one


@dataclass(frozen=True)
class Picture:
    """One picture of a page."""

    name: str  # of the file
    panel: str = ""  # its id; "" = the page's top
    width: int = DESKTOP
    dark: bool = False  # whether the reader's system is dark
    script: str = ""  # what is done on the page before


MASKED = [
    Picture("explorer"),
    Picture("explorer-surprise", "surprise"),
    Picture("explorer-attention", "attention"),
    Picture("explorer-layers", "layers"),
    Picture("explorer-phone", width=PHONE, dark=True),
]
UNMASKED = [
    Picture("explorer-no-mask", "attention", script=NEXT),
    Picture("explorer-no-mask-surprise", "surprise"),
]


def main(args: argparse.Namespace) -> None:
    """All pictures of the page with the mask, then those of the page without."""
    with browser() as window, tempfile.TemporaryDirectory() as folder:
        unmasked = Path(folder) / "explorer.html"
        unmasked.write_text(pages.read_output(PAGE, "no-mask"), encoding="utf-8")
        for file, pictures in ((PAGE, MASKED), (unmasked, UNMASKED)):
            for picture in pictures:
                take(window, file, picture)


def take(window: Any, file: Path, picture: Picture) -> None:
    """Open the page in a window of the picture's width, and save what is to be seen."""
    media = {"features": [{"name": "prefers-color-scheme", "value": "dark" if picture.dark else "light"}]}
    window.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    resize(window, picture.width, 900)
    open_page(window, file)
    window.execute_script(picture.script)
    if picture.panel:  # all of it at once: the picker at the window's top must not lie over it
        resize(window, picture.width, int(window.execute_script("return document.documentElement.scrollHeight")))
        box = "const box = document.getElementById(arguments[0]).getBoundingClientRect(); return [box.top, box.height]"
        top, height = window.execute_script(box, picture.panel)
    else:
        top, height = 0, 900
    time.sleep(0.5)  # what is drawn again at another size
    clip = {"x": 0, "y": top - 8 if top else 0, "width": picture.width, "height": height + (16 if top else 0), "scale": 1}
    shot = window.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": clip})
    path = FOLDER / f"{picture.name}.png"
    path.write_bytes(base64.b64decode(shot["data"]))
    print(f"{path}: {path.stat().st_size // 1024} KiB")


def resize(window: Any, width: int, height: int) -> None:
    """Give the window's inside this size in pixels; below 600 it is a phone."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def open_page(window: Any, file: Path) -> None:
    """Open the page and wait until it is drawn."""
    window.get(file.resolve().as_uri())
    end = time.monotonic() + PATIENCE
    while window.execute_script("return document.body.dataset.ready") != "yes":
        if time.monotonic() > end:
            raise UserError(f"{file} did not draw itself within {PATIENCE} s: {window.get_log('browser')}")
        time.sleep(0.1)


@contextmanager
def browser() -> Iterator[Any]:
    """A Chromium without a window, which writes down its console and every request."""
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (chromium and driver):
        raise UserError("Chromium or its driver is not here. Install them: apt-get install chromium chromium-driver")
    try:
        from selenium import webdriver
    except ImportError:
        raise UserError("the package selenium is not installed: pip install -r requirements-dev.txt") from None
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,1400"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield window
    finally:
        window.quit()


if __name__ == "__main__":
    command.run(main, __doc__)

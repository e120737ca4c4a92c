"""Take the pictures of the page in data/explain, docs/images/explorer*.png, and put the day into their captions.

python -m docs.make.pictures explorer      after `dvc repro`
python -m docs.make.pictures no-mask       of a network without a mask, after `dvc exp run -S causal=false`

It needs Chromium and its driver: apt-get install chromium chromium-driver.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.common import command, files
from stages.common.errors import UserError

PAGE, FOLDER = Path("data/explain/explorer.html"), Path("docs/images")
PATIENCE = 120  # seconds for a page to draw itself, on a busy machine
DESKTOP, PHONE = 1280, 390  # pixels
NEXT = "document.querySelector('[data-role=next]')?.click()"  # the head that looks at the answer, where there is one


@dataclass(frozen=True)
class Picture:
    """One picture of the explorer."""

    name: str  # of the file
    panel: str = ""  # its id; "" = the page's top
    width: int = DESKTOP
    dark: bool = False  # whether the reader's system is dark
    script: str = ""  # what is done on the page before


PICTURES = {
    "explorer": [
        Picture("explorer"),
        Picture("explorer-surprise", "surprise"),
        Picture("explorer-attention", "attention"),
        Picture("explorer-layers", "layers"),
        Picture("explorer-phone", width=PHONE, dark=True),
    ],
    "no-mask": [
        Picture("explorer-no-mask", "attention", script=NEXT),
        Picture("explorer-no-mask-surprise", "surprise"),
    ],
}
CAPTION = r"(\]\((?:docs/)?images/{}\.png\)\n\n\*[^*]*?[Tt]aken on )\d{{4}}-\d\d-\d\d"  # what is before the day


def main(args: argparse.Namespace) -> None:
    """Take the pictures of one kind."""
    page = files.require(PAGE, "explain")
    with browser() as window:
        for picture in PICTURES[args.kind]:
            take(window, page, picture)


def save(name: str, picture: bytes) -> None:
    """Write the picture, and today's date into its caption."""
    path = FOLDER / f"{name}.png"
    path.write_bytes(picture)
    print(f"{path}: {path.stat().st_size // 1024} KiB")
    for page in (Path("README.md"), *sorted(Path("docs").glob("*.md"))):
        before = page.read_text(encoding="utf-8")
        after = re.sub(CAPTION.format(name), rf"\g<1>{datetime.date.today()}", before)
        if after != before:
            files.write_text(page, after)


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
    save(picture.name, base64.b64decode(shot["data"]))


def resize(window: Any, width: int, height: int) -> None:
    """Give the window's inside this size in pixels; below 600 it is a phone."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def open_page(window: Any, file: Path) -> None:
    """Open the page and wait until it is drawn.

    Raises:
        UserError: it is not, after a long time.
    """
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
        raise UserError("Chromium or its driver is not installed. Install them: apt-get install chromium chromium-driver")
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
    command.run(main, __doc__, lambda parser: parser.add_argument("kind", choices=PICTURES))

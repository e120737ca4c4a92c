"""Take the pictures of what people see in a browser, docs/images/*.png, and put the day into their captions.

python -m docs.make.pictures explorer      the page to look inside the network, from data/explain, after `dvc repro`
python -m docs.make.pictures no-mask       the same of a network without a mask, after `dvc exp run -n no-mask -S causal=false`
python -m docs.make.pictures mlflow        MLflow's pages on this checkout's runs

It needs Chromium and its driver: apt-get install chromium chromium-driver.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docs.make import pages
from stages.common import command, files
from stages.common.errors import UserError
from stages.tracking import store
from stages.tracking.git import clean_environment
from tools import ui

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

CAPTION = r"(\]\((?:docs/)?images/{}\.png\)\n\n\*[^*]*?[Tt]aken on )\d{{4}}-\d\d-\d\d"  # what is before the day
HIDDEN = ".modebar, [data-component-id*='shared_view.banner'] {display: none !important}"  # bars over what is to be seen
CLOSED = {"mlflow.assistant.panelOpen_v1": "false", "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true"}  # an extra panel
MENU = "[data-component-id='mlflow_header.toggle_sidebar_button']"
CORNER = "[data-testid='draggable-card-resize-handle']"  # of a chart; pulled, all grow


def main(args: argparse.Namespace) -> None:
    """Take the pictures of one kind."""
    with browser() as window, tempfile.TemporaryDirectory() as folder:
        if args.kind == "mlflow":
            with mlflow() as address:
                runs(window, address)
        elif args.kind == "explorer":
            for picture in MASKED:
                take(window, files.require(PAGE, "explain"), picture)
        else:
            page = Path(folder) / "explorer.html"
            page.write_text(pages.read_output(PAGE, "no-mask"), encoding="utf-8")
            for picture in UNMASKED:
                take(window, page, picture)


def runs(window: Any, address: str) -> None:
    """MLflow's table of the runs, as `make ui` opens it, and its charts of the loss."""
    _, experiment_id = store.as_user_error(store.connect)
    page = store.table(address, experiment_id)
    for name, more, width, height, drawn in (
        ("runs", "", 1540, 420, "[role=row] a[href*='/runs/']"),
        ("curves", "&compareRunsMode=CHART", 1400, 720, ".js-plotly-plot .scatterlayer .trace"),
    ):
        resize(window, width, height)
        window.get(f"{address}/#/")
        for key, value in CLOSED.items():
            window.execute_script("localStorage.setItem(...arguments)", key, value)
        window.get("about:blank")  # another part of the same page would not be loaded again
        window.get(page + more)
        wait(lambda drawn=drawn: len(window.find_elements("css selector", drawn)) > 1, f"{page}{more} did not draw itself")
        if window.find_elements("xpath", "//*[text()='Model registry']"):
            window.find_element("css selector", MENU).click()
        style = "document.head.append(Object.assign(document.createElement('style'), {textContent: arguments[0]}))"
        window.execute_script(style, HIDDEN)
        time.sleep(3)  # the last curves, and what moves
        if more:
            widen(window)
        save(name, window.get_screenshot_as_png())


def widen(window: Any) -> None:
    """Pull a chart's corner until two charts fill the row."""
    from selenium.webdriver.common.action_chains import ActionChains

    pull = ActionChains(window).click_and_hold(window.find_elements("css selector", CORNER)[0])
    for _ in range(10):
        pull = pull.move_by_offset(20, 4)
    pull.release().perform()
    time.sleep(3)


@contextmanager
def mlflow() -> Iterator[str]:
    """MLflow's pages on this checkout's runs: their address, while the server runs."""
    with socket.socket() as visitor:
        visitor.bind(("127.0.0.1", 0))
        port = visitor.getsockname()[1]
    environment = clean_environment(**ui.LIGHT, MLFLOW_BACKEND_STORE_URI=store.store_uri())
    with subprocess.Popen(ui.server(port), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait(lambda: healthy(port), "MLflow did not start: see `make ui`")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def healthy(port: int) -> bool:
    """Whether MLflow answers on the port."""
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


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
    """Open the page and wait until it is drawn."""
    window.get(file.resolve().as_uri())
    ready = "return document.body.dataset.ready"
    try:
        wait(lambda: window.execute_script(ready) == "yes", f"{file} did not draw itself")
    except UserError as error:
        raise UserError(f"{error}: {window.get_log('browser')}") from None


def wait(what: Callable[[], bool], otherwise: str) -> None:
    """Wait until something is so.

    Raises:
        UserError: it is not, after a long time.
    """
    end = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > end:
            raise UserError(f"{otherwise} within {PATIENCE} s")
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
    command.run(main, __doc__, lambda parser: parser.add_argument("kind", choices=["explorer", "no-mask", "mlflow"]))

"""Take pictures of the runs in MLflow's pages, for the README: docs/images/*.png.

python -m tools.screenshots [folder]      (make screenshots; needs Chromium and its driver: apt-get install chromium-driver)
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stages.common import command, errors
from stages.tracking import store
from stages.tracking.run import COMPLETE
from tools.ui import LIGHT, server

PATIENCE = 300  # seconds for a page to show what is waited for, on a busy machine
TABLE, CHARTS, RUN = (1540, 620), (1400, 800), (1400, 960)  # pixels: the window's width and height for each picture
HIDDEN = ".modebar, [data-component-id*='shared_view.banner'] {display: none !important}"  # bars that cover what is to be seen


def main(args: argparse.Namespace) -> None:
    """The runs table, the loss curves of all runs side by side, the newest run's page."""
    client, experiment_id = store.strictly(store.connect)
    runs = client.search_runs([experiment_id], f"tags.`{COMPLETE}` = 'yes'")
    if not runs:
        raise errors.UserError("there is no complete run to show; run `dvc repro` first")
    names, folder = [run.info.run_name for run in runs[:10]], Path(args.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with served() as address, browser() as page:
        table = store.table(address, experiment_id)
        page.get(f"{address}/#/")
        page.execute_script("localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')")
        page.execute_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
        page.set_window_size(*TABLE)
        take(page, table, folder / "runs.png", lambda: all(name in page.page_source for name in names), lambda: tidy(page))
        page.set_window_size(*CHARTS)
        take(
            page,
            f"{table}&compareRunsMode=CHART",
            folder / "curves.png",
            lambda: curves(page) >= 2 and widen(page),
            lambda: tidy(page) and search(page, "^(train|val)_loss$"),
        )
        page.set_window_size(*RUN)
        run = f"{address}/#/experiments/{experiment_id}/runs/{runs[0].info.run_id}?workflowType=machine_learning"
        take(page, run, folder / "run.png", lambda: "perplexity" in page.page_source, lambda: tidy(page) and unfold(page))


def take(page: Any, url: str, file: Path, ready: Callable[[], bool], first: Callable[[], bool] = lambda: True) -> None:
    """Open the page, do what is to be done first, wait until it is ready, and save its picture."""
    page.get(url)
    for done, what in ((first, "open"), (ready, "show its content")):
        end = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > end:
                page.save_screenshot(str(file))
                raise errors.UserError(f"{url} did not {what} within {PATIENCE} s; {file} shows what it did")
            time.sleep(0.3)
    time.sleep(2)  # animations
    page.save_screenshot(str(file))
    print(f"{file}: {file.stat().st_size // 1024} KiB")


def tidy(page: Any) -> bool:
    """Fold MLflow's menu and hide its bars, once the page is there."""
    toggles = page.find_elements("css selector", "[data-component-id='mlflow_header.toggle_sidebar_button']")
    if toggles:
        if page.find_elements("xpath", "//*[text()='Model registry']"):
            toggles[0].click()
        style = "document.head.append(Object.assign(document.createElement('style'), {textContent: arguments[0]}))"
        page.execute_script(style, HIDDEN)
    return bool(toggles)


def search(page: Any, text: str) -> bool:
    """Type into the box that chooses among the charts, once it is there."""
    boxes = page.find_elements("css selector", "input[placeholder*='metric charts']")
    if boxes:
        boxes[0].send_keys(text)
    return bool(boxes)


def unfold(page: Any) -> bool:
    """Show the whole description, once it is there."""
    buttons = page.find_elements("xpath", "//*[text()='Show more']")
    if buttons:
        buttons[0].click()
    return bool(buttons)


def curves(page: Any) -> int:
    """The lines drawn in the page's charts."""
    return len(page.find_elements("css selector", ".js-plotly-plot .scatterlayer .trace"))


def widen(page: Any) -> bool:
    """Pull the first chart's corner until two charts fill the row."""
    from selenium.webdriver.common.action_chains import ActionChains

    corners = page.find_elements("css selector", "[data-testid='draggable-card-resize-handle']")
    if corners:
        pull = ActionChains(page).click_and_hold(corners[0])
        for _ in range(10):
            pull = pull.move_by_offset(16, 4)
        pull.release().perform()
    return bool(corners)


@contextmanager
def browser() -> Iterator[Any]:
    """A Chromium without a window.

    Raises:
        UserError: it, its driver or the package selenium is not installed.
    """
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not chromium or not driver:
        raise errors.UserError("Chromium or its driver is not here. Install them: apt-get install chromium chromium-driver")
    try:
        from selenium import webdriver
    except ImportError:
        raise errors.UserError("the package selenium is not installed: pip install -r requirements-dev.txt") from None
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1400,900"):
        options.add_argument(word)
    page = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield page
    finally:
        page.quit()


@contextmanager
def served() -> Iterator[str]:
    """The address of a server on our store, for the time of the block."""
    if (uri := store.store_uri()).startswith("http"):
        yield uri.rstrip("/")
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(server(uri, port), env=os.environ | LIGHT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(PATIENCE * 4):
            with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=2):
                break
            time.sleep(0.25)
        yield address
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    command.run(main, __doc__, lambda parser: parser.add_argument("folder", nargs="?", default="docs/images"))

"""A real Chromium that is kept off the network: Debian's, driven through Debian's own driver."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
MISSING = "Chromium and its driver are not here; on Debian: apt-get install chromium chromium-driver"

QUIET = (
    "--headless=new",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",  # small in containers
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
DESKTOP, PHONE = (1200, 860), (360, 740)


def is_here() -> bool:
    return CHROMIUM is not None and DRIVER is not None


@contextmanager
def chromium(home: Path) -> Iterator[webdriver.Chrome]:
    """Start a browser that knows nothing yet; `home` takes its profile."""
    options = Options()
    options.binary_location = str(CHROMIUM)
    for argument in (*QUIET, f"--user-data-dir={home / 'profile'}"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    try:
        driver.set_page_load_timeout(60)
        yield driver
    finally:
        driver.quit()


def resize(driver: webdriver.Chrome, size: tuple[int, int], *, dark: bool = False) -> None:
    """Be a screen of this size in pixels; narrower ones than a window can be, too."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def drop(driver: webdriver.Chrome, *paths: Path, x: int = 200, y: int = 200) -> None:
    """Drop files and folders of the disk on the page, as a person's mouse would."""
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        driver.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})


def requested(driver: webdriver.Chrome) -> list[str]:
    """Return the address of every request that the browser made since it was asked before."""
    events = [json.loads(line["message"])["message"] for line in driver.get_log("performance")]
    return [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]


def console(driver: webdriver.Chrome) -> list[dict[str, Any]]:
    """Return what the browser had to say, since it was asked before, that is more than advice."""
    return [line for line in driver.get_log("browser") if line["level"] in {"WARNING", "SEVERE"}]


def forget(driver: webdriver.Chrome) -> None:
    """Have what was requested and said up to now told to nobody."""
    for kind in ("browser", "performance"):
        driver.get_log(kind)

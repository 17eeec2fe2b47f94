"""A Haulage with its page, and a browser in front of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from app import database, tokens
from local.servers import Servers
from local.system import free_port
from tests.acceptance.conftest import Haulage, haulage, wait_until  # noqa: F401  a fixture is found by its name
from tests.installation import CORP, Installation, fresh_installation, make_database
from tests.web import browser
from tests.web_server import web_server

PROJECT = Path(__file__).parents[2]
PICTURES = PROJECT / "build" / "pictures"
ROWS = "#listing tbody tr"
ROOT = f"/api/v1/corporations/{CORP}"


@dataclass
class Page:
    """The browser, looking at one installation."""

    driver: webdriver.Chrome
    url: str
    installation: Installation

    def open(self, path: str = "/") -> None:
        self.driver.get(self.url + path)

    def open_folder(self, path: str) -> None:
        self.open(f"/files?path={quote(path, safe='')}")

    def sign_in(self, token: str) -> None:
        self.open("/")
        self.one("#token").send_keys(token)
        self.one("form.door").submit()
        wait_until(lambda: self.find("#here"), "signed in", tell=self.text)

    def find(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def ask(self, script: str, *arguments: object) -> object:
        """Evaluate an expression in the page; one call, so that nothing is swapped in the middle."""
        return self.driver.execute_script(f"return {script}", *arguments)

    def text(self, selector: str = "body") -> str:
        return str(self.ask("document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def listed(self) -> list[str]:
        found = self.ask("Array.from(document.querySelectorAll('#listing bdi'), (one) => one.textContent)")
        return [str(one) for one in found]

    def press(self, button: str, of: str) -> None:
        """Press a button of the row that has this text."""
        script = (
            "Array.from(document.querySelectorAll('.rows li')).find((row) => row.textContent.includes(arguments[1]))"
            "?.querySelector('button')"
        )
        found = self.ask(script, button, of)
        assert isinstance(found, WebElement), self.text("main")
        assert found.text == button
        found.click()

    def picture(self, name: str, *, whole: bool = False) -> None:
        """Keep a picture for people to look at: of the window, or of the whole page."""
        if whole:
            height = int(self.ask("document.documentElement.scrollHeight"))
            width = int(self.ask("innerWidth"))
            dark = bool(self.ask("matchMedia('(prefers-color-scheme: dark)').matches"))
            browser.resize(self.driver, (width, height), dark=dark)
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(PICTURES / f"{name}.png"))

    def width(self) -> int:
        return int(self.ask("document.documentElement.scrollWidth"))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    if not browser.is_here():
        pytest.skip(browser.MISSING)
    with browser.chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def driver(chromium: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """The browser as if it had just been started: no cookies, and nothing said yet."""
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.resize(chromium, browser.DESKTOP)
    browser.forget(chromium)
    yield chromium
    chromium.get("about:blank")  # nobody goes on asking a server that is gone


@dataclass(frozen=True)
class Site:
    """A web server that stays for several tests, without a worker: what it accepts stays queued."""

    installation: Installation
    url: str
    log: Path

    def token(self, corp_index: int | None = CORP) -> str:
        return make_token(self.installation, corp_index)

    def client(self, token: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, trust_env=False)


def make_token(installation: Installation, corp_index: int | None = CORP) -> str:
    engine = database.short_lived_engine(installation.environment["OWNER_DATABASE_URL"])
    with database.Session(engine) as session, session.begin():
        return tokens.create(session, corp_index, "page")


@pytest.fixture(scope="module")
def site(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = fresh_installation(servers, make_database(servers), tmp_path_factory.mktemp("site"))
    with web_server(made) as running:
        yield Site(made, f"http://127.0.0.1:{running.port}", running.log)


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    """The interface of a corporation whose uploads of former tests are gone."""
    site.installation.query(
        "ALTER TABLE corporate.upload_events DISABLE TRIGGER append_only;"
        " DELETE FROM corporate.upload_events; DELETE FROM corporate.uploads;"
        " ALTER TABLE corporate.upload_events ENABLE TRIGGER append_only"
    )
    with site.client(site.token()) as made:
        yield made


def send(client: httpx.Client, name: str, folder: str = "") -> str:
    answer = client.post(f"{ROOT}/uploads", params={"name": name, "folder": folder}, content=b"x" * 3000)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def make_folder(client: httpx.Client, path: str) -> None:
    assert client.post(f"{ROOT}/folders", json={"path": path}).status_code in {200, 201}


def close_the_gate(page: Page) -> None:
    """Hold every POST of the page back, and count them, until it is asked for `openGate()`."""
    page.ask(
        "((request) => {"
        " const gate = new Promise((open) => { window.openGate = open; });"
        " window.posts = 0;"
        " window.fetch = async (...all) => {"
        "  if (all[1]?.method === 'POST') { window.posts += 1; await gate; }"
        "  return request(...all);"
        " };"
        "})(fetch)"
    )


@pytest.fixture
def page(site: Site, driver: webdriver.Chrome) -> Page:
    """The files page, signed in."""
    found = Page(driver, site.url, site.installation)
    found.sign_in(site.token())
    return found


@pytest.fixture
def live(haulage: Haulage, driver: webdriver.Chrome) -> Page:  # noqa: F811
    """The files page of an installation with processes of its own; a worker is for the test to start."""
    url = haulage.system.start_web(free_port())
    found = Page(driver, url, haulage.installation)
    found.sign_in(make_token(haulage.installation))
    return found

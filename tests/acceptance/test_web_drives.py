"""The web server and a drive that pauses, hangs or counts: as one asker among many."""

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import catalogue, pauses, tokens
from app.catalogue import NewItem
from app.database import Session, short_lived_engine
from app.errors import DriveFull, DriveHalted, DriveMissing, DriveRefuses, DriveThrottled
from app.models import Kind
from app.web.access import COOKIE
from tests.acceptance.conftest import wait_until
from tests.graph.launch import Simulator, running
from tests.installation import CORP, LIBRARY, LIBRARY_CORP, Installation, with_library
from tests.web_server import WebServer, web_server

DATA = b"what is in the file"
FOLDERS = f"/api/v1/corporations/{LIBRARY_CORP}/folders"
LOGIN = re.compile("oauth2|well-known")  # asked too, and not counted: it has no units


@dataclass(frozen=True)
class Site:
    """A web server for a library with one file, and a token for it."""

    web: WebServer
    simulator: Simulator
    token: str
    content: str

    def client(self) -> httpx.Client:
        return self.web.client(self.token)

    def halt(self, error: type[DriveHalted], seconds: int = 600) -> None:
        with Session(owner(self.web.installation)) as session, session.begin():
            pauses.halt(
                session, LIBRARY, error.code, f"the test says {error.code}", timedelta(seconds=seconds)
            )

    def lift(self) -> None:
        self.web.installation.query("DELETE FROM corporate.drives")

    def asked(self) -> list[str]:
        return [f"{one['method']} {one['path']}" for one in self.simulator.control("GET requests")]

    def noted(self) -> Any:
        return self.web.installation.query(
            "SELECT sum(requests)::int FROM corporate.drive_requests WHERE drive = %s", LIBRARY
        )[0][0]


def owner(installation: Installation) -> Any:
    return short_lived_engine(installation.environment["OWNER_DATABASE_URL"])


@pytest.fixture
def library(installation: Installation, tmp_path: Path) -> Iterator[tuple[Installation, Simulator, str, str]]:
    (tmp_path / "graph").mkdir()
    with running("--resource-units=0", folder=tmp_path / "graph") as simulator:
        made = with_library(installation, simulator)
        simulator.control("POST put", path=f"Haulage/{LIBRARY_CORP}/a", text=DATA.decode())
        (file,) = (one for one in simulator.control("GET tree") if not one["folder"])
        with Session(owner(made)) as session, session.begin():
            root = catalogue.root_id(session, LIBRARY_CORP)
            sha256 = hashlib.sha256(DATA).hexdigest()
            new = NewItem(file["id"], root, "a", Kind.FILE, len(DATA), sha256)
            catalogue.record(session, LIBRARY_CORP, new)
            catalogue.count_in(session, LIBRARY_CORP, root)
            token = tokens.create(session, LIBRARY_CORP, "test")
        simulator.control("DELETE requests")
        yield made, simulator, token, f"/api/v1/corporations/{LIBRARY_CORP}/items/{file['id']}/content"


@pytest.fixture
def site(library: tuple[Installation, Simulator, str, str]) -> Iterator[Site]:
    installation, simulator, token, content = library
    with web_server(installation) as web:
        yield Site(web, simulator, token, content)


def test_a_drive_that_pauses_is_not_asked_and_whoever_asks_is_told_why_and_until_when(site: Site) -> None:
    with site.client() as client:
        for error in (DriveThrottled, DriveRefuses, DriveMissing):
            site.lift()
            site.halt(error)
            answers = [
                client.get(site.content),
                client.head(site.content),
                client.post(FOLDERS, json={"path": "a folder"}),
            ]
            assert [one.status_code for one in answers] == [503] * 3
            assert all(590 <= int(one.headers["Retry-After"]) <= 600 for one in answers)
            for told in (answers[0].json(), answers[2].json()):
                assert (told["code"], told["detail"]) == (error.code, f"the test says {error.code}")
    with httpx.Client(base_url=f"http://127.0.0.1:{site.web.port}", trust_env=False) as browser:
        browser.cookies.set(COOKIE, site.token)
        page = browser.get(site.content, headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "the test says drive_missing" in page.text
    assert int(page.headers["Retry-After"]) > 0
    assert site.asked() == []


def test_what_is_in_a_drive_that_is_only_full_can_be_read(site: Site) -> None:
    site.halt(DriveFull)

    with site.client() as client:
        assert client.get(site.content).content == DATA
        folder = client.post(FOLDERS, json={"path": "a folder"})

    assert (folder.status_code, folder.json()["code"]) == (503, "drive_full")


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        ({"status": 400, "code": "invalidRequest"}, (503, "drive_fault")),
        ({"status": 400, "code": "invalidPath"}, (400, "name_refused")),
    ],
)
def test_a_refusal_of_the_drive_is_told_by_its_name(
    site: Site, refusal: dict[str, Any], expected: tuple[int, str]
) -> None:
    site.simulator.control("POST faults", path="/children", action="answer", **refusal)
    with site.client() as client:
        told = client.post(FOLDERS, json={"path": "a folder"})

    assert (told.status_code, told.json()["code"]) == expected


@pytest.mark.parametrize("request_", ["items/.*", "/children"], ids=["content", "folder"])
def test_what_the_web_hears_first_all_keep_to(site: Site, request_: str) -> None:
    refusal = {"status": 429, "code": "activityLimitReached", "headers": {"Retry-After": "77"}}
    site.simulator.control("POST faults", path=request_, action="answer", **refusal)
    with site.client() as client:
        method, url = ("GET", site.content) if "items" in request_ else ("POST", FOLDERS)
        body = {"path": "a folder"} if method == "POST" else None
        told = client.request(method, url, json=body)
        asked = site.asked()
        again = client.request(method, url, json=body)

    assert (told.status_code, told.json()["code"], told.headers["Retry-After"]) == (
        503,
        "drive_throttled",
        "77",
    )
    left = "SELECT reason, paused_until > now() + interval '60 s' FROM corporate.drives"
    assert site.web.installation.query(left) == [("drive_throttled", True)]
    assert (again.status_code, again.json()["code"]) == (503, "drive_throttled")
    assert site.asked() == asked != []


def test_what_the_web_asks_is_counted_at_its_end(library: tuple[Installation, Simulator, str, str]) -> None:
    installation, simulator, token, content = library
    with web_server(installation) as web:
        site = Site(web, simulator, token, content)
        with site.client() as client:
            assert client.get(content).content == DATA

    asked = [one for one in site.asked() if not LOGIN.search(one)]
    assert site.noted() == len(asked) == 3  # its size, its address, its bytes


@pytest.mark.prove
def test_what_the_web_asks_is_counted_on_its_way(site: Site) -> None:
    with site.client() as client:
        assert client.get(site.content).content == DATA

    wait_until(lambda: site.noted() == 3, "it is noted", 60, site.noted)


def test_a_drive_that_hangs_holds_up_no_other(site: Site) -> None:
    (site.web.installation.drive_dir / str(CORP) / "b").write_bytes(DATA)
    with Session(owner(site.web.installation)) as session, session.begin():
        catalogue.record(session, CORP, NewItem(f"{CORP}/b", str(CORP), "b", size=len(DATA)))
    site.simulator.control("POST faults", path="items/", action="stall", name="hangs", times=None)

    def ask() -> int:
        with site.client() as client:
            return client.get(site.content, timeout=120).status_code

    def held() -> int:
        return len(site.simulator.control("GET stalls", name="hangs"))

    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(ask) for _ in range(20)]
        try:
            wait_until(lambda: held() == 16, "all threads of the drive are taken", 60, held)
            with site.web.client() as other:
                assert other.get(f"/api/v1/corporations/{CORP}/items/{CORP}/b/content").content == DATA
        finally:
            site.simulator.control("DELETE faults")
    assert [one.result() for one in waiting] == [200] * 20

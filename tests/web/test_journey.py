"""The whole way in a real browser: sign in, send a folder, watch both legs, a failure, mend it, retry, browse, download."""

import hashlib
import re
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from app import catalogue, database
from app.drives.filesystem import FilesystemDrive
from tests.acceptance.conftest import Haulage, wait_until
from tests.installation import CORP, Installation
from tests.web import browser
from tests.web.conftest import Page

FILES = 200
TAKEN = "report 007.txt"
SLOW = {"sample": "tests.acceptance.samples.slow", "PUT_SECONDS": "0.05"}
LONG = 180.0  # seconds of patience with what moves all 200 files, on a machine with other things to do


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """200 files in two folders, one of them large enough to be watched."""
    made = tmp_path / "reports"
    (made / "2026").mkdir(parents=True)
    for number in range(FILES - 1):
        (made / "2026" / f"report {number:03}.txt").write_bytes(f"report {number}\n".encode() * 50)
    (made / "film.bin").write_bytes(hashlib.sha256(b"film").digest() * 2**15)  # 1 MiB
    return made


def put_in_the_way(installation: Installation) -> None:
    """Have something else stand where one of the files is to go."""
    drive = FilesystemDrive(installation.drive_dir)
    with as_owner(installation) as session, session.begin():
        parent = str(CORP)
        for name in ("reports", "2026"):
            made = drive.make_folder(parent, name)
            parent, _ = catalogue.record_folder(
                session, CORP, catalogue.NewItem(made.id, parent, name, catalogue.Kind.FOLDER)
            )
        other = catalogue.NewItem(f"{parent}/{TAKEN}", parent, TAKEN, size=5, sha256="0" * 64)
        catalogue.record(session, CORP, other)
        catalogue.count_in(session, CORP, parent)
    (installation.drive_dir / parent / TAKEN).write_text("other")


def take_away(installation: Installation) -> None:
    parent = f"{CORP}/reports/2026"
    (installation.drive_dir / parent / TAKEN).unlink()
    with as_owner(installation) as session, session.begin():
        other = catalogue.child(session, CORP, parent, TAKEN)
        session.delete(other)
        session.flush()
        catalogue.recount(session, CORP, parent)


def as_owner(installation: Installation) -> database.Session:
    return database.Session(database.short_lived_engine(installation.environment["OWNER_DATABASE_URL"]))


@pytest.mark.timeout(600)
def test_a_folder_of_200_files_goes_all_the_way(
    live: Page, haulage: Haulage, folder: Path, tmp_path: Path
) -> None:
    put_in_the_way(haulage.installation)
    haulage.start_worker(**SLOW)
    haulage.start_beat()

    live.one("#folder-input").send_keys(str(folder))
    wait_until(lambda: "of 200 files" in live.text("#sending-line"), "the first leg shows", tell=live.text)
    wait_until(
        lambda: re.search(r"[1-9]\d* of \d+ stored", live.text("#storing-line")), "the second leg shows"
    )
    live.picture("files-sending")
    wait_until(lambda: live.ask("document.querySelector('#sending').hidden"), "all are sent", LONG)
    assert live.text("#problem") == ""

    wait_until(
        lambda: line(live) == f"199 of {FILES} stored · 1 failed", "199 stored, 1 failed", LONG, live.text
    )
    failure = " ".join(live.text(".rows .failed").split())
    assert "name_taken" in failure
    assert TAKEN in failure
    live.picture("files-failure")
    for size, dark in ((browser.PHONE, True), (browser.PHONE, False), (browser.DESKTOP, True)):
        browser.resize(live.driver, size, dark=dark)
        assert live.width() == size[0]
        live.picture(f"files-failure-{size[0]}-{'dark' if dark else 'light'}")
    browser.resize(live.driver, browser.DESKTOP)

    wait_until(lambda: failures(haulage) == (1, True) and live.find(".failed button"), "it can be retried")
    live.press("Retry", TAKEN)  # nothing was mended yet
    wait_until(lambda: failures(haulage) == (2, True), "it failed again", tell=live.text)
    take_away(haulage.installation)
    wait_until(lambda: live.find("#retry-all"), "what failed can be retried")
    live.one("#retry-all").click()
    wait_until(lambda: line(live) == f"{FILES} of {FILES} stored", "all are stored", tell=live.text)
    wait_until(lambda: live.text("#announcer") == "Everything is stored.", "said so", tell=live.text)

    browse(live)
    download_and_compare(live, folder, tmp_path / "downloads")
    assert haulage.problems() == []
    assert browser.console(live.driver) == []


def line(live: Page) -> str:
    return " ".join(live.text("#storing-line").split())


def failures(haulage: Haulage) -> tuple[int, bool]:
    """Return how often an upload failed, and whether all that failed is cleaned up, so that it can be retried."""
    rows = haulage.installation.query(
        "SELECT (SELECT count(*) FROM corporate.upload_events WHERE kind = 'failed'),"
        " bool_and(cleanup_due_at IS NULL AND token IS NULL) FROM corporate.uploads WHERE state = 'failed'"
    )
    return rows[0]


def browse(live: Page) -> None:
    follow(live, "reports")
    wait_until(lambda: live.listed() == ["2026", "film.bin"], "the folder is listed", tell=live.listed)
    assert live.ask("document.activeElement.id") == "here"
    follow(live, "2026")
    wait_until(lambda: len(live.listed()) == FILES - 1, "its folder is listed", tell=live.listed)
    assert f"{FILES - 1} items" in live.text("#here")
    live.picture("files-listing")
    live.driver.back()
    wait_until(lambda: live.listed() == ["2026", "film.bin"], "back again", tell=live.listed)


def follow(live: Page, name: str) -> None:
    wait_until(lambda: name in live.listed(), f"{name} is listed")
    live.driver.find_element("link text", name).send_keys(Keys.ENTER)


def download_and_compare(live: Page, folder: Path, downloads: Path) -> None:
    live.driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)}
    )
    for name, within in (("film.bin", ""), (TAKEN, "2026")):
        live.open_folder(f"reports/{within}")
        live.driver.find_element("link text", name).click()
        wait_until((downloads / name).exists, f"{name} is downloaded")
        wait_until(
            lambda name=name, within=within: (
                (downloads / name).read_bytes() == (folder / within / name).read_bytes()
            ),
            f"{name} has the bytes that were sent",
        )


@pytest.mark.timeout(300)
def test_a_transfer_shows_how_far_it_is_and_how_fast(live: Page, haulage: Haulage, tmp_path: Path) -> None:
    haulage.start_worker(**SLOW | {"PUT_SECONDS": "0.3"})
    haulage.start_beat()
    (tmp_path / "slow.bin").write_bytes(bytes(3 * 2**20))  # 48 chunks, some 15 s

    live.one("#files").send_keys(str(tmp_path / "slow.bin"))

    pace = re.compile(r"([\d.]+) [KM]iB of 3\.0 MiB · [\d.]+ [KM]iB/s · \d+ s left")
    wait_until(lambda: pace.search(live.text("#uploads .how")), "it shows its speed", tell=live.text)
    assert live.ask("document.querySelector('#uploads .rows progress').value") > 0
    live.press("Cancel", "slow.bin")
    wait_until(lambda: haulage.states() == {"cancelled": 1}, "it ends midway", tell=haulage.states)
    wait_until(lambda: "1 cancelled" in live.text("#storing-line"), "the page says so", tell=live.text)
    assert live.listed() == []


@pytest.mark.timeout(300)
def test_a_dropped_folder_is_sent_with_what_is_below_it(live: Page, haulage: Haulage, tmp_path: Path) -> None:
    haulage.start_worker()
    haulage.start_beat()
    top = tmp_path / "dropped"
    (top / "a" / "b").mkdir(parents=True)
    (top / "nothing in it").mkdir()
    for number in range(120):  # a reader of folders gives a hundred at a time
        (top / "a" / f"{number}").write_text(f"{number}")
    (top / "a" / "b" / "deep").write_text("deep")
    (tmp_path / "beside").write_text("beside")

    browser.drop(live.driver, top, tmp_path / "beside")

    wait_until(lambda: haulage.states() == {"stored": 122}, "all are stored", LONG, haulage.states)
    wait_until(lambda: live.listed() == ["beside", "dropped"], "they are listed", tell=live.listed)
    drive = haulage.installation.drive_dir / str(CORP)
    sent = {str(path.relative_to(drive)) for path in drive.rglob("*")}
    assert {"beside", "dropped/a/b/deep", "dropped/a/119", "dropped/nothing in it"} <= sent
    assert haulage.problems() == []


@pytest.mark.timeout(300)
def test_sending_survives_a_server_that_goes_away(live: Page, haulage: Haulage, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}").write_bytes(f"{number}".encode() * 20_000)
    live.one("#folder-input").send_keys(str(folder))
    wait_until(lambda: sum(haulage.states().values()) > 5, "some have come")

    process = haulage.system.processes.pop("web")
    process.kill()
    process.wait()
    wait_until(lambda: "does not answer" in live.text("#connection"), "the page says so", tell=live.text)
    wait_until(lambda: "connection broke" in live.text("#sending-line"), "and waits", tell=live.text)
    live.picture("files-away")
    assert sum(haulage.states().values()) < 60
    haulage.system.start_web(int(live.url.rsplit(":", 1)[1]))

    wait_until(lambda: haulage.states() == {"queued": 60}, "all have come", tell=haulage.states)
    wait_until(lambda: live.text("#connection") == "", "the page is content again", tell=live.text)
    assert live.ask("document.querySelector('#sending').hidden")
    names = haulage.installation.query("SELECT count(DISTINCT name) FROM corporate.uploads")
    assert names == [(60,)]


def test_another_folder_can_be_looked_at_while_files_are_sent(
    live: Page, haulage: Haulage, tmp_path: Path
) -> None:
    live.one("#folder-name").send_keys("other", Keys.ENTER)
    wait_until(lambda: live.listed() == ["other"], "there is a folder", tell=live.text)
    slow_down(live.driver)
    (tmp_path / "large").write_bytes(bytes(3 * 2**20))
    live.one("#files").send_keys(str(tmp_path / "large"))
    wait_until(lambda: "of 1 file" in live.text("#sending-line"), "it is being sent", tell=live.text)

    follow(live, "other")
    wait_until(lambda: "path=other" in live.driver.current_url, "there")

    assert haulage.states() == {}
    wait_until(lambda: haulage.states() == {"queued": 1}, "it has come", tell=haulage.states)
    assert haulage.installation.query("SELECT name, folder FROM corporate.uploads") == [("large", [])]
    live.driver.set_network_conditions(offline=False, latency=0, throughput=-1)


def slow_down(driver: webdriver.Chrome) -> None:
    driver.set_network_conditions(offline=False, latency=0, download_throughput=-1, upload_throughput=2**20)


@pytest.mark.prove
@pytest.mark.timeout(1800)
def test_2000_files_leave_the_page_small_and_quick(live: Page, haulage: Haulage, tmp_path: Path) -> None:
    haulage.start_worker()
    haulage.start_beat()
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(2000):
        (folder / f"{number:04}").write_text(f"{number}")
    live.one("#folder-input").send_keys(str(folder))

    most = 0
    while haulage.states() != {"stored": 2000}:
        most = max(most, int(live.ask("document.querySelectorAll('.rows li').length")))
        live.driver.set_script_timeout(5)
        live.driver.execute_async_script("requestAnimationFrame(arguments[0])")  # it still draws
    wait_until(lambda: line(live) == "2,000 of 2,000 stored", "all stored")

    assert 0 < most < 60
    live.open_folder("many")
    assert len(live.listed()) == 200
    live.one("#next-page").click()
    wait_until(lambda: live.listed()[0] == "0200", "the next page", tell=live.listed)

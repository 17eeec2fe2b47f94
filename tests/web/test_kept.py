"""What the page must not lose: files that could not be sent or read, half-typed names, and the rest of a drop."""

from pathlib import Path

import httpx
import pytest

from tests.acceptance.conftest import wait_until
from tests.installation import CORP
from tests.web import browser
from tests.web.conftest import Page, Site, close_the_gate, make_folder, send


def have_refused(page: Page) -> None:
    page.ask(
        "((transfer, input) => { transfer.items.add(new File(['x'], 'x'.repeat(300)));"
        " input.files = transfer.files; input.dispatchEvent(new Event('change')); })"
        "(new DataTransfer(), document.getElementById('files'))"
    )
    wait_until(lambda: "255 are allowed" in page.text("#sending .why"), "it is refused", tell=page.text)


def release(page: Page) -> None:
    """Have the page believe that it is of an older release."""
    page.ask("void (window.mark = 'as it was')")
    page.ask("void (document.getElementById('main').dataset.version = 'older')")


def bring_up_to_date(page: Page, client: httpx.Client) -> None:
    upload = send(client, "news")
    wait_until(lambda: page.find(f"#u-{upload}"), "the page was brought up to date", tell=page.text)


def is_as_it_was(page: Page) -> bool:
    return page.ask("window.mark") == "as it was"


def asks_before_it_goes(page: Page) -> bool:
    return bool(page.ask("!dispatchEvent(new Event('beforeunload', { cancelable: true }))"))


def uploads(site: Site) -> set[tuple[str, str]]:
    rows = site.installation.query("SELECT array_to_string(folder, '/'), name FROM corporate.uploads")
    return {(folder, name) for folder, name in rows}


# A new release


def test_a_page_of_an_older_release_is_loaded_again(client: httpx.Client, page: Page) -> None:
    assert not asks_before_it_goes(page)

    release(page)

    wait_until(lambda: not is_as_it_was(page), "it is loaded again")


def test_a_file_that_could_not_be_sent_outlives_a_new_release(client: httpx.Client, page: Page) -> None:
    have_refused(page)
    release(page)

    bring_up_to_date(page, client)

    assert is_as_it_was(page)
    assert "255 are allowed" in page.text("#sending .why")
    assert asks_before_it_goes(page)


def test_a_half_typed_name_outlives_a_new_release(client: httpx.Client, page: Page) -> None:
    page.one("#folder-name").send_keys("half a na")
    release(page)

    bring_up_to_date(page, client)

    assert is_as_it_was(page)
    assert page.ask("document.getElementById('folder-name').value") == "half a na"
    assert asks_before_it_goes(page)
    page.one("#folder-name").clear()
    wait_until(lambda: not is_as_it_was(page), "now nothing would be lost")


def test_what_waits_is_not_asked_about_for_a_download(
    site: Site, client: httpx.Client, page: Page, tmp_path: Path
) -> None:
    (site.installation.drive_dir / str(CORP) / "report").write_text("text")
    site.installation.query(
        "INSERT INTO corporate.vmb_items (corp_index, onedrive_item_id, parent_id, name, name_key, kind, size)"
        " VALUES (7, '7/report', '7', 'report', 'report', 'file', 4)"
    )
    page.driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    have_refused(page)
    wait_until(lambda: "report" in page.listed(), "it is listed")
    page.ask("void addEventListener('beforeunload', () => { window.mark = 'asked'; })")
    page.ask("void (window.mark = 'as it was')")

    page.driver.find_element("link text", "report").click()

    wait_until((tmp_path / "report").exists, "it is downloaded")
    wait_until(lambda: len(page.driver.window_handles) == 1, "no empty window stays")
    assert is_as_it_was(page)
    assert "255 are allowed" in page.text("#sending .why")
    site.installation.query("DELETE FROM corporate.vmb_items WHERE name = 'report'")


# A drop


@pytest.fixture
def things(tmp_path: Path) -> list[Path]:
    """Things to drop, in this order: two empty folders, a file that is about to go, and a last one."""
    made = [tmp_path / name for name in ("held up", "taken", "gone", "last")]
    for folder in made[:2]:
        folder.mkdir()
    for file in made[2:]:
        file.write_text(file.name)
    return made


def drop(page: Page, site: Site, things: list[Path]) -> None:
    """Drop them where a file has the name of the second; the last but one goes before it is read."""
    site.installation.query(
        "INSERT INTO corporate.vmb_items (corp_index, onedrive_item_id, parent_id, name, name_key, kind, size)"
        " VALUES (7, '7/drop/taken', '7/drop', 'taken', 'taken', 'file', 1)"
    )
    page.open_folder("drop")
    close_the_gate(page)
    browser.drop(page.driver, *things)
    wait_until(lambda: page.ask("window.posts"), "the drop is being walked")
    things[2].unlink()


@pytest.fixture
def dropped(site: Site, client: httpx.Client, page: Page, things: list[Path]) -> Page:
    make_folder(client, "drop")
    site.installation.query("DELETE FROM corporate.vmb_items WHERE parent_id = '7/drop'")
    drop(page, site, things)
    return page


def test_what_cannot_be_read_keeps_nothing_else_from_being_sent(
    site: Site, dropped: Page, things: list[Path]
) -> None:
    dropped.ask("window.openGate()")

    wait_until(lambda: ("drop", "last") in uploads(site), "the last has come", tell=dropped.text)
    wait_until(
        lambda: "2 could not be sent" in dropped.text("#sending-line"), "it is told", tell=dropped.text
    )
    rows = dropped.ask("Array.from(document.querySelectorAll('#sending .failed'), (row) => row.textContent)")
    assert ["drop/taken" in row for row in rows] == [True, False]
    assert ["drop/gone" in row for row in rows] == [False, True]
    assert all(
        dropped.ask("Array.from(document.querySelectorAll('#sending .why'), (one) => one.textContent)")
    )
    assert asks_before_it_goes(dropped)
    things[2].write_text("back again")
    dropped.one("#send-again").click()
    wait_until(lambda: ("drop", "gone") in uploads(site), "it is read again", tell=dropped.text)
    wait_until(lambda: "1 could not be sent" in dropped.text("#sending-line"), "one stays", tell=dropped.text)


def test_a_drop_that_is_being_walked_outlives_a_new_release(
    site: Site, client: httpx.Client, dropped: Page
) -> None:
    release(dropped)

    bring_up_to_date(dropped, client)

    assert is_as_it_was(dropped)
    assert asks_before_it_goes(dropped)
    dropped.ask("window.openGate()")
    wait_until(lambda: ("drop", "last") in uploads(site), "the last has come", tell=dropped.text)


@pytest.mark.parametrize("name", ["carriage\rreturn", "line\nfeed", "100%25 +&?#"])
def test_what_is_dropped_goes_to_the_folder_that_is_shown(
    site: Site, client: httpx.Client, page: Page, tmp_path: Path, name: str
) -> None:
    make_folder(client, name)
    (tmp_path / "file").write_text("x")
    page.open_folder(name)

    browser.drop(page.driver, tmp_path / "file")

    wait_until(lambda: uploads(site), "it has come", tell=page.text)
    assert uploads(site) == {(name, "file")}

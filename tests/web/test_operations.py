"""The operations page: what it says of uploads, processes and the last hour, and how it looks."""

from collections.abc import Iterator

import pytest
from selenium import webdriver

from app.figures import Connection, Minute
from app.web import operations
from local.system import free_port
from tests.acceptance.conftest import Haulage, wait_until
from tests.web import browser
from tests.web.conftest import Page, Site, make_token
from tests.web_server import web_server


def one(process: int, role: str = "worker", host: str = "a", session: int = 1) -> Connection:
    return Connection(process, role, host, session, "TLSv1.3", "idle", 1.0, 1.0)


# Without a browser


def test_processes_are_grouped_by_role_and_host_with_their_sessions() -> None:
    given = [one(9, "web"), one(2, session=4), one(2, session=3), one(1, host="b"), one(5, "beat")]

    groups = list(operations._groups(given))

    assert [(each.role, each.host) for each in groups] == [
        ("worker", "a"),
        ("worker", "b"),
        ("web", "a"),
        ("beat", "a"),
    ]
    assert [each.session for each in groups[0].processes[0].sessions] == [3, 4]
    assert groups[0].sessions == 2


def test_a_picture_has_its_highest_bar_at_full_height() -> None:
    minutes = [Minute(ago, {2: 10, 0: 5}.get(ago, 0), 0) for ago in reversed(range(60))]

    picture = operations._picture(minutes, [minute.uploads for minute in minutes])

    assert [(bar.ago, bar.height) for bar in picture.bars if bar.amount] == [(2, 80.0), (0, 40.0)]
    assert (picture.total, picture.most, picture.most_ago, len(picture.bars)) == (15, 10, 2, 60)
    assert {bar.height for bar in operations._picture(minutes, [0] * 60).bars} == {0}


def test_hidden_sessions_come_with_what_to_do(site: Site) -> None:
    with site.client(site.token(None)) as operator:
        text = operator.get("/operations").text

    assert "No sweep ran lately" in text
    assert "Nothing was stored." in text
    assert "GRANT pg_read_all_stats" not in text  # the web process sees its own


@pytest.fixture
def busy(haulage: Haulage, driver: webdriver.Chrome) -> Iterator[Page]:
    """The operations page of an installation that has worked for an hour."""
    haulage.start_worker(children=2)
    haulage.start_beat()
    haulage.hand_in(40, size=20_000)
    haulage.wait_until_stored(40)
    spread_over_the_hour(haulage)
    haulage.hand_in(1, folder="later")
    page = Page(driver, haulage.system.start_web(free_port()), haulage.installation)
    page.sign_in(make_token(haulage.installation, None))
    return page


def spread_over_the_hour(haulage: Haulage) -> None:
    haulage.installation.query(
        "ALTER TABLE corporate.upload_events DISABLE TRIGGER append_only;"
        " UPDATE corporate.upload_events SET at = at - (power(mod(id, 59), 2) / 60) * interval '1 minute'"
        " WHERE kind = 'stored';"
        " ALTER TABLE corporate.upload_events ENABLE TRIGGER append_only"
    )


def test_it_shows_what_goes_on(busy: Page, haulage: Haulage) -> None:
    children = {str(child.pid) for child in haulage.children()}

    wait_until(
        lambda: "41 uploads stored" in busy.text("#uploads-picture-words"), "the last hour", tell=busy.text
    )
    wait_until(lambda: "nothing waits" in busy.text("#now"), "nothing waits", tell=busy.text)
    shown = set(
        busy.ask(
            "Array.from(document.querySelectorAll('.processes th[scope=row]'), (one) => one.textContent)"
        )
    )
    assert shown & children, (shown, children)
    assert len(busy.find("#uploads-picture rect")) > 5
    assert busy.ask("document.querySelector('#uploads-picture').getAttribute('role')") == "img"
    assert "pg_read_all_stats" in busy.text("#processes")
    assert "not visible" in busy.text("#processes")
    busy.picture("operations-hidden", whole=True)
    browser.resize(busy.driver, browser.DESKTOP)

    see_other_roles(haulage)
    try:
        wait_until(lambda: "not visible" not in busy.text("#processes"), "now they are seen", tell=busy.text)
    finally:
        see_other_roles(haulage, "REVOKE {} FROM {}")
    assert "TLSv1.3" in busy.text("#processes")
    assert "pg_read_all_stats" not in busy.text("#processes")
    assert browser.console(busy.driver) == []


def see_other_roles(haulage: Haulage, statement: str = "GRANT {} TO {}") -> None:
    role = haulage.installation.servers.web_url.split("//")[1].split(":")[0]
    haulage.installation.look(statement.format("pg_read_all_stats", role))


def test_it_fits_a_phone_by_day_and_by_night(busy: Page, haulage: Haulage) -> None:
    see_other_roles(haulage)
    try:
        wait_until(lambda: "not visible" not in busy.text("#processes"), "all is seen", tell=busy.text)
        for size in (browser.DESKTOP, browser.PHONE):
            for dark in (False, True):
                browser.resize(busy.driver, size, dark=dark)
                assert busy.width() == size[0]
                busy.picture(f"operations-{size[0]}-{'dark' if dark else 'light'}", whole=True)
    finally:
        see_other_roles(haulage, "REVOKE {} FROM {}")


def test_it_says_that_the_server_has_trouble_and_goes_on_when_it_is_over(
    site: Site, driver: webdriver.Chrome
) -> None:
    page = Page(driver, site.url, site.installation)
    page.sign_in(site.token(None))
    site.installation.query("ALTER TABLE corporate.upkeep_runs RENAME TO away")
    try:
        wait_until(
            lambda: "Something went wrong here" in page.text("#connection"), "it says so", tell=page.text
        )
    finally:
        site.installation.query("ALTER TABLE corporate.away RENAME TO upkeep_runs")
    wait_until(lambda: page.text("#connection") == "", "it is back", tell=page.text)


def test_flower_is_a_click_away_if_its_address_is_known(site: Site) -> None:
    address = {"FLOWER_URL": "https://flower.example/haulage"}
    with web_server(site.installation, **address) as running, running.client(site.token(None)) as operator:
        text = operator.get("/operations").text

    assert '<a href="https://flower.example/haulage" rel="noreferrer">Flower</a>' in text

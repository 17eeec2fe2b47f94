"""The files page in a real browser: keyboard, width, colours, odd names, and what happens when things end."""

from itertools import pairwise

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from app.web import page_files
from tests.acceptance.conftest import wait_until
from tests.web import browser
from tests.web.conftest import ROOT, Page, Site, close_the_gate, make_folder, send

HTML = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'<"
RIGHT_TO_LEFT = "invoice\u202egpj.exe"
ARABIC = "تقرير.txt"
LONG = "w" * 250


def fail(site: Site, upload_id: str, message: str = "as the test wants it") -> None:
    site.installation.query(
        "UPDATE corporate.uploads SET state = 'failed', reason = 'worn_out', message = %s, finished_at = now()"
        " WHERE id = %s",
        message,
        upload_id,
    )


def begin(site: Site, upload_id: str) -> None:
    site.installation.query(
        "UPDATE corporate.uploads SET state = 'transferring', token = gen_random_uuid(), attempts = 1, sent = 2000,"
        " due_at = now() + interval '1 hour', began_at = now() - interval '2 s', began_from = 0, sent_at = now()"
        " WHERE id = %s",
        upload_id,
    )


def state(site: Site, upload_id: str) -> str:
    return site.installation.query("SELECT state FROM corporate.uploads WHERE id = %s", upload_id)[0][0]


def contrasts(page: Page) -> dict[str, float]:
    """Return for each kind of text on the page how much it stands out from what lies behind it (WCAG's ratio)."""
    script = """
        (() => {
            const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
            const parts = (colour) => {
                canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
                return [...canvas.getImageData(0, 0, 1, 1).data];
            };
            const light = (colour) => {
                const [r, g, b] = parts(colour).map((one) => one / 255)
                    .map((one) => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const behind = (one) => {
                for (; one; one = one.parentElement) {
                    const colour = getComputedStyle(one).backgroundColor;
                    if (parts(colour)[3] === 255) return colour;
                }
                return "white";
            };
            const found = {};
            for (const one of document.body.querySelectorAll("*")) {
                const hasText = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
                if (!hasText || !one.checkVisibility() || one.closest(":disabled, option")) continue;
                const [a, b] = [light(getComputedStyle(one).color), light(behind(one))].sort((x, y) => y - x);
                const kind = `${one.tagName} ${one.className} ${one.id}`;
                found[kind] = Math.min(found[kind] ?? 99, (a + 0.05) / (b + 0.05));
            }
            return found;
        })()
    """
    return {str(name): float(ratio) for name, ratio in dict(page.ask(script.strip())).items()}


@pytest.fixture
def furnished(site: Site, client: httpx.Client, driver: webdriver.Chrome) -> Page:
    """A page with everything on it that a page can have."""
    make_folder(client, f"a folder/{LONG}")
    make_folder(client, "a folder/below")
    begin(site, send(client, "on its way.pdf", "a folder/below"))
    for number in range(6):
        send(client, f"next {number}", "a folder")
    fail(site, send(client, f"failed {LONG[:200]}"), f"{LONG} stands in its way")
    made = Page(driver, site.url, site.installation)
    made.sign_in(site.token())
    made.open_folder("a folder")
    return made


# Signing in and moving about


def test_everything_can_be_done_with_keys_alone(
    site: Site, client: httpx.Client, driver: webdriver.Chrome
) -> None:
    make_folder(client, "keys/below")
    page = Page(driver, site.url, site.installation)
    page.open("/")
    wait_until(lambda: page.ask("document.activeElement.id") == "token", "the field has the focus")
    press(driver, site.token(), Keys.ENTER)
    wait_until(lambda: page.find("#here"), "signed in")

    reached = tab_through(page)
    assert reached[0] == "Skip to the content"
    for one in ("files", "folder-input", "conflict", "folder-name", "Make", "Sign out", "keys"):
        assert one in reached, reached
    page.ask("document.getElementById('folder-name').focus()")
    press(driver, "keys/made with keys", Keys.ENTER)
    wait_until(lambda: "made with keys" in page.text("#announcer"), "it is said", tell=page.text)
    to("keys", page)
    press(driver, Keys.ENTER)
    wait_until(lambda: page.listed() == ["below", "made with keys"], "the folder opens", tell=page.listed)
    to(page.text("#crumb-1"), page)
    press(driver, Keys.ENTER)
    wait_until(lambda: "keys" in page.listed(), "and back again", tell=page.listed)
    to("Sign out", page)
    press(driver, Keys.ENTER)
    wait_until(lambda: page.find("#token"), "signed out")


def press(driver: webdriver.Chrome, *keys: str) -> None:
    webdriver.ActionChains(driver).send_keys(*keys).perform()


def focused(page: Page) -> str:
    return str(
        page.ask(
            "((one) => one === document.body ? '' : one.textContent.trim() || one.id)(document.activeElement)"
        )
    )


def has_visible_focus(page: Page) -> bool:
    script = (
        "[document.activeElement, document.activeElement.parentElement]"
        ".some((one) => getComputedStyle(one).outlineStyle !== 'none' && getComputedStyle(one).outlineWidth !== '0px')"
    )
    return bool(page.ask(script))


def tab_through(page: Page) -> list[str]:
    """Walk over everything that keys reach, from the top; each must show that it has the focus."""
    page.ask("document.activeElement.blur()")
    found: list[str] = []
    for _ in range(40):
        press(page.driver, Keys.TAB)
        name = focused(page)
        if not name or name in found[:1]:
            break
        assert has_visible_focus(page), name
        found.append("conflict" if "keep both" in name else name)
    return found


def to(name: str, page: Page) -> None:
    page.ask("document.activeElement.blur()")
    for _ in range(40):
        press(page.driver, Keys.TAB)
        if focused(page) == name.strip():
            return
    pytest.fail(f"{name!r} is out of the keys' reach")


def test_the_focus_stays_while_the_page_is_brought_up_to_date(
    site: Site, client: httpx.Client, page: Page
) -> None:
    first = send(client, "first")
    second = send(client, "second")
    wait_until(lambda: page.find(f"#cancel-{second}"), "both are shown", tell=page.text)
    page.ask(f"document.getElementById('cancel-{second}').focus()")
    page.ask(f"void (document.getElementById('cancel-{second}').mark = 'the same')")

    client.post(f"{ROOT}/uploads/{first}/cancel").raise_for_status()
    wait_until(lambda: not page.find(f"#u-{first}"), "the first is gone")

    assert page.ask("document.activeElement.id + document.activeElement.mark") == f"cancel-{second}the same"
    client.post(f"{ROOT}/uploads/{second}/cancel").raise_for_status()
    wait_until(lambda: not page.find(f"#u-{second}"), "the second is gone, and the focus with it")
    assert page.ask("document.activeElement.closest('main') !== null")


# Looks


def test_a_phone_shows_all_of_it_without_scrolling_sideways(furnished: Page) -> None:
    wait_until(lambda: len(furnished.find(".rows li")) == 7, "all rows are there", tell=furnished.text)
    for size in (browser.PHONE, browser.DESKTOP):
        for dark in (False, True):
            browser.resize(furnished.driver, size, dark=dark)
            assert furnished.width() == size[0]
            furnished.picture(f"files-{size[0]}-{'dark' if dark else 'light'}", whole=True)
            browser.resize(furnished.driver, size)


def test_every_text_can_be_read_by_day_and_by_night(furnished: Page) -> None:
    grounds = set()
    for dark in (False, True):
        browser.resize(furnished.driver, browser.DESKTOP, dark=dark)
        grounds.add(furnished.ask("getComputedStyle(document.body).backgroundColor"))

        faint = {name: ratio for name, ratio in contrasts(furnished).items() if ratio < 4.5}

        assert faint == {}
    assert len(grounds) == 2


def test_faint_text_would_be_seen(furnished: Page) -> None:
    furnished.ask("void document.querySelector('#here').style.setProperty('color', '#aaa')")

    assert min(contrasts(furnished).values()) < 4.5


# Odd names


def test_names_are_shown_as_they_are_and_do_no_harm(site: Site, client: httpx.Client, page: Page) -> None:
    odd = (
        HTML,
        RIGHT_TO_LEFT,
        ARABIC,
        "line\nfeed",
        "100%25 & more?#x",
        "..hidden",
        " ",
        "back\\slash",
        '"quoted"',
    )
    for name in odd:
        make_folder(client, f"odd/{name.replace('/', '')}/below")
    message = f"{HTML} {RIGHT_TO_LEFT}"
    fail(site, send(client, HTML), message)
    send(client, RIGHT_TO_LEFT)
    page.open_folder("odd")
    shown = page.listed()

    assert HTML in shown
    assert "invoice\\u202egpj.exe" in shown
    assert "line\\u000afeed" in shown
    assert ARABIC in shown
    assert "\u202e" not in page.text("main")
    wait_until(lambda: "invoice\\u202egpj" in page.text("#uploads"), "the uploads too", tell=page.text)
    assert HTML in page.text("#uploads .why")
    assert page.find("main img, main script") == []
    for number in range(len(odd)):  # every one of them can be opened, and left again
        page.ask(f"document.querySelectorAll('#listing a')[{number}].click()")
        wait_until(lambda: page.listed() == ["below"], "it opens", tell=page.listed)
        page.ask("document.querySelector('#crumb-2').click()")
        wait_until(lambda: len(page.listed()) == len(odd), "back", tell=page.listed)
    assert "owned" not in page.driver.title
    assert browser.console(page.driver) == []


def test_a_file_is_sent_and_shown_under_its_odd_name(site: Site, client: httpx.Client, page: Page) -> None:
    for name in (HTML, RIGHT_TO_LEFT, "100%25 & more?#x", ARABIC):
        page.ask(
            "((transfer, input) => { transfer.items.add(new File(['x'], arguments[0]));"
            " input.files = transfer.files; input.dispatchEvent(new Event('change')); })"
            "(new DataTransfer(), document.getElementById('files'))",
            name,
        )
        wait_until(
            lambda name=name: site.installation.query(
                "SELECT count(*) FROM corporate.uploads WHERE name = %s", name
            )[0][0],
            f"{name!a} has come",
            tell=page.text,
        )
    assert page.find("main img, main script") == []


# The policy


def test_an_inline_script_would_be_refused(page: Page) -> None:
    page.ask(
        "((element) => { element.textContent = \"document.title = 'owned'\"; document.body.append(element); })"
        "(document.createElement('script'))"
    )

    wait_until(
        lambda: any("Content Security Policy" in one["message"] for one in browser.console(page.driver)),
        "it says so",
    )
    assert page.driver.title != "owned"


def test_an_address_elsewhere_would_be_refused(page: Page) -> None:
    page.ask(
        "((image) => { image.src = 'http://localhost:9/x.png'; document.body.append(image); })"
        "(document.createElement('img'))"
    )

    wait_until(
        lambda: any("Content Security Policy" in one["message"] for one in browser.console(page.driver)),
        "it says so",
    )


def test_nothing_is_asked_of_anybody_else(site: Site, furnished: Page) -> None:
    furnished.open("/operations")
    furnished.open("/files")
    furnished.ask("document.querySelector('#listing a').click()")
    wait_until(furnished.listed, "a folder is open")

    asked = browser.requested(furnished.driver)

    assert len(asked) > 10
    assert {url for url in asked if not url.startswith((site.url, "data:", "about:"))} == set()


# What ends


def test_a_token_that_ends_is_told_while_the_page_stands_open(site: Site, page: Page) -> None:
    page.open_folder("")
    site.installation.query("UPDATE corporate.api_tokens SET expires_at = now()")

    wait_until(lambda: page.find("#told"), "the door", tell=page.text)

    assert "expired or was revoked" in page.text("#told")
    assert page.driver.get_cookies() == []
    page.picture("sign-in-ended")


def test_a_token_that_ends_is_told_while_files_are_sent(site: Site, page: Page) -> None:
    site.installation.query("UPDATE corporate.api_tokens SET revoked_at = now()")
    page.ask(
        "((transfer, input) => { for (let n = 0; n < 20; n += 1) transfer.items.add(new File(['x'], `${n}`));"
        " input.files = transfer.files; input.dispatchEvent(new Event('change')); })"
        "(new DataTransfer(), document.getElementById('files'))"
    )

    wait_until(lambda: page.find("#told"), "the door, and no question in between", tell=page.text)


def test_a_waiting_upload_is_cancelled(site: Site, client: httpx.Client, page: Page) -> None:
    kept, cancelled = send(client, "kept"), send(client, "not wanted")
    wait_until(lambda: page.find(f"#cancel-{cancelled}"), "it is shown", tell=page.text)

    page.press("Cancel", "not wanted")

    wait_until(lambda: not page.find(f"#u-{cancelled}"), "it is gone", tell=page.text)
    assert (state(site, cancelled), state(site, kept)) == ("cancelled", "queued")
    assert page.text("#problem") == ""


def test_what_was_cancelled_is_not_said_to_be_stored(site: Site, client: httpx.Client, page: Page) -> None:
    cancelled = send(client, "not wanted")
    wait_until(lambda: page.find(f"#cancel-{cancelled}"), "it is shown", tell=page.text)

    page.press("Cancel", "not wanted")

    wait_until(lambda: page.text("#announcer"), "something is said", tell=page.text)
    assert page.text("#announcer") == "Nothing waits any more."


def test_a_pressed_button_keeps_the_focus_and_works_once(
    site: Site, client: httpx.Client, page: Page, driver: webdriver.Chrome
) -> None:
    cancelled = send(client, "not wanted")
    wait_until(lambda: page.find(f"#cancel-{cancelled}"), "it is shown", tell=page.text)
    close_the_gate(page)
    page.ask(f"document.getElementById('cancel-{cancelled}').focus()")

    press(driver, Keys.ENTER)
    wait_until(lambda: page.ask("window.posts"), "it is pressed")
    meanwhile = send(client, "meanwhile")
    wait_until(lambda: page.find(f"#u-{meanwhile}"), "the page was brought up to date", tell=page.text)
    press(driver, Keys.ENTER)

    assert page.ask("document.activeElement.id") == f"cancel-{cancelled}"
    assert page.ask("document.activeElement.ariaDisabled") == "true"
    assert page.ask("window.posts") == 1
    page.ask("window.openGate()")
    wait_until(lambda: not page.find(f"#u-{cancelled}"), "it is gone", tell=page.text)
    assert page.ask("document.activeElement.closest('main') !== null")
    page.press("Cancel", "meanwhile")
    wait_until(lambda: not page.find(f"#u-{meanwhile}"), "others can be pressed", tell=page.text)


def test_a_refusal_is_told_in_a_sentence(site: Site, client: httpx.Client, page: Page) -> None:
    upload = send(client, "gone meanwhile")
    wait_until(lambda: page.find(f"#cancel-{upload}"), "it is shown", tell=page.text)
    page.ask(
        "((request) => { window.fetch = (...all) => all[1]?.method === 'POST' ? request(...all) : new Promise(() => 0); })(fetch)"
    )
    client.post(f"{ROOT}/uploads/{upload}/cancel").raise_for_status()

    page.press("Cancel", "gone meanwhile")

    wait_until(lambda: "cancelled already" in page.text("#problem"), "it is told", tell=page.text)


def test_all_that_failed_is_retried(site: Site, client: httpx.Client, page: Page) -> None:
    failed = [send(client, f"{number}") for number in range(30)]
    for one in failed:
        fail(site, one)
    wait_until(lambda: "and 10 more failed" in page.text("#uploads"), "some are shown", tell=page.text)

    page.one("#retry-all").click()

    wait_until(lambda: {state(site, one) for one in failed} == {"queued"}, "all are queued")
    wait_until(lambda: not page.find(".rows .failed"), "none is shown as failed")


@pytest.mark.parametrize(
    ("state", "failed", "words"), [("cancelled", 25, "25 failed"), ("queued", 20, "20 or more failed")]
)
def test_what_failed_can_be_retried_behind_any_number_of_others(
    site: Site, client: httpx.Client, state: str, failed: int, words: str
) -> None:
    for number in range(25):
        fail(site, send(client, f"failed {number}"))
    site.installation.query(
        "INSERT INTO corporate.uploads (id, corp_index, state, parent_id, folder, name, on_conflict, inbox_path)"
        " SELECT gen_random_uuid(), corp_index, %s, parent_id, folder, n::text, on_conflict, 'x'"
        " FROM corporate.uploads, generate_series(0, %s) n WHERE name = 'failed 0'",
        state,
        page_files.COUNTED,
    )

    text = client.get("/files").text

    assert 'id="retry-all"' in text
    assert f'data-failed="{failed}"' in text
    assert words in text


def test_a_file_that_is_refused_says_why_and_can_be_sent_again(
    site: Site, client: httpx.Client, page: Page
) -> None:
    page.ask(
        "((transfer, input) => { transfer.items.add(new File(['x'], 'x'.repeat(300)));"
        " input.files = transfer.files; input.dispatchEvent(new Event('change')); })"
        "(new DataTransfer(), document.getElementById('files'))"
    )

    wait_until(lambda: "255 are allowed" in page.text("#sending .why"), "it says why", tell=page.text)
    assert "could not be sent" in page.text("#announcer")
    page.one("#send-again").click()
    wait_until(lambda: "255 are allowed" in page.text("#sending .why"), "once more", tell=page.text)


def test_a_long_folder_is_shown_a_page_at_a_time(site: Site, client: httpx.Client, page: Page) -> None:
    make_folder(client, "long")
    site.installation.query(
        "INSERT INTO corporate.vmb_items (corp_index, onedrive_item_id, parent_id, name, name_key, kind, size)"
        " SELECT 7, '7/long/' || n, '7/long', n::text, n::text, 'file', n FROM generate_series(1000, 1449) n"
    )
    page.open_folder("long")
    seen = [page.listed()]
    while page.find("#next-page"):
        page.one("#next-page").click()
        wait_until(lambda: page.listed() != seen[-1], "the next page")
        seen.append(page.listed())

    assert [len(one) for one in seen] == [200, 200, 50]
    assert all(before[-1] < after[0] for before, after in pairwise(seen))
    page.one("#first-page").click()
    wait_until(lambda: page.listed() == seen[0], "from the beginning")

"""The page's door and its guards, asked without a browser: cookies, origins, headers, problems as pages."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.web.access import COOKIE
from local import servers as local_servers
from tests.acceptance.conftest import wait_until
from tests.installation import CORP, fresh_installation, make_database
from tests.web.conftest import Site, make_token
from tests.web_server import OTHER_CORP, web_server

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
OURS = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def visitor(site: Site) -> Iterator[httpx.Client]:
    """Somebody with a browser's headers, and no cookie yet."""
    with site.client() as client:
        client.headers.update(BROWSER)
        yield client


def sign_in(visitor: httpx.Client, token: str, **headers: str) -> httpx.Response:
    return visitor.post("/sign-in", data={"token": token}, headers=OURS | headers)


def test_a_token_becomes_a_cookie_that_no_script_and_no_other_site_can_use(
    site: Site, visitor: httpx.Client
) -> None:
    token = site.token()

    answer = sign_in(visitor, f"  {token}\n")

    assert (answer.status_code, answer.headers["location"]) == (303, "/files")
    flags = answer.headers["set-cookie"].split("; ")
    assert flags[0] == f"{COOKIE}={token}"
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(flags)
    assert not any(flag.startswith(("Max-Age", "expires", "Domain")) for flag in flags)


@pytest.mark.parametrize(("scheme", "is_secure"), [("http", False), ("https", True)])
def test_the_cookie_is_for_tls_alone_where_there_is_tls(
    site: Site, visitor: httpx.Client, scheme: str, is_secure: bool
) -> None:
    answer = sign_in(visitor, site.token(), **{"X-Forwarded-Proto": scheme})

    assert ("; Secure" in answer.headers["set-cookie"]) == is_secure


@pytest.mark.parametrize(("believed", "is_secure"), [("127.0.0.1", True), ("192.0.2.1", False)])
def test_only_a_proxy_that_is_named_is_believed_about_tls(
    site: Site, tmp_path: Path, believed: str, is_secure: bool
) -> None:
    token = site.token()
    with (
        web_server(site.installation, FORWARDED_ALLOW_IPS=believed) as running,
        running.client() as visitor,
    ):
        visitor.headers = httpx.Headers(BROWSER)
        answer = sign_in(visitor, token, **{"X-Forwarded-Proto": "https"})

    assert answer.status_code == 303
    assert ("; Secure" in answer.headers["set-cookie"]) == is_secure


def test_the_token_stands_in_no_page_no_address_and_no_log(site: Site, visitor: httpx.Client) -> None:
    token = site.token()
    answers = [sign_in(visitor, token), visitor.get("/files"), sign_in(visitor, token[:-1])]

    assert [answer.status_code for answer in answers] == [303, 200, 401]
    for answer in answers:
        assert token[:20] not in answer.text + str(answer.url) + answer.headers.get("location", "")
    assert "POST /sign-in" in site.log.read_text()
    assert token[:20] not in site.log.read_text()


@pytest.mark.parametrize("token", ["nonsense", "haulage_" + "x" * 43 + "00000000", "<b>", "\u202e"])
def test_a_wrong_token_is_told_in_a_sentence(visitor: httpx.Client, token: str) -> None:
    answer = sign_in(visitor, token)

    assert answer.status_code == 401
    assert "unknown, expired or revoked" in answer.text
    assert token not in answer.text or token == "nonsense"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("how", ["expires_at = now()", "revoked_at = now()"])
def test_an_ended_token_is_told_once_and_forgotten(site: Site, visitor: httpx.Client, how: str) -> None:
    token = site.token()
    sign_in(visitor, token)
    site.installation.query(f"UPDATE corporate.api_tokens SET {how}")

    away = visitor.get("/files?path=a%2Fb")
    assert (away.status_code, away.headers["location"]) == (303, "/?then=%2Ffiles%3Fpath%3Da%252Fb")
    door = visitor.get(away.headers["location"])

    assert door.status_code == 401
    assert "has expired or was revoked" in door.text
    assert 'value="/files?path=a%2Fb"' in door.text
    assert COOKIE not in visitor.cookies
    assert visitor.get("/").status_code == 200
    assert sign_in(visitor, token).status_code == 401


def test_signing_in_again_leads_back(site: Site, visitor: httpx.Client) -> None:
    form = {"token": site.token(), "then": "/files?path=a%2Fb"}

    assert visitor.post("/sign-in", data=form, headers=OURS).headers["location"] == "/files?path=a%2Fb"


@pytest.mark.parametrize(
    "then",
    ["https://evil.example/files", "//evil.example", "/\\evil.example", "/filesystem", "/operations", ""],
)
def test_signing_in_leads_nowhere_else(site: Site, visitor: httpx.Client, then: str) -> None:
    answer = visitor.post("/sign-in", data={"token": site.token(), "then": then}, headers=OURS)

    assert answer.headers["location"] == "/files"


FOREIGN = [
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("form", ["/sign-in", "/sign-out"])
def test_a_form_that_another_site_sends_does_nothing(
    site: Site, visitor: httpx.Client, form: str, headers: dict[str, str]
) -> None:
    answer = visitor.post(form, data={"token": site.token()}, headers=headers)

    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_a_form_of_ours_is_known_by_its_origin_too(site: Site, visitor: httpx.Client) -> None:
    host = site.url.removeprefix("http://")

    for origin in (f"http://{host}", f"https://{host}"):  # a proxy may have ended the TLS
        answer = visitor.post("/sign-in", data={"token": site.token()}, headers={"Origin": origin})
        assert answer.status_code == 303


def test_a_form_of_any_length_is_not_read(site: Site, visitor: httpx.Client) -> None:
    answer = visitor.post("/sign-in", data={"token": "x" * 100_000}, headers=OURS)

    assert answer.status_code == 400
    assert "4096 bytes" in answer.text


def test_a_form_of_many_fields_is_refused(site: Site, visitor: httpx.Client) -> None:
    answer = visitor.post("/sign-in", data={f"field {number}": "x" for number in range(11)}, headers=OURS)

    assert answer.status_code == 400
    assert "10 fields" in answer.text
    assert "Traceback" not in site.log.read_text()


def test_signing_out_forgets_the_token(site: Site, visitor: httpx.Client) -> None:
    sign_in(visitor, site.token())

    assert visitor.post("/sign-out", headers=OURS).status_code == 303
    assert COOKIE not in visitor.cookies
    assert visitor.get("/files").headers["location"].startswith("/?then=")


def test_each_sees_the_house_that_is_theirs(site: Site, visitor: httpx.Client) -> None:
    sign_in(visitor, site.token())
    assert visitor.get("/").headers["location"] == "/files"
    assert visitor.get("/operations").status_code == 303  # to the door, and from there back to the files

    visitor.cookies.clear()
    assert sign_in(visitor, site.token(None)).headers["location"] == "/operations"
    assert visitor.get("/").headers["location"] == "/operations"
    assert visitor.get("/operations").status_code == 200
    assert visitor.get("/files").status_code == 303


def test_the_cookie_alone_changes_nothing(site: Site, visitor: httpx.Client) -> None:
    sign_in(visitor, site.token())
    uploads = f"/api/v1/corporations/{CORP}/uploads"

    assert visitor.get(uploads).status_code == 200
    forged = visitor.post(f"{uploads}?name=x", content=b"x", headers={"Accept": "*/*"})
    ours = visitor.post(f"{uploads}?name=x", content=b"x", headers={"X-Haulage-Page": "1"})

    assert (forged.status_code, ours.status_code) == (401, 202)


def test_another_corporations_files_are_not_shown(site: Site, visitor: httpx.Client) -> None:
    with site.client(site.token()) as owner:
        owner.post(f"/api/v1/corporations/{CORP}/folders", json={"path": "secret"}).raise_for_status()
    sign_in(visitor, site.token(OTHER_CORP))

    assert "secret" not in visitor.get("/files").text
    assert visitor.get("/files?path=secret").status_code == 404


PAGES = ("/", "/files", "/files?path=nowhere", "/files?path=..", "/files?since=never", "/nowhere", "/sign-in")


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_guarded(site: Site, visitor: httpx.Client, path: str) -> None:
    sign_in(visitor, site.token())

    answer = visitor.get(path, follow_redirects=True)

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/files?path=nowhere", 404, "there is no folder at this path"),
        ("/files?path=..", 400, "is not a name"),
        ("/files?path=%00", 400, "NUL"),
        ("/files?since=never", 422, "since"),
        ("/files?after=%00", 400, "name"),
        ("/nowhere", 404, "Not Found"),
        ("/sign-in", 405, "Method Not Allowed"),
        (f"/api/v1/corporations/{OTHER_CORP}/uploads", 404, "no such corporation"),
        (f"/api/v1/corporations/{CORP}/items/nothing/content", 404, "no item"),
    ],
)
def test_a_problem_is_a_page_for_who_wants_one(
    site: Site, visitor: httpx.Client, path: str, status: int, words: str
) -> None:
    sign_in(visitor, site.token())

    page, problem = visitor.get(path), visitor.get(path, headers={"Accept": "*/*"})

    assert page.status_code == problem.status_code == status
    assert page.headers["content-type"].startswith("text/html")
    assert words in page.text
    assert page.headers["x-request-id"] in page.text
    assert problem.headers["content-type"] == "application/problem+json"


JAVA = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"  # what its HttpURLConnection sends unless told otherwise


@pytest.mark.parametrize("path", ["/metrics", f"/api/v1/corporations/{CORP}/uploads"])
@pytest.mark.parametrize("token", ["nonsense", "haulage_" + "x" * 43 + "00000000"])
def test_a_program_with_a_bad_token_is_not_sent_to_the_door(site: Site, path: str, token: str) -> None:
    with site.client(token) as program:
        answer = program.get(path, headers={"Accept": JAVA})

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorised")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("since", "status"),
    [
        ("2026-03-01T00:00:00+15:59", 200),
        ("2026-03-01T00:00:00+16:00", 200),
        ("2026-03-01T00:00:00-23:59", 200),
        ("0001-01-01T00:00:00+00:01", 400),
        ("9999-12-31T23:59:59-00:01", 400),
    ],
)
def test_any_moment_with_an_offset_is_understood_or_refused(
    site: Site, visitor: httpx.Client, since: str, status: int
) -> None:
    sign_in(visitor, site.token())

    answer = visitor.get("/files", params={"since": since})

    assert answer.status_code == status
    assert ("no clock shows" in answer.text) == (status == 400)


def test_what_the_page_loads_may_be_kept_for_good(visitor: httpx.Client) -> None:
    addresses = re.findall(r'(?:href|src)="(/static/[^"]+)"', visitor.get("/").text)

    assert len(addresses) == 2
    for address in addresses:
        answer = visitor.get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        known = visitor.get(address, headers={"If-None-Match": answer.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
        older = visitor.get(re.sub(r"/static/\w+/", "/static/0123456789ab/", address))
        assert (older.status_code, older.headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fpages.py", "../pages.py", "%2e%2e/pages.py"])
def test_nothing_else_is_given_away(visitor: httpx.Client, name: str) -> None:
    assert visitor.get(f"/static/0/{name}").status_code == 404


def test_the_pages_are_no_part_of_the_interfaces_document(visitor: httpx.Client) -> None:
    paths = visitor.get("/openapi.json").json()["paths"]

    assert not {"/", "/files", "/sign-in", "/sign-out", "/operations"} & set(paths)
    assert not [path for path in paths if path.startswith("/static")]


def test_a_page_says_that_postgresql_is_away(tmp_path: Path) -> None:
    with local_servers.throwaway() as own:
        installation = fresh_installation(own, make_database(own), tmp_path)
        token = make_token(installation)
        with web_server(installation) as running, running.client() as visitor:
            visitor.headers = httpx.Headers(BROWSER)
            assert sign_in(visitor, token).status_code == 303
            os.kill(own.postgres_pid, signal.SIGINT)  # PostgreSQL's fast shutdown
            wait_until(lambda: visitor.get("/files").status_code == 503, "it is away")
            answers = [visitor.get("/files"), visitor.get("/"), sign_in(visitor, token)]
            visitor.cookies.clear()
            stranger = visitor.get("/")

    for answer in answers:
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert answer.headers["content-type"].startswith("text/html")
        assert "the database is out of reach" in answer.text
    assert stranger.status_code == 200  # who has no cookie is asked for a token, which needs no database

"""Folders, files and who may see them, from a real server."""

import hashlib
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from app import catalogue, database
from app.catalogue import NewItem
from app.models import Kind
from app.web.main import app
from local.servers import Servers
from tests.installation import CORP, Installation, fresh_installation, make_database
from tests.web_server import OTHER_CORP, UPLOADS, WebServer, web_server

ROOT = f"/api/v1/corporations/{CORP}"
ODD = "50% of ü #?&+;\"'\\\n文🦀 content"


@pytest.fixture(scope="module")
def web(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    installation = fresh_installation(servers, make_database(servers), tmp_path_factory.mktemp("web"))
    with (
        web_server(installation) as running,
    ):
        furnish(installation)
        yield running


@pytest.fixture
def client(web: WebServer) -> Iterator[httpx.Client]:
    with web.client() as made:
        yield made


def record(installation: Installation, *items: NewItem) -> None:
    engine = database.short_lived_engine(installation.environment["OWNER_DATABASE_URL"])
    with database.Session(engine) as session, session.begin():
        for item in items:
            catalogue.record(session, CORP, item)
            catalogue.count_in(session, CORP, item.parent_id)


def put(installation: Installation, parent_id: str, name: str, data: bytes) -> NewItem:
    item_id = f"{parent_id}/{name}"
    (installation.drive_dir / item_id).write_bytes(data)
    return NewItem(item_id, parent_id, name, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def furnish(installation: Installation) -> None:
    folder = f"7/{ODD}"
    (installation.drive_dir / folder / "children").mkdir(parents=True)
    record(
        installation,
        NewItem(folder, "7", ODD, kind=Kind.FOLDER),
        NewItem(f"{folder}/children", folder, "children", kind=Kind.FOLDER),
        put(installation, folder, ODD, b"odd"),
        put(installation, folder, "content", b"x" * 3_000_000),
        put(installation, folder, "empty", b""),
        NewItem(f"{folder}/lost", folder, "lost", size=4, sha256="0" * 64),
    )


def test_a_folder_is_found_by_its_path_of_names(client: httpx.Client) -> None:
    root = client.get(f"{ROOT}/children").json()
    page = client.get(f"{ROOT}/children", params={"path": f"/{ODD}/"}).json()

    assert [one["name"] for one in root["items"]] == [ODD]
    assert page["folder"] == root["items"][0]
    assert page["folder"]["child_count"] == len(page["items"]) == 5
    assert client.get(page["folder"]["children_url"]).json() == page
    assert client.get(f"{ROOT}/children", params={"path": "no/where"}).status_code == 404
    assert client.get(f"{ROOT}/children", params={"path": f"{ODD}/empty"}).status_code == 404
    assert client.get(f"{ROOT}/children", params={"path": "a\0b"}).status_code == 400


def test_pages_follow_each_other(client: httpx.Client) -> None:
    url = f"{ROOT}/items/{quote(f'7/{ODD}')}/children?limit=2"
    names = []
    while url:
        page = client.get(url).json()
        assert 0 < len(page["items"]) <= 2
        names += [one["name"] for one in page["items"]]
        url = page["next"]

    assert names == ["children", ODD, "content", "empty", "lost"]


def test_content_comes_as_an_attachment_under_its_name(client: httpx.Client) -> None:
    for item in client.get(f"{ROOT}/children", params={"path": ODD}).json()["items"]:
        if item["kind"] == "folder" or item["name"] == "lost":
            continue
        got = client.get(item["content_url"])

        assert (got.status_code, len(got.content)) == (200, item["size"])
        assert hashlib.sha256(got.content).hexdigest() == item["sha256"]
        assert got.headers["etag"] == f'"{item["sha256"]}"'
        assert got.headers["content-length"] == str(item["size"])
        assert got.headers["x-content-type-options"] == "nosniff"
        disposition = got.headers["content-disposition"]
        assert disposition.startswith('attachment; filename="')
        assert disposition.endswith(f"; filename*=UTF-8''{quote(item['name'], safe='')}")


def test_what_has_no_content_says_so(web: WebServer, client: httpx.Client) -> None:
    folder = client.get(f"{ROOT}/items/7/content")
    lost = client.get(f"{ROOT}/items/{quote(f'7/{ODD}/lost')}/content")

    assert (folder.status_code, folder.json()["detail"]) == (404, "a folder has no content")
    assert (lost.status_code, lost.json()["code"]) == (503, "drive_unavailable")
    assert str(web.installation.root) not in lost.text
    assert "ERROR app.web.content" in web.log.read_text()
    assert client.get(f"{ROOT}/items/7/..%2f8/content").status_code == 404
    assert client.get(f"{ROOT}/items/7%00/content").status_code == 404
    assert client.get(f"{ROOT}/items/%ff/children").status_code == 404
    assert client.get(f"{ROOT}/items/{quote(f'7/{ODD}/empty')}/children").status_code == 404


def test_a_file_that_is_cut_short_is_not_taken_for_a_whole_one(web: WebServer, client: httpx.Client) -> None:
    item = put(web.installation, "7", "short", b"x" * 3_000_000)
    record(web.installation, item)
    (web.installation.drive_dir / item.drive_item_id).write_bytes(b"x")

    with pytest.raises(httpx.RemoteProtocolError):
        client.get(f"{ROOT}/items/7/short/content")


def corporate_routes() -> list[tuple[str, str]]:
    """Every method and path of the application that names a corporation, as it would look for one of them."""
    found = []
    waiting = [("", route) for route in app.routes]
    while waiting:
        prefix, route = waiting.pop()
        if hasattr(route, "original_router"):
            prefix += route.include_context.prefix
            waiting += [(prefix, one) for one in route.original_router.routes]
        elif "corp_index" in getattr(route, "path", ""):
            found += [(method, prefix + route.path) for method in route.methods]
    return found


def filled(path: str, corp_index: int | str, upload_id: str = "00000000-0000-0000-0000-000000000000") -> str:
    """Put in a corporation, and an upload and an item that are there: a file for its content, else a folder."""
    item_id = f"{CORP}/{ODD}/empty" if path.endswith("/content") else str(CORP)
    values = {"{corp_index}": str(corp_index), "{upload_id}": upload_id}
    for name, value in (values | {"{item_id:item_id}": quote(item_id)}).items():
        path = path.replace(name, value)
    assert "{" not in path
    return path


def test_there_are_routes_to_walk() -> None:
    assert len(corporate_routes()) >= 5


@pytest.mark.parametrize(("method", "path"), corporate_routes())
def test_a_foreign_corporation_does_not_exist(
    web: WebServer, client: httpx.Client, method: str, path: str
) -> None:
    bare = httpx.Client(base_url=client.base_url, trust_env=False)
    with web.client(web.other_token) as other, bare:
        foreign = other.request(method, filled(path, CORP))
        unknown = other.request(method, filled(path, 12345))
        odd = [other.request(method, filled(path, one)) for one in ("08", "8%20", "-1", "x", "٨")]
        own = other.request(method, filled(path, OTHER_CORP))
        nobody = bare.request(method, filled(path, CORP))

    assert foreign.status_code == 404
    assert [one.status_code for one in (unknown, *odd)] == [404] * 6
    assert [one.content for one in (unknown, *odd)] == [foreign.content] * 6
    if method != "HEAD":  # which has no body to tell more
        assert foreign.json()["code"] == "not_found"
        assert own.json() != foreign.json()
    assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    ("method", "path"), [one for one in corporate_routes() if "{upload_id}" in one[1] or "{item_id" in one[1]]
)
def test_what_belongs_to_another_corporation_is_not_found_below_ones_own(
    client: httpx.Client, web: WebServer, method: str, path: str
) -> None:
    upload_id = client.post(UPLOADS, params={"name": "mine"}, content=b"x").json()["id"]

    with web.client(web.other_token) as other:
        own = other.request(method, filled(path, OTHER_CORP, upload_id))
        foreign = other.request(method, filled(path, CORP, upload_id))

    assert (own.status_code, foreign.status_code) == (404, 404)
    assert client.get(f"{UPLOADS}/{upload_id}").json()["state"] == "queued"
    owner = client.request(method, filled(path, CORP, upload_id))
    assert owner.status_code == (409 if path.endswith("/retry") else 200)  # it is there


@pytest.mark.parametrize("change", ["revoked_at = now()", "expires_at = now() - interval '1 second'"])
def test_a_token_that_is_over_opens_nothing(web: WebServer, client: httpx.Client, change: str) -> None:
    digest = hashlib.sha256(web.token.encode()).digest()
    was = "UPDATE corporate.api_tokens SET revoked_at = NULL, expires_at = NULL WHERE sha256 = %s"
    assert client.get(f"{ROOT}/children").status_code == 200
    web.installation.query(f"UPDATE corporate.api_tokens SET {change} WHERE sha256 = %s", digest)
    try:
        assert client.get(f"{ROOT}/children").status_code == 401
    finally:
        web.installation.query(was, digest)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Basic abc", "Bearer é", "Bearer haulage_\x7f", "Token haulage_"]
)
def test_a_mangled_header_is_nobody(web: WebServer, header: str) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{web.port}", trust_env=False) as client:
        answer = client.get(f"{ROOT}/children", headers={"Authorization": header.encode()})

    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")

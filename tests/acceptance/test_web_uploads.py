"""Receiving files over HTTP, from a real server."""

import hashlib
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from local.servers import Servers
from tests.installation import fresh_installation, make_database
from tests.web_server import UPLOADS, WebServer, web_server

MAX_BYTES = 8 * 2**20


@pytest.fixture(scope="module")
def web(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    installation = fresh_installation(servers, make_database(servers), tmp_path_factory.mktemp("web"))
    with (
        web_server(installation, MAX_UPLOAD_BYTES=str(MAX_BYTES)) as running,
    ):
        yield running


@pytest.fixture
def client(web: WebServer) -> Iterator[httpx.Client]:
    """A client; what its test leaves in staging is as much as it leaves in the database."""
    with web.client() as made:
        yield made
    assert len(web.staged_files()) == web.upload_count()


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    told = response.json()
    assert told["type"] == "about:blank"
    assert told["title"]
    assert told["detail"]
    assert told["status"] == response.status_code
    return response.status_code, told["code"]


def multipart(*parts: bytes, boundary: bytes = b"b") -> dict[str, Any]:
    body = b"".join(b"--%s\r\n%s\r\n" % (boundary, part) for part in parts) + b"--%s--\r\n" % boundary
    return {
        "content": body,
        "headers": {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"},
    }


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    more = f'; filename="{filename}"' if filename is not None else ""
    return f'Content-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value


def test_a_raw_body_is_received(web: WebServer, client: httpx.Client) -> None:
    data = b"some bytes" * 300_000

    response = client.post(UPLOADS, params={"name": "a.bin", "folder": "x/y"}, content=data)

    assert response.status_code == 202
    told = response.json()
    assert response.headers["location"] == told["url"] == f"{UPLOADS}/{told['id']}"
    assert (told["name"], told["folder"], told["state"]) == ("a.bin", "x/y", "queued")
    assert (told["size"], told["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    staged = web.installation.query("SELECT staged_id FROM corporate.uploads WHERE id = %s", told["id"])[0][0]
    kept = web.installation.staging_dir / "kept" / staged.replace("-", "")[:2] / staged.replace("-", "")
    assert kept.read_bytes() == data
    assert client.get(told["url"]).json() == told


def test_a_form_is_received_with_fields_on_both_sides_of_the_file(client: httpx.Client) -> None:
    form = multipart(
        part("folder", b"a/b"), part("file", b"\r\n--not it\r\n", "f.txt"), part("on_conflict", b"rename")
    )

    told = client.post(UPLOADS, **form).json()

    assert (told["name"], told["folder"], told["size"]) == ("f.txt", "a/b", 12)


def test_httpx_and_the_query_work_for_forms(client: httpx.Client) -> None:
    response = client.post(UPLOADS, params={"folder": "q"}, files={"file": ("größe.txt", b"x" * 3_000_000)})

    told = response.json()
    assert (response.status_code, told["name"], told["folder"], told["size"]) == (
        202,
        "größe.txt",
        "q",
        3_000_000,
    )


@pytest.mark.parametrize("chunked", [False, True])
def test_zero_bytes_are_a_file(client: httpx.Client, chunked: bool) -> None:
    body = iter([]) if chunked else b""

    told = client.post(UPLOADS, params={"name": "empty"}, content=body).json()

    assert (told["size"], told["sha256"]) == (0, hashlib.sha256().hexdigest())
    assert client.post(UPLOADS, **multipart(part("file", b"", "empty"))).json()["size"] == 0


ODD = [
    "a\tb",
    "abc\u202etxt.exe",
    "'quoted' \"double\" \\back",
    "con",
    "trailing dot.",
    " spaces ",
    "line\nfeed",
    "ü" * 127,
    "文件.pdf",
    "🦀🚚.zip",
    unicodedata.normalize("NFC", "é"),
    unicodedata.normalize("NFD", "é"),
    "100%22+&=#?.txt",
    "-rf *",
    "C:\\x\\y.txt",
]


@pytest.mark.parametrize("name", ODD)
def test_names_come_back_as_they_were_given(client: httpx.Client, name: str) -> None:
    told = client.post(UPLOADS, params={"name": name}, content=b"x").json()

    assert told["name"].encode() == name.encode()


@pytest.mark.parametrize("name", [name for name in ODD if "%22" not in name])
def test_names_come_back_from_forms_encoded_as_browsers_do(client: httpx.Client, name: str) -> None:
    sent = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")

    told = client.post(UPLOADS, **multipart(part("file", b"x", sent))).json()

    assert told["name"].encode() == name.encode()


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"content": b"x"}, 400, "bad_request"),
        ({"params": {"name": "a/b"}, "content": b"x"}, 400, "bad_name"),
        ({"params": {"name": ".."}, "content": b"x"}, 400, "bad_name"),
        ({"params": {"name": "a\0b"}, "content": b"x"}, 400, "bad_name"),
        ({"params": {"name": "x" * 256}, "content": b"x"}, 400, "bad_name"),
        ({"params": {"name": "x", "folder": "f/" * 500}, "content": b"x"}, 400, "path_too_long"),
        ({"params": {"name": "x", "on_conflict": "maybe"}, "content": b"x"}, 400, "bad_request"),
        ({"params": {"name": "x", "colour": "red"}, "content": b"x"}, 400, "bad_request"),
        ({"params": {"name": "x", "parent_id": "nowhere"}, "content": b"x"}, 404, "not_found"),
        ({"params": {"name": "x", "parent_id": "8"}, "content": b"x"}, 404, "not_found"),
        ({"params": {"name": "x", "parent_id": "\0"}, "content": b"x"}, 404, "not_found"),
        ({"headers": {"Idempotency-Key": ""}, "params": {"name": "x"}}, 400, "bad_request"),
        ({"headers": {"Idempotency-Key": "k" * 256}, "params": {"name": "x"}}, 400, "bad_request"),
        ({"params": {"name": "x"}, "content": b"x" * (MAX_BYTES + 1)}, 413, "too_large"),
        ({"params": {"name": "x"}, "content": iter([b"x" * (MAX_BYTES + 1)])}, 413, "too_large"),
        (multipart(part("file", b"x" * (MAX_BYTES + 1), "x")), 413, "too_large"),
        (multipart(part("file", b"x", "a/b")), 400, "bad_name"),
        (multipart(part("file", b"x")), 400, "bad_request"),
        (multipart(part("file", b"x", "")), 400, "bad_request"),
        (multipart(part("file", b"x", "1"), part("file", b"x", "2")), 400, "bad_request"),
        (multipart(part("other", b"x", "1")), 400, "bad_request"),
        (multipart(part("folder", b"x")), 400, "bad_request"),
        (multipart(part("folder", b"x"), part("folder", b"y"), part("file", b"x", "1")), 400, "bad_request"),
        (multipart(part("name", b"\xff"), part("file", b"x", "1")), 400, "bad_request"),
        (multipart(b"no headers"), 400, "bad_request"),
        (multipart(part("file", b"", "1"), *[part(f"f{n}", b"") for n in range(10_000)]), 400, "bad_request"),
        (multipart(part("folder", b"x" * 70_000), part("file", b"", "1")), 400, "bad_request"),
        (multipart(), 400, "bad_request"),
        (
            {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
            400,
            "bad_request",
        ),
        (
            {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=" + "b" * 300}},
            400,
            "bad_request",
        ),
        (
            {"content": b"hello", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
            400,
            "bad_request",
        ),
        (
            {
                "content": b"--b\r\n" + part("file", b"x", "1"),
                "headers": {"Content-Type": "multipart/form-data; boundary=b"},
            },
            400,
            "incomplete_body",
        ),
    ],
)
def test_what_cannot_be_received_is_refused_by_name(
    client: httpx.Client, request_: Any, status: int, code: str
) -> None:
    assert problem(client.post(UPLOADS, **request_)) == (status, code)


@pytest.mark.parametrize("query", ["name=%ff", "name=a%", "&".join(f"name={n}" for n in range(30))])
def test_a_query_that_is_not_valid_is_no_server_error(client: httpx.Client, query: str) -> None:
    assert client.post(f"{UPLOADS}?{query}", content=b"x").status_code in {202, 400}


def test_a_file_of_exactly_the_largest_size_is_received(client: httpx.Client) -> None:
    data = b"x" * MAX_BYTES

    assert client.post(UPLOADS, params={"name": "x"}, content=data).status_code == 202
    assert client.post(UPLOADS, files={"file": ("x", data)}).status_code == 202


def test_the_same_key_is_the_same_upload(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "first try"}

    first = client.post(UPLOADS, params={"name": "k"}, content=b"same", headers=headers)
    again = client.post(UPLOADS, params={"name": "k"}, content=b"same", headers=headers)
    other = client.post(UPLOADS, params={"name": "k"}, content=b"other", headers=headers)

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert problem(other) == (422, "idempotency_key_reused")


def test_many_at_once_with_one_key_are_one_upload(client: httpx.Client) -> None:
    def post(_: int) -> str:
        return client.post(
            UPLOADS, params={"name": "p"}, content=b"x" * 5000, headers={"Idempotency-Key": "parallel"}
        ).json()["id"]

    with ThreadPoolExecutor(20) as threads:
        assert len(set(threads.map(post, range(20)))) == 1


def test_an_unknown_upload_and_a_foreign_one_are_not_there(web: WebServer, client: httpx.Client) -> None:
    url = client.post(UPLOADS, params={"name": "mine"}, content=b"x").json()["url"]

    with web.client(web.other_token) as other:
        assert problem(other.get(url)) == (404, "not_found")
        assert problem(other.get(url.replace("/7/", "/8/"))) == (404, "not_found")
    assert problem(client.get(f"{UPLOADS}/00000000-0000-0000-0000-000000000000")) == (404, "not_found")
    assert problem(client.get(f"{UPLOADS}/nonsense")) == (422, "invalid_parameter")

"""The rest of the interface, from a real server: lists, cancel, retry, parts of content, new folders, request ids, figures."""

import hashlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from sqlalchemy import make_url

from app import catalogue, database, tokens
from app.catalogue import NewItem
from app.models import State, Upload
from local import servers as local_servers
from local.servers import Servers
from tests.acceptance.conftest import wait_until
from tests.installation import CORP, Installation, fresh_installation, make_database
from tests.web_server import UPLOADS, WebServer, web_server

ROOT = f"/api/v1/corporations/{CORP}"
CONTENT = bytes(range(256)) * 40
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def web(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    installation = fresh_installation(servers, make_database(servers), tmp_path_factory.mktemp("web"))
    with web_server(installation, LOG_FORMAT="json") as running:
        put(installation, "file.bin", CONTENT)
        put(installation, "empty", b"")
        yield running


@pytest.fixture
def client(web: WebServer) -> Iterator[httpx.Client]:
    web.installation.query(
        "ALTER TABLE corporate.upload_events DISABLE TRIGGER append_only;"
        " DELETE FROM corporate.upload_events; DELETE FROM corporate.uploads;"
        " ALTER TABLE corporate.upload_events ENABLE TRIGGER append_only"
    )
    with web.client() as made:
        yield made


def as_owner(installation: Installation) -> database.Session:
    return database.Session(database.short_lived_engine(installation.environment["OWNER_DATABASE_URL"]))


def put(installation: Installation, name: str, data: bytes) -> None:
    (installation.drive_dir / str(CORP) / name).write_bytes(data)
    item = NewItem(f"{CORP}/{name}", str(CORP), name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    with as_owner(installation) as session, session.begin():
        catalogue.record(session, CORP, item)
        catalogue.count_in(session, CORP, str(CORP))


def send(client: httpx.Client, name: str, **headers: str) -> UUID:
    answer = client.post(UPLOADS, params={"name": name}, content=b"x", headers=headers)
    assert answer.status_code == 202, answer.text
    return UUID(answer.json()["id"])


def in_state(web: WebServer, upload_id: UUID, state: State) -> None:
    web.installation.query(
        "UPDATE corporate.uploads SET state = %s, token = CASE WHEN %s = 'transferring' THEN gen_random_uuid() END,"
        " reason = 'worn_out', message = 'as the test wants it',"
        " finished_at = CASE WHEN %s IN ('failed', 'cancelled') THEN now() END WHERE id = %s",
        state,
        state,
        state,
        str(upload_id),
    )


def names(page: dict) -> list[str]:
    return [one["name"] for one in page["uploads"]]


# Lists


def test_uploads_are_listed_newest_first_a_page_at_a_time(client: httpx.Client) -> None:
    for number in range(5):
        send(client, f"{number}")

    first = client.get(UPLOADS, params={"limit": 2}).json()
    second = client.get(first["next"]).json()
    third = client.get(second["next"]).json()

    assert [names(page) for page in (first, second, third)] == [["4", "3"], ["2", "1"], ["0"]]
    assert third["next"] is None


def test_uploads_of_one_moment_are_each_listed_once(web: WebServer, client: httpx.Client) -> None:
    for number in range(7):
        send(client, f"{number}")
    web.installation.query("UPDATE corporate.uploads SET created_at = now()")

    found, following = [], f"{UPLOADS}?limit=3"
    while following:
        page = client.get(following).json()
        found += names(page)
        following = page["next"]

    assert sorted(found) == [f"{number}" for number in range(7)]


def test_an_upload_that_comes_meanwhile_moves_no_page(client: httpx.Client) -> None:
    for number in range(4):
        send(client, f"{number}")
    first = client.get(UPLOADS, params={"limit": 2}).json()
    send(client, "late")

    assert names(client.get(first["next"]).json()) == ["1", "0"]


def test_a_list_can_be_of_some_states(web: WebServer, client: httpx.Client) -> None:
    ids = {name: send(client, name) for name in ("a", "b", "c")}
    in_state(web, ids["a"], State.FAILED)
    in_state(web, ids["b"], State.CANCELLED)

    failed = client.get(UPLOADS, params={"state": "failed"}).json()
    both = client.get(UPLOADS, params={"state": ["failed", "cancelled"], "limit": 1}).json()

    assert (names(failed), names(both)) == (["a"], ["b"])
    assert names(client.get(both["next"]).json()) == ["a"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"state": "lost"}, 422),
        ({"limit": "0"}, 422),
        ({"limit": "1001"}, 422),
        ({"cursor": "!"}, 400),
        ({"cursor": "MjAyNi0wMS0wMQ=="}, 400),
        ({"cursor": "MjAyNi0wMS0wMVQwMDowMDowMCBub3QtYW4taWQ="}, 400),
        ({"cursor": "2026"}, 400),
        ({"cursor": "\0ä"}, 400),
    ],
)
def test_a_list_asked_for_wrongly_says_what_is_wrong(
    client: httpx.Client, query: dict[str, str], status: int
) -> None:
    answer = client.get(UPLOADS, params=query)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


# Cancel and retry


def test_a_waiting_upload_is_cancelled_at_once(client: httpx.Client) -> None:
    upload_id = send(client, "a")

    answer = client.post(f"{UPLOADS}/{upload_id}/cancel")

    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert client.get(f"{UPLOADS}/{upload_id}").json() == answer.json()


@pytest.mark.parametrize(
    ("state", "status", "after"),
    [
        (State.QUEUED, 200, "cancelled"),
        (State.TRANSFERRING, 200, "transferring"),  # asked for; its holder ends it
        (State.FAILED, 409, "failed"),
        (State.CANCELLED, 409, "cancelled"),
    ],
)
def test_cancelling_in_every_state(
    web: WebServer, client: httpx.Client, state: State, status: int, after: str
) -> None:
    upload_id = send(client, "a")
    in_state(web, upload_id, state)

    answer = client.post(f"{UPLOADS}/{upload_id}/cancel")

    assert answer.status_code == status
    assert client.get(f"{UPLOADS}/{upload_id}").json()["state"] == after
    wanted = web.installation.query("SELECT cancel_requested FROM corporate.uploads")
    assert wanted == [(state == State.TRANSFERRING,)]


@pytest.mark.parametrize("state", [state for state in State if state not in {State.STORED, State.EXPIRED}])
def test_only_a_failed_upload_is_retried(web: WebServer, client: httpx.Client, state: State) -> None:
    upload_id = send(client, "a")
    in_state(web, upload_id, state)

    answer = client.post(f"{UPLOADS}/{upload_id}/retry")

    if state == State.FAILED:
        told = answer.json()
        assert (answer.status_code, told["state"], told["reason"], told["attempts"]) == (
            200,
            "queued",
            None,
            0,
        )
    else:
        assert (answer.status_code, answer.json()["code"]) == (409, "not_possible")


def test_all_failed_uploads_are_retried(web: WebServer, client: httpx.Client) -> None:
    failed = [send(client, f"{number}") for number in range(4)]
    for upload_id in failed:
        in_state(web, upload_id, State.FAILED)
    being_cleaned = str(failed[0])
    web.installation.query(
        "UPDATE corporate.uploads SET token = gen_random_uuid() WHERE id = %s", being_cleaned
    )
    send(client, "waits")

    answer = client.post(f"{ROOT}/retry-failed")

    assert answer.json() == {"retried": 3, "left": 1}
    left = client.get(UPLOADS, params={"state": "failed"}).json()["uploads"]
    assert [one["id"] for one in left] == [being_cleaned]


def test_who_stands_in_the_way_of_another_is_waited_for_only_so_long(
    web: WebServer, client: httpx.Client
) -> None:
    upload_id = send(client, "a")
    with as_owner(web.installation) as other, other.begin():
        other.get_one(Upload, upload_id, with_for_update=True)
        answer = client.post(f"{UPLOADS}/{upload_id}/cancel")

    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert "busy" in answer.json()["detail"]
    assert answer.headers["retry-after"] == "5"
    assert client.post(f"{UPLOADS}/{upload_id}/cancel").status_code == 200


@pytest.mark.parametrize("path", [f"{UPLOADS}/{NOBODY}/cancel", f"{UPLOADS}/{NOBODY}/retry"])
def test_what_is_not_there_cannot_be_changed(client: httpx.Client, path: str) -> None:
    assert client.post(path).status_code == 404


# Parts of content


def part(client: httpx.Client, asked: str, name: str = "file.bin", **headers: str) -> httpx.Response:
    return client.get(f"{ROOT}/items/{CORP}/{name}/content", headers={"Range": asked, **headers})


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=10000-", 10000, 10239),
        ("bytes=-5", 10235, 10239),
        ("bytes=-99999", 0, 10239),
        ("bytes=10230-99999", 10230, 10239),
        ("Bytes = 1-2", 1, 2),
    ],
)
def test_a_part_is_sent(client: httpx.Client, asked: str, first: int, last: int) -> None:
    answer = part(client, asked)

    assert answer.status_code == 206
    assert answer.content == CONTENT[first : last + 1]
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(CONTENT)}"
    assert answer.headers["content-length"] == str(last - first + 1)


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,4-5", "bytes=5-2", "bytes=", "bytes=-", "items=0-1", "x", "bytes=a-b"]
)
def test_what_cannot_be_sent_in_part_is_sent_whole(client: httpx.Client, asked: str) -> None:
    answer = part(client, asked)

    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "name"), [("bytes=10240-", "file.bin"), ("bytes=-0", "file.bin"), ("bytes=0-", "empty")]
)
def test_a_part_beyond_the_end_is_refused(client: httpx.Client, asked: str, name: str) -> None:
    answer = part(client, asked, name)

    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT) if name == 'file.bin' else 0}"


def test_a_part_of_another_version_is_not_sent(client: httpx.Client) -> None:
    etag = f'"{hashlib.sha256(CONTENT).hexdigest()}"'

    same = part(client, "bytes=0-1", **{"If-Range": etag})
    other = part(client, "bytes=0-1", **{"If-Range": '"another"'})

    assert (same.status_code, other.status_code) == (206, 200)


@pytest.mark.parametrize("known", ['"{}"', 'W/"{}"', '"x", "{}"', "*"])
def test_what_is_known_already_is_not_sent_again(client: httpx.Client, known: str) -> None:
    etag = hashlib.sha256(CONTENT).hexdigest()

    answer = client.get(
        f"{ROOT}/items/{CORP}/file.bin/content", headers={"If-None-Match": known.format(etag)}
    )

    assert (answer.status_code, answer.content) == (304, b"")


def test_a_download_that_broke_off_goes_on(client: httpx.Client) -> None:
    had = part(client, "bytes=0-4999").content

    rest = part(client, f"bytes={len(had)}-").content

    assert had + rest == CONTENT


def test_the_head_of_a_file_tells_its_size(client: httpx.Client) -> None:
    answer = client.head(f"{ROOT}/items/{CORP}/file.bin/content")

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(CONTENT))


@pytest.mark.parametrize("asked", ["bytes=0-9", "bytes=-5", "bytes=99999-"])
def test_the_head_of_a_file_knows_no_parts(client: httpx.Client, asked: str) -> None:
    answer = client.head(f"{ROOT}/items/{CORP}/file.bin/content", headers={"Range": asked})

    assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(CONTENT)))
    assert "content-range" not in answer.headers


def test_the_document_knows_no_parts_of_a_head(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    (content,) = [told for path, told in paths.items() if path.endswith("/content")]

    assert {"206", "416"} <= set(content["get"]["responses"])
    assert not {"206", "416"} & set(content["head"]["responses"])
    headers = [one["name"] for one in content["head"]["parameters"] if one["in"] == "header"]
    assert headers == ["If-None-Match"]


def test_content_is_kept_by_nobody_but_its_reader(client: httpx.Client) -> None:
    whole = client.get(f"{ROOT}/items/{CORP}/file.bin/content")
    answers = [
        whole,
        client.head(f"{ROOT}/items/{CORP}/file.bin/content"),
        part(client, "bytes=0-1"),
        part(client, "bytes=0-1", **{"If-None-Match": whole.headers["etag"]}),
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 206, 304]
    assert {answer.headers["cache-control"] for answer in answers} == {"private, no-cache"}


@pytest.mark.parametrize("path", [UPLOADS, f"{ROOT}/children", f"{UPLOADS}/{NOBODY}", "/healthz", "/nowhere"])
def test_every_other_answer_is_kept_by_nobody(client: httpx.Client, path: str) -> None:
    assert client.get(path).headers["cache-control"] == "no-store"


# Folders


def make_folder(client: httpx.Client, path: object, **more: object) -> httpx.Response:
    return client.post(f"{ROOT}/folders", json={"path": path, **more})


def test_a_folder_is_made_once_and_counted(web: WebServer, client: httpx.Client) -> None:
    made = make_folder(client, "made/once")
    again = make_folder(client, "/Made/ONCE/")

    assert (made.status_code, again.status_code) == (201, 200)
    assert again.json() == made.json()
    assert (web.installation.drive_dir / str(CORP) / "made" / "once").is_dir()
    page = client.get(f"{ROOT}/children", params={"path": "made"}).json()
    assert (page["folder"]["child_count"], [one["name"] for one in page["items"]]) == (1, ["once"])


def test_a_folder_is_made_below_another(client: httpx.Client) -> None:
    parent = make_folder(client, "below").json()["id"]

    made = make_folder(client, "it", parent_id=parent)

    assert (made.status_code, made.json()["id"]) == (201, f"{parent}/it")


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({"path": ""}, 400),
        ({"path": "/"}, 400),
        ({"path": ".."}, 400),
        ({"path": "a\0"}, 400),
        ({"path": "x" * 256}, 400),
        ({"path": "file.bin"}, 409),
        ({"path": "file.bin/below"}, 409),
        ({"path": "a", "parent_id": "8"}, 404),
        ({"path": "a", "parent_id": "\0"}, 404),
        ({"path": "a", "parent_id": f"{CORP}/file.bin"}, 404),
        ({"path": 7}, 422),
        ({}, 422),
        ([], 422),
    ],
)
def test_a_folder_that_cannot_be(client: httpx.Client, document: object, status: int) -> None:
    answer = client.post(f"{ROOT}/folders", json=document)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 422), (b"{", 422), (b"\xff", 422), (b'{"path": "\\ud800"}', 422), (b" " * 20_000, 400)],
)
def test_a_document_that_is_none(client: httpx.Client, body: bytes, status: int) -> None:
    assert client.post(f"{ROOT}/folders", content=body).status_code == status


# Request ids


def logged_about(web: WebServer, what: str) -> list[str]:
    return [line for line in web.log.read_text().splitlines() if what in line]


def test_a_request_has_an_id_that_its_upload_keeps(client: httpx.Client) -> None:
    upload_id = send(client, "a", **{"X-Request-ID": "from-the-proxy.1"})
    answer = client.get(f"{UPLOADS}/{upload_id}")

    assert answer.json()["request_id"] == "from-the-proxy.1"
    assert answer.headers["x-request-id"] not in {"", "from-the-proxy.1"}


@pytest.mark.parametrize("forged", ["a b", "x" * 129, 'a"b', "ä".encode().decode("latin-1")])
def test_an_id_that_could_forge_a_line_of_the_log_is_not_taken(client: httpx.Client, forged: str) -> None:
    answer = client.get("/healthz", headers={"X-Request-ID": forged.encode("latin-1")})

    assert answer.headers["x-request-id"] != forged


def test_a_line_of_the_log_is_json_and_knows_its_request(web: WebServer, client: httpx.Client) -> None:
    lost = web.installation.drive_dir / str(CORP) / "file.bin"
    away = lost.with_name("away")
    lost.rename(away)
    try:
        answer = client.get(f"{ROOT}/items/{CORP}/file.bin/content", headers={"X-Request-ID": "of-a-failure"})
    finally:
        away.rename(lost)

    assert answer.status_code == 503
    (line,) = [one for one in logged_about(web, "does not give its bytes") if "of-a-failure" in one]
    assert '"request": "of-a-failure"' in line
    assert f'"corporation": "{CORP}"' in line
    assert '"level": "error"' in line


# Figures


@pytest.fixture
def operator(web: WebServer) -> Iterator[httpx.Client]:
    with as_owner(web.installation) as session, session.begin():
        token = tokens.create(session, None, "operator", timedelta(hours=1))
    with web.client(token) as made:
        yield made


def figure(text: str, name: str) -> float:
    return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name} "))


def test_an_operator_is_told_the_figures(client: httpx.Client, operator: httpx.Client) -> None:
    send(client, "a")

    told = operator.get("/metrics")

    assert told.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert figure(told.text, "haulage_database_up") == 1
    assert figure(told.text, 'haulage_uploads{state="queued"}') == 1
    assert figure(told.text, "haulage_oldest_waiting_seconds") >= 0
    assert 'haulage_database_sessions{host="' in told.text


def test_an_operator_opens_no_corporation_and_a_corporation_no_operations(
    client: httpx.Client, operator: httpx.Client
) -> None:
    assert operator.get(UPLOADS).status_code == 404
    assert client.get("/metrics").status_code == 401
    assert httpx.get(client.base_url.join("/metrics"), trust_env=False).status_code == 401


def test_the_figures_say_that_postgresql_is_away(tmp_path: Path) -> None:
    with local_servers.throwaway() as own:
        installation = fresh_installation(own, make_database(own), tmp_path)
        with as_owner(installation) as session, session.begin():
            token = tokens.create(session, None, "operator")
        with web_server(installation) as running, running.client(token) as operator:
            assert figure(operator.get("/metrics").text, "haulage_database_up") == 1
            os.kill(own.postgres_pid, signal.SIGINT)  # PostgreSQL's fast shutdown
            wait_until(
                lambda: figure(operator.get("/metrics").text, "haulage_database_up") == 0, "it is away"
            )
            away = operator.get("/metrics")
            with running.client() as stranger:
                assert stranger.get("/metrics").status_code == 503
            local_servers.restart_postgres(own)
            wait_until(
                lambda: figure(operator.get("/metrics").text, "haulage_database_up") == 1, "it is back"
            )

    assert away.status_code == 200
    assert "haulage_uploads{" not in away.text


class Relay:
    """Stands between a process and PostgreSQL; once it is silenced it takes connections, and never answers."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self.is_silent = False
        self.taken_silently = 0
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                inward, _ = self._listener.accept()
                self._open.append(inward)
                if self.is_silent:
                    self.taken_silently += 1
                    continue
                outward = socket.create_connection(("127.0.0.1", self._port))
                self._open.append(outward)
                for pair in ((inward, outward), (outward, inward)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                to.sendall(data)

    def silence(self) -> None:
        self.is_silent = True
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.silence()
        for one in (self._listener, *self._open):
            one.close()


@pytest.fixture
def relay(web: WebServer) -> Iterator[Relay]:
    made = Relay(make_url(web.installation.environment["WEB_DATABASE_URL"]).port)
    yield made
    made.close()


def test_a_scrape_waits_only_once_for_a_postgresql_that_does_not_answer(
    web: WebServer, operator: httpx.Client, relay: Relay
) -> None:
    url = make_url(web.installation.environment["WEB_DATABASE_URL"]).set(port=relay.port)
    url = url.update_query_dict({"hostaddr": "127.0.0.1"})  # of several addresses each would be tried
    token = operator.headers["authorization"].removeprefix("Bearer ")
    environment = {"DATABASE_URL": url.render_as_string(hide_password=False)}
    with web_server(web.installation, **environment) as running, running.client(token) as scraper:
        assert figure(scraper.get("/metrics").text, "haulage_database_up") == 1
        relay.silence()
        scraper.get("/metrics")  # the connection that it had is found broken

        before = relay.taken_silently
        away = scraper.get("/metrics")

        assert figure(away.text, "haulage_database_up") == 0
        assert relay.taken_silently == before + 1

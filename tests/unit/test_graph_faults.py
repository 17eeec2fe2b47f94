"""Scripts of faults: each strikes where it says, and the simulator tells what came of it."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.graph.launch import PROJECT, Simulator, code, item_url

pytest_plugins = ["tests.graph.fixtures"]
MEBIBYTE = 1 << 20


def put(graph: httpx.Client, drive: str, path: str = "a", content: bytes = b"bytes") -> httpx.Response:
    return graph.put(item_url(drive, path, "/content"), content=content)


def paths(simulator: Simulator, drive: str) -> list[str]:
    return sorted(item["path"] for item in simulator.control("GET tree", drive=drive))


@contextmanager
def in_background(simulator: Simulator, drive: str, path: str) -> Iterator[list[httpx.Response]]:
    answers: list[httpx.Response] = []

    def work() -> None:
        with simulator.graph() as graph:
            answers.append(put(graph, drive, path))

    thread = threading.Thread(target=work)
    thread.start()
    yield answers
    thread.join()


def test_any_status_with_any_code_before_the_effect(
    simulator: Simulator, graph: httpx.Client, graph_drive: str
) -> None:
    headers = {"Retry-After": "7"}
    fault = {
        "path": graph_drive,
        "action": "answer",
        "status": 503,
        "code": "serviceNotAvailable",
        "inner": "serviceReadOnly",
    }
    simulator.control("POST faults", **fault, headers=headers)

    answer = put(graph, graph_drive)

    assert code(answer) == (503, "serviceNotAvailable", "serviceReadOnly")
    assert answer.headers["retry-after"] == "7"
    assert paths(simulator, graph_drive) == []
    assert put(graph, graph_drive).status_code == 201


def test_an_answer_after_the_effect(simulator: Simulator, graph: httpx.Client, graph_drive: str) -> None:
    simulator.control("POST faults", path=graph_drive, action="answer", when="after", status=504)

    assert put(graph, graph_drive).status_code == 504
    assert paths(simulator, graph_drive) == ["a"]


def test_html_instead_of_json(simulator: Simulator, graph: httpx.Client, graph_drive: str) -> None:
    simulator.control(
        "POST faults", path=graph_drive, action="answer", status=200, body="<html>Sign in</html>"
    )

    answer = graph.get(f"/v1.0/drives/{graph_drive}/root")

    assert (answer.status_code, answer.text) == (200, "<html>Sign in</html>")
    assert answer.headers["content-type"].startswith("text/html")


def test_a_fault_strikes_the_nth_request_that_fits_and_no_other(
    simulator: Simulator, graph: httpx.Client, graph_drive: str
) -> None:
    fault = {"path": rf"{graph_drive}/root:/b", "method": "PUT", "action": "answer", "status": 500}
    simulator.control("POST faults", **fault, nth=2, times=2)

    others = [put(graph, graph_drive, "a").status_code, graph.get(item_url(graph_drive, "b")).status_code]
    answers = [put(graph, graph_drive, "b").status_code for _ in range(4)]

    assert others == [201, 404]
    assert answers == [201, 500, 500, 200]
    [shown] = simulator.control("GET faults")
    assert (shown["seen"], shown["struck"]) == (4, 2)


@pytest.mark.parametrize(("when", "there"), [("head", []), ("before", []), ("after", ["a"])])
@pytest.mark.parametrize("reset", [True, False])
def test_a_cut_before_or_after_the_effect(
    simulator: Simulator, graph: httpx.Client, when: str, reset: bool, there: list[str]
) -> None:
    graph_drive = simulator.new_drive()
    simulator.control("POST faults", path=graph_drive, action="cut", when=when, reset=reset)

    with pytest.raises(httpx.TransportError):
        put(graph, graph_drive)

    assert paths(simulator, graph_drive) == there


def test_a_cut_within_the_answer(simulator: Simulator, graph: httpx.Client, graph_drive: str) -> None:
    put(graph, graph_drive, content=b"x" * 1000)
    simulator.control("POST faults", path="download", action="cut", when="answer", bytes=10)

    with pytest.raises(httpx.RemoteProtocolError):
        graph.get(item_url(graph_drive, "a", "/content"), follow_redirects=True)


def test_a_proxy_that_cuts_every_mebibyte(
    simulator: Simulator, graph: httpx.Client, graph_drive: str
) -> None:
    simulator.control("POST faults", path=".", action="cut", when="body", bytes=MEBIBYTE, times=None)

    assert put(graph, graph_drive, "small", bytes(MEBIBYTE - 1)).status_code == 201
    for size in (MEBIBYTE, 3 * MEBIBYTE):
        since = simulator.control("GET requests")[-1]["number"]
        with pytest.raises(httpx.TransportError):
            put(graph, graph_drive, "large", bytes(size))
        [record] = simulator.control("GET requests", since=since)
        assert (record["received"], record["status"], record["done"]) == (MEBIBYTE, None, True)
    assert paths(simulator, graph_drive) == ["small"]


def test_a_delay_and_a_latency(simulator: Simulator, graph: httpx.Client, graph_drive: str) -> None:
    simulator.control("POST faults", path=graph_drive, action="delay", seconds=0.4)
    assert graph.get(f"/v1.0/drives/{graph_drive}").elapsed.total_seconds() >= 0.4

    simulator.control("POST settings", latency=0.3)
    slow = graph.get(f"/v1.0/drives/{graph_drive}").elapsed.total_seconds()
    simulator.control("POST settings", latency=0)

    assert slow >= 0.3


@pytest.mark.parametrize(("when", "meanwhile"), [("head", []), ("before", []), ("after", ["a"])])
def test_a_request_is_stalled_until_a_test_lets_go(
    simulator: Simulator, graph: httpx.Client, graph_drive: str, when: str, meanwhile: list[str]
) -> None:
    simulator.control(
        "POST faults", method="PUT", path=graph_drive, action="stall", when=when, name=f"here {when}"
    )

    with in_background(simulator, graph_drive, "a") as answers:
        [stall] = simulator.control("GET stalls", name=f"here {when}", wait=20)
        assert stall["when"] == when
        assert paths(simulator, graph_drive) == meanwhile
        assert simulator.control("POST release", name=f"here {when}") == {"released": 1}

    assert [answer.status_code for answer in answers] == [201]
    assert simulator.control("GET stalls") == []


def test_a_stalled_request_of_a_killed_client_can_be_cut_or_go_on(
    simulator: Simulator, graph: httpx.Client, graph_drive: str
) -> None:
    for then, there in (("cut", []), ("continue", ["a"])):
        since = simulator.control("GET requests")[-1]["number"]
        simulator.control("POST faults", method="PUT", path=graph_drive, action="stall", name=then)
        client = a_client(simulator, graph_drive)
        assert simulator.control("GET stalls", name=then, wait=20)
        client.kill()
        client.wait()

        simulator.control("POST release", name=then, then=then)

        settle(simulator, since)
        assert paths(simulator, graph_drive) == there


def a_client(simulator: Simulator, drive: str) -> subprocess.Popen[bytes]:
    url, token = f"{simulator.url}{item_url(drive, 'a', '/content')}", simulator.token()
    program = "import httpx, sys; httpx.put(sys.argv[1], content=b'x', headers={'Authorization': sys.argv[2]}, timeout=60)"
    return subprocess.Popen([sys.executable, "-c", program, url, f"Bearer {token}"], cwd=PROJECT)


def settle(simulator: Simulator, since: int) -> None:
    """Wait until everything that was asked since then is over."""
    records = simulator.control("GET requests", since=since, wait=20)
    assert all(record["done"] for record in records)


def test_what_an_answer_says_can_be_changed(
    simulator: Simulator, graph: httpx.Client, graph_drive: str
) -> None:
    wrong = {"/file/hashes/quickXorHash": "AAAA", "/size": 1, "/not/there": 2}
    simulator.control("POST faults", method="PUT", path=graph_drive, action="amend", set=wrong)
    foreign = {"/uploadUrl": "https://attacker.example/up"}
    simulator.control("POST faults", path="createUploadSession", action="amend", set=foreign)

    item = put(graph, graph_drive).json()
    session = graph.post(item_url(graph_drive, "b", "/createUploadSession"), json={}).json()

    assert (item["file"]["hashes"]["quickXorHash"], item["size"]) == ("AAAA", 1)
    assert "not" not in item
    assert session["uploadUrl"] == "https://attacker.example/up"
    assert graph.get(item_url(graph_drive, "a")).json()["size"] == 5


def test_a_session_that_is_finished_but_whose_answer_is_lost(
    simulator: Simulator, graph: httpx.Client, bare: httpx.Client, graph_drive: str
) -> None:
    url = graph.post(item_url(graph_drive, "a", "/createUploadSession"), json={}).json()["uploadUrl"]
    simulator.control("POST faults", method="PUT", path="uploadSession", action="cut", when="after")

    with pytest.raises(httpx.TransportError):
        bare.put(url, content=b"abc", headers={"Content-Range": "bytes 0-2/3"})

    assert code(bare.get(url)) == (404, "itemNotFound", "uploadSessionNotFound")
    assert graph.get(item_url(graph_drive, "a")).json()["size"] == 3


def test_things_happen_behind_the_back_of_a_client(
    simulator: Simulator, graph: httpx.Client, graph_drive: str
) -> None:
    folder = {"drive": graph_drive, "path": "folder"}
    simulator.control("POST folder", **folder)
    simulator.control("POST put", drive=graph_drive, path="theirs", text="first")
    before = graph.get(item_url(graph_drive, "theirs")).json()
    delete = {"action": "control", "request": "POST delete", "json": folder}
    simulator.control("POST faults", method="PUT", path="root:/folder", **delete)

    assert code(put(graph, graph_drive, "folder/a"))[:2] == (404, "itemNotFound")
    simulator.control("POST put", drive=graph_drive, path="THEIRS", text="replaced")
    after = graph.get(item_url(graph_drive, "theirs")).json()

    assert (after["id"], after["size"]) == (before["id"], 8)
    assert after["eTag"] != before["eTag"]
    assert after["lastModifiedBy"]["application"]["displayName"] == "somebody else"


def test_a_clock_that_is_off_shows_in_dates(
    simulator: Simulator, graph: httpx.Client, graph_drive: str
) -> None:
    simulator.control("POST clock", off_by=-86400 * 365)
    answer = put(graph, graph_drive)
    session = graph.post(item_url(graph_drive, "b", "/createUploadSession"), json={}).json()
    simulator.control("POST clock", off_by=0)
    right = graph.get(f"/v1.0/drives/{graph_drive}/root")

    year = int(right.headers["date"].split()[3])
    assert int(answer.headers["date"].split()[3]) == year - 1
    assert answer.json()["createdDateTime"].startswith(str(year - 1))
    assert session["expirationDateTime"].startswith(str(year - 1))


def test_the_journal_tells_what_was_asked_without_secrets(
    simulator: Simulator, graph: httpx.Client, bare: httpx.Client, graph_drive: str
) -> None:
    url = graph.post(item_url(graph_drive, "a", "/createUploadSession"), json={}).json()["uploadUrl"]
    since = simulator.control("GET requests")[-1]["number"]

    bare.put(url, content=b"abc", headers={"Content-Range": "bytes 0-2/3", "User-Agent": "NONISV|We|App/1.0"})
    bare.get(url)
    graph.get(item_url(graph_drive, "a"))

    first, second, third = simulator.control("GET requests", since=since)
    assert (first["method"], first["status"], first["received"]) == ("PUT", 201, 3)
    assert (first["user_agent"], first["content_range"]) == ("NONISV|We|App/1.0", "bytes 0-2/3")
    assert (first["authorization"], third["authorization"]) == (False, True)
    assert (first["connection"] == second["connection"], first["connection"] == third["connection"]) == (
        True,
        False,
    )
    assert (second["status"], second["code"]) == (404, "uploadSessionNotFound")
    assert first["path"].endswith("tempauth=(cut)")
    assert url.partition("tempauth=")[2] not in str(simulator.control("GET requests"))


def test_open_connections_are_counted_by_client(simulator: Simulator, graph_drive: str) -> None:
    with simulator.graph() as first, simulator.graph() as second:
        first.get(f"/v1.0/drives/{graph_drive}")
        second.get(f"/v1.0/drives/{graph_drive}")
        second.get(f"/v1.0/drives/{graph_drive}")
        both = simulator.control("GET connections")["127.0.0.1"]

    # The third is the one that asks.
    assert [one["requests"] for one in both][-3:] == [1, 2, 1]


def test_a_script_that_is_wrong_is_refused(simulator: Simulator) -> None:
    with simulator.http(**{"X-Control-Key": simulator.control_key}) as http:
        for wrong in (
            {},
            {"path": "x", "action": "explode"},
            {"path": "(", "action": "cut"},
            {"path": "x", "action": "cut", "nht": 1},
        ):
            assert code(http.post("/_control/faults", json=wrong))[:2] == (400, "invalidRequest")
        assert code(http.post("/_control/delete", json={"path": "nothing"}))[0] == 404
        assert code(http.post("/_control/unknown"))[0] == 404
        assert code(http.post("/_control/clock", json={}))[0] == 400

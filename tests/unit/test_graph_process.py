"""The simulator as a process: it starts, speaks TLS, ends when told to, and is no part of the application."""

import ast
import signal
import ssl
import sys
from pathlib import Path

import httpx
import pytest

from tests.graph.launch import PROJECT, Simulator, code, item_url, running

pytest_plugins = ["tests.graph.fixtures"]


def test_it_knows_nothing_of_the_application() -> None:
    imported = set()
    for file in (PROJECT / "tests" / "graph").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            imported |= {str(node.module)} if isinstance(node, ast.ImportFrom) else set(names)

    tops = {name.split(".")[0] for name in imported} - sys.stdlib_module_names
    assert tops == {"tests", "cryptography", "httpx", "pytest", "trustme"}
    assert all(name.startswith("tests.graph") for name in imported if name.startswith("tests"))


def test_it_speaks_tls_and_ends_on_sigterm(tmp_path: Path) -> None:
    with running(folder=tmp_path) as simulator:
        assert simulator.url.startswith("https://127.0.0.1:")
        with simulator.graph() as graph:
            answer = graph.put(item_url(simulator.drive, "a.txt", "/content"), content=b"over TLS")
        assert answer.status_code == 201
        with pytest.raises(httpx.ConnectError) as refused:
            httpx.get(simulator.url, trust_env=False, verify=ssl.create_default_context())
        assert "certificate" in str(refused.value).lower()

        simulator.stop()
        assert simulator.process.returncode == 0


def test_its_bytes_are_gone_when_it_ends(tmp_path: Path) -> None:
    with running(f"--state={tmp_path}") as simulator:
        with simulator.graph() as graph:
            graph.put(item_url(simulator.drive, "a.txt", "/content"), content=b"on disk")
        assert [file.read_bytes() for file in tmp_path.glob("bytes/*")] == [b"on disk"]
        simulator.process.send_signal(signal.SIGINT)
        simulator.process.wait(30)

    assert list(tmp_path.iterdir()) == []


def test_upload_urls_can_lead_to_another_host_and_port() -> None:
    with running("--upload-host=localhost", "--upload-port=0") as simulator, simulator.graph() as graph:
        answer = graph.post(item_url(simulator.drive, "a.bin", "/createUploadSession"), json={})
        url = httpx.URL(answer.json()["uploadUrl"])
        assert url.host == "localhost"
        assert url.port != httpx.URL(simulator.url).port

        with simulator.http() as bare:
            assert bare.get(url).status_code == 200
            misled = bare.get(url.copy_with(port=httpx.URL(simulator.url).port))
            assert code(misled)[:2] == (404, "itemNotFound")


def test_several_drives_of_several_kinds_can_be_given() -> None:
    drives = ("--drive=b!one,type=documentLibrary,quota=1000,site=first", "--drive=b!two,site=second")
    with running(*drives) as simulator, simulator.graph() as graph:
        shown = [graph.get(f"/v1.0/drives/{drive}").json() for drive in ("b!one", "b!two", simulator.drive)]
        site = graph.get("/v1.0/sites/contoso.sharepoint.com:/sites/second:/drive").json()

    assert [one["driveType"] for one in shown] == ["documentLibrary", "business", "business"]
    assert [one["quota"]["total"] for one in shown] == [1000, 1 << 40, 1 << 40]
    assert site["id"] == "b!two"


def test_without_the_key_control_is_not_there(simulator: Simulator) -> None:
    with simulator.http() as nobody, simulator.http(**{"X-Control-Key": "guessed"}) as guessing:
        assert code(nobody.get("/_control/tree"))[0] == 404
        assert code(guessing.get("/_control/tree"))[0] == 404


def test_what_it_does_not_know_is_refused(
    simulator: Simulator, graph: httpx.Client, graph_drive: str
) -> None:
    assert code(graph.get("/v1.0/nothing"))[:2] == (400, "invalidRequest")
    assert code(graph.get("/elsewhere"))[:2] == (404, "itemNotFound")
    assert code(graph.get(f"/v1.0/drives/{graph_drive}/root/thumbnails"))[:2] == (400, "invalidRequest")
    assert code(graph.put(f"/v1.0/drives/{graph_drive}/root/children"))[:2] == (405, "notAllowed")
    assert code(graph.get("/v1.0/me/drive"))[:2] == (400, "invalidRequest")


def test_every_answer_names_its_request(graph: httpx.Client, graph_drive: str) -> None:
    answer = graph.get(f"/v1.0/drives/{graph_drive}/root", headers={"client-request-id": "ours"})
    refused = graph.get("/v1.0/drives/b!nobody/root", headers={"client-request-id": "ours, too"})

    assert answer.headers["client-request-id"] == "ours"
    assert len(answer.headers["request-id"]) == 36
    inner = refused.json()["error"]["innererror"]
    assert inner["client-request-id"] == refused.headers["client-request-id"] == "ours, too"
    assert inner["request-id"] == refused.headers["request-id"]

"""Fixtures of the tests of OneDrive: one simulator for all of them, over TLS, with upload URLs on a host of their own."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from app.drives.onedrive import OneDrive
from app.graph import sessions
from tests.graph.launch import Simulator, running
from tests.integration.onedrive_case import FRAGMENT, Case


@pytest.fixture(scope="session")
def graph_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    folder = tmp_path_factory.mktemp("graph")
    options = "--resource-units=0", "--upload-host=localhost", "--upload-port=0"
    with running(*options, folder=folder) as made, made.http(**{"X-Control-Key": made.control_key}) as http:
        made.control = partial(_controlled, http)  # type: ignore[method-assign]  on one connection for all of them
        yield made


def _controlled(http: httpx.Client, request: str, /, **given: Any) -> Any:
    method, command = request.split(" ", 1)
    body: dict[str, Any] = {"params": given} if method == "GET" else {"json": given} if given else {}
    answer = http.request(method, f"/_control/{command}", **body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def case(graph_tls: Simulator, small_fragments: None) -> Iterator[Case]:
    yield Case(graph_tls, graph_tls.new_drive())
    graph_tls.control("DELETE faults")
    graph_tls.control("POST clock", off_by=0)


@pytest.fixture
def library(graph_tls: Simulator, small_fragments: None) -> Iterator[Case]:
    """A document library of SharePoint, which alters Office files."""
    yield Case(graph_tls, graph_tls.new_drive(type="documentLibrary"))
    graph_tls.control("DELETE faults")


@pytest.fixture
def small_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fragments of 640 KiB, so that a file of many is still a small one. The real size has tests of its own."""
    monkeypatch.setattr(OneDrive, "chunk_bytes", FRAGMENT)
    monkeypatch.setattr("app.drives.onedrive.FRAGMENT", FRAGMENT)
    monkeypatch.setattr(sessions, "FRAGMENT", FRAGMENT)

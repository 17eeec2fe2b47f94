"""Resource units of the simulator: what each request costs, when the headers come, when it is too much."""

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.graph.launch import Simulator, code, item_url, running


@pytest.fixture
def limited() -> Iterator[Simulator]:
    with running("--resource-units=20") as made:
        yield made


def spent(simulator: Simulator) -> int:
    return int(simulator.control("GET throttle")[simulator.client_id]["minute"])


def test_each_kind_of_request_has_its_cost(limited: Simulator) -> None:
    limited.control("POST throttle", per_minute=1000)
    drive = f"/v1.0/drives/{limited.drive}"
    costs: dict[str, int] = {}
    with limited.graph() as graph, limited.http() as bare:

        def cost(name: str, client: httpx.Client, method: str, url: str, **more: object) -> httpx.Response:
            before = spent(limited) if costs else 0
            answer = client.request(method, url, **more)  # type: ignore[arg-type]
            costs[name] = spent(limited) - before
            return answer

        cost("get", graph, "GET", f"{drive}/root")
        cost("list", graph, "GET", f"{drive}/root/children")
        cost("delta", graph, "GET", f"{drive}/root/delta")
        cost("delta with token", graph, "GET", f"{drive}/root/delta?token=latest")
        cost("put", graph, "PUT", item_url(limited.drive, "a", "/content"), content=b"x")
        cost("download", graph, "GET", item_url(limited.drive, "a", "/content"))
        opened = cost("session", graph, "POST", item_url(limited.drive, "b", "/createUploadSession"), json={})
        headers = {"Content-Range": "bytes 0-0/1"}
        cost("fragment", bare, "PUT", opened.json()["uploadUrl"], content=b"x", headers=headers)
        cost("delete", graph, "DELETE", item_url(limited.drive, "a"))
        cost("refused", graph, "GET", item_url(limited.drive, "a"))

    expected = {"get": 1, "list": 2, "delta": 2, "delta with token": 1, "put": 2, "download": 1}
    assert costs == expected | {"session": 2, "fragment": 2, "delete": 2, "refused": 1}


def test_the_headers_come_at_80_percent_and_429_beyond_the_limit(limited: Simulator) -> None:
    with limited.graph() as graph:
        answers = [graph.get(f"/v1.0/drives/{limited.drive}") for _ in range(22)]

    assert [answer.status_code for answer in answers] == [200] * 20 + [429] * 2
    assert ["ratelimit-limit" in answer.headers for answer in answers] == [False] * 15 + [True] * 7
    assert [int(answer.headers["ratelimit-remaining"]) for answer in answers[15:]] == [4, 3, 2, 1, 0, 0, 0]
    refused = answers[-1]
    assert code(refused) == (429, "activityLimitReached", "throttledRequest")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert refused.headers["retry-after"] == refused.headers["ratelimit-reset"]
    assert refused.headers["ratelimit-limit"] == "20"


def test_throttled_requests_count_and_the_window_ends(limited: Simulator) -> None:
    limited.control("POST throttle", per_minute=3, minute=3600)
    with limited.graph() as graph:
        for _ in range(5):
            graph.get(f"/v1.0/drives/{limited.drive}")
        assert spent(limited) == 5

        limited.control("POST throttle", per_minute=3, minute=0.001)
        assert [graph.get(f"/v1.0/drives/{limited.drive}").status_code for _ in range(4)] == [200] * 4


def test_the_day_has_a_limit_too(limited: Simulator) -> None:
    limited.control("POST throttle", per_minute=0, per_day=2)
    with limited.graph() as graph:
        answers = [graph.get(f"/v1.0/drives/{limited.drive}") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[-1].headers["retry-after"]) > 80_000
    assert "ratelimit-limit" not in answers[-1].headers


def test_each_application_has_limits_of_its_own(limited: Simulator) -> None:
    limited.control("POST client", id="other", secrets={"secret": None})
    limited.control("POST throttle", per_minute=1)
    with limited.graph() as ours, limited.graph("other", "secret") as theirs:
        ours.get(f"/v1.0/drives/{limited.drive}")
        assert ours.get(f"/v1.0/drives/{limited.drive}").status_code == 429
        assert theirs.get(f"/v1.0/drives/{limited.drive}").status_code == 200


def test_a_throttled_upload_has_no_effect(limited: Simulator) -> None:
    with limited.graph() as graph, limited.http() as bare:
        url = graph.post(item_url(limited.drive, "b", "/createUploadSession"), json={}).json()["uploadUrl"]
        limited.control("POST throttle", per_minute=1)

        refused = bare.put(url, content=b"x", headers={"Content-Range": "bytes 0-0/1"})
        put = graph.put(item_url(limited.drive, "a", "/content"), content=b"x")

    assert code(refused)[0] == code(put)[0] == 429
    assert json.dumps(limited.control("GET tree")) == "[]"

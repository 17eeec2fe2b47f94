"""Delta of the simulator: pages, tokens, deletions, and 410 for a token that is too old."""

from typing import Any

import httpx

from tests.graph.launch import Simulator, code, item_url

pytest_plugins = ["tests.graph.fixtures"]


def put(graph: httpx.Client, drive: str, path: str, content: bytes = b"x") -> dict[str, Any]:
    return dict(graph.put(item_url(drive, path, "/content"), content=content).json())


def follow(graph: httpx.Client, url: str, **headers: str) -> tuple[list[dict[str, Any]], str, int]:
    """Read all pages; return the items, the deltaLink and how many pages there were."""
    items, pages = [], 0
    while True:
        page = graph.get(url, headers=headers).json()
        items += page["value"]
        pages += 1
        assert ("@odata.nextLink" in page) != ("@odata.deltaLink" in page)
        if "@odata.deltaLink" in page:
            return items, page["@odata.deltaLink"], pages
        url = page["@odata.nextLink"]


def begin(drive: str, query: str = "") -> str:
    return f"/v1.0/drives/{drive}/root/delta{query}"


def test_everything_is_enumerated_in_pages_the_root_included(graph: httpx.Client, graph_drive: str) -> None:
    for number in range(7):
        put(graph, graph_drive, f"{number}")

    items, _, pages = follow(graph, begin(graph_drive, "?$top=3"))

    assert sorted(item["name"] for item in items) == ["0", "1", "2", "3", "4", "5", "6", "root"]
    assert pages == 3


def test_items_are_known_by_their_ids(graph: httpx.Client, graph_drive: str) -> None:
    item = put(graph, graph_drive, "a")

    [_, shown] = follow(graph, begin(graph_drive))[0]

    assert shown["id"] == item["id"]
    assert "path" not in shown["parentReference"]
    assert "cTag" not in shown
    assert shown["file"]["hashes"] == item["file"]["hashes"]


def test_a_delta_link_gives_what_changed_and_the_folders_above(
    simulator: Simulator, graph: httpx.Client, graph_drive: str
) -> None:
    simulator.control("POST folder", drive=graph_drive, path="folder")
    simulator.control("POST folder", drive=graph_drive, path="other")
    gone = put(graph, graph_drive, "gone")
    _, link, _ = follow(graph, begin(graph_drive))
    new = put(graph, graph_drive, "folder/new")
    graph.delete(item_url(graph_drive, "gone"))

    items, after, _ = follow(graph, link)
    alone, _, _ = follow(graph, link, deltaExcludeParent="true")

    assert {item.get("name") for item in items} == {"root", "folder", "new", None}
    assert {item["id"] for item in alone} == {new["id"], gone["id"]}
    [deleted] = [item for item in alone if "deleted" in item]
    assert deleted["deleted"] == {"state": "deleted"}
    assert "name" not in deleted
    assert follow(graph, after)[0] == []


def test_folders_come_before_what_is_in_them(
    simulator: Simulator, graph: httpx.Client, graph_drive: str
) -> None:
    simulator.control("POST folder", drive=graph_drive, path="a/b/c")
    put(graph, graph_drive, "a/b/c/file")
    times = {"fileSystemInfo": {"lastModifiedDateTime": "2001-02-03T04:05:06Z"}}
    for path in ("a/b/c", "a/b", "a"):
        graph.patch(item_url(graph_drive, path), json=times)

    items, _, pages = follow(graph, begin(graph_drive, "?$top=2"))

    assert [item["name"] for item in items] == ["root", "a", "b", "c", "file"]
    assert pages == 3


def test_latest_gives_a_token_and_nothing_else(graph: httpx.Client, graph_drive: str) -> None:
    put(graph, graph_drive, "before")
    page = graph.get(begin(graph_drive, "?token=latest")).json()
    put(graph, graph_drive, "after")

    items, _, _ = follow(graph, page["@odata.deltaLink"])

    assert page["value"] == []
    assert {item["name"] for item in items} == {"root", "after"}


def test_a_token_may_stand_in_parentheses(graph: httpx.Client, graph_drive: str) -> None:
    link = graph.get(begin(graph_drive, "?token=latest")).json()["@odata.deltaLink"]
    token = httpx.URL(link).params["token"]

    answer = graph.get(begin(graph_drive, f"(token='{token}')"))

    assert answer.json()["value"] == []


def test_a_time_may_stand_for_a_token(graph: httpx.Client, graph_drive: str) -> None:
    put(graph, graph_drive, "a")

    early = follow(graph, begin(graph_drive, "?token=2001-01-01T00%3A00%3A00Z"))[0]
    late = follow(graph, begin(graph_drive, "?token=2999-01-01T00%3A00%3A00Z"))[0]

    assert len(early) == 2
    assert late == []


def test_what_changes_between_two_pages_comes_with_the_next_delta(
    graph: httpx.Client, graph_drive: str
) -> None:
    for number in range(4):
        put(graph, graph_drive, f"{number}")
    first = graph.get(begin(graph_drive, "?$top=2")).json()
    put(graph, graph_drive, "3", b"changed")

    rest, link, _ = follow(graph, first["@odata.nextLink"])
    later, _, _ = follow(graph, link, deltaExcludeParent="true")

    assert "3" not in {item["name"] for item in [*first["value"], *rest]}
    assert [(item["name"], item["size"]) for item in later] == [("3", 7)]


def test_a_token_that_is_too_old_answers_410_and_where_to_begin(
    simulator: Simulator, graph: httpx.Client, graph_drive: str
) -> None:
    put(graph, graph_drive, "a")
    _, link, _ = follow(graph, begin(graph_drive))
    simulator.control("POST delta/forget", drive=graph_drive)

    answer = graph.get(link)

    assert code(answer) == (410, "resyncRequired", "resyncChangesApplyDifferences")
    assert {item["name"] for item in follow(graph, answer.headers["location"])[0]} == {"root", "a"}


def test_delta_is_of_the_root_alone_and_tokens_are_ours(graph: httpx.Client, graph_drive: str) -> None:
    item = put(graph, graph_drive, "a")

    assert code(graph.get(f"/v1.0/drives/{graph_drive}/items/{item['id']}/delta"))[:2] == (
        400,
        "notSupported",
    )
    assert code(graph.get(begin(graph_drive, "?token=nonsense")))[:2] == (400, "invalidRequest")

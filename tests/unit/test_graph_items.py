"""Items of the simulator: what is shown of them, how they are written, moved, deleted, read and restored."""

import json
from http.client import HTTPConnection

import httpx
import pytest

from tests.graph.launch import Simulator, code, item_url

pytest_plugins = ["tests.graph.fixtures"]


def put(
    graph: httpx.Client, drive: str, path: str, content: bytes = b"bytes", query: str = "", **headers: str
) -> httpx.Response:
    return graph.put(item_url(drive, path, "/content") + query, content=content, headers=headers)


def folder(
    graph: httpx.Client, drive: str, name: str, parent: str = "root", **more: object
) -> httpx.Response:
    body = {"name": name, "folder": {}, **more}
    return graph.post(f"/v1.0/drives/{drive}/items/{parent}/children", json=body)


def names(graph: httpx.Client, drive: str, parent: str = "root") -> list[str]:
    return [
        item["name"] for item in graph.get(f"/v1.0/drives/{drive}/items/{parent}/children").json()["value"]
    ]


def test_a_drive_and_its_root_are_shown(simulator: Simulator, graph: httpx.Client) -> None:
    drive = simulator.new_drive(type="documentLibrary", quota=1000)

    put(graph, drive, "a.txt", b"x" * 950)
    shown = graph.get(f"/v1.0/drives/{drive}").json()
    root = graph.get(f"/v2.0/drives/{drive}/root").json()

    assert shown["driveType"] == "documentLibrary"
    assert shown["quota"] == {"total": 1000, "used": 950, "remaining": 50, "deleted": 0, "state": "nearing"}
    assert root["folder"] == {"childCount": 1}
    assert root["size"] == 950
    assert "root" in root


def test_a_drive_that_is_not_ours_is_not_found(graph: httpx.Client) -> None:
    assert code(graph.get("/v1.0/drives/b!unknown/root"))[:2] == (404, "itemNotFound")
    assert code(graph.get("/v1.0/drives/malformed/root"))[:2] == (400, "invalidRequest")


def test_a_site_leads_to_its_drives(simulator: Simulator, graph: httpx.Client) -> None:
    first = simulator.control("POST drives", site="library")
    second = simulator.new_drive(site="library", type="documentLibrary")

    site = graph.get("/v1.0/sites/contoso.sharepoint.com:/sites/library").json()
    drives = graph.get(f"/v1.0/sites/{site['id']}/drives").json()["value"]

    assert site["id"] == first["site"]
    assert [drive["id"] for drive in drives] == [first["id"], second]
    assert graph.get("/v1.0/sites/contoso.sharepoint.com:/sites/library:/drive").json()["id"] == first["id"]
    assert graph.get(f"/v1.0/sites/{site['id']}/drive/root/children").json() == {"value": []}
    assert graph.get(f"/v1.0/sites/{site['id']}/drives/{second}/root").status_code == 200
    assert code(graph.get("/v1.0/sites/contoso.sharepoint.com:/sites/nobody"))[:2] == (404, "itemNotFound")


def test_a_file_shows_who_made_it_where_it_is_and_its_hash(
    simulator: Simulator, graph: httpx.Client, graph_drive: str
) -> None:
    above = folder(graph, graph_drive, "a folder").json()

    answer = put(graph, graph_drive, "a folder/Report.txt", b"hello world")

    item = answer.json()
    assert answer.status_code == 201
    assert (item["name"], item["size"]) == ("Report.txt", 11)
    assert item["file"]["hashes"] == {"quickXorHash": "aCgDG9jwBhDc4Q1yawMZAAAAAAA="}
    assert item["createdBy"]["application"]["id"] == simulator.client_id
    assert item["lastModifiedBy"]["application"]["id"] == simulator.client_id
    assert item["parentReference"]["id"] == above["id"]
    assert item["parentReference"]["driveId"] == graph_drive
    assert item["parentReference"]["path"] == f"/drives/{graph_drive}/root:/a%20folder"
    assert item["eTag"].startswith('"{')
    assert item["cTag"].startswith('"c:{')
    assert "cTag" not in above


def test_the_size_and_the_count_of_a_folder_follow(graph: httpx.Client, graph_drive: str) -> None:
    folder(graph, graph_drive, "a")
    put(graph, graph_drive, "a/1", b"123")
    put(graph, graph_drive, "a/2", b"12345")
    put(graph, graph_drive, "a/2", b"1")
    graph.delete(item_url(graph_drive, "a/1"))

    shown = graph.get(item_url(graph_drive, "a")).json()

    assert (shown["size"], shown["folder"]["childCount"]) == (1, 1)


def test_a_put_replaces_by_default(graph: httpx.Client, graph_drive: str) -> None:
    first = put(graph, graph_drive, "a.txt", b"first").json()

    second = put(graph, graph_drive, "A.TXT", b"second")

    assert second.status_code == 200
    assert second.json()["id"] == first["id"]
    assert second.json()["name"] == "a.txt"
    assert second.json()["cTag"] != first["cTag"]


def test_a_put_does_what_the_url_says(graph: httpx.Client, graph_drive: str) -> None:
    put(graph, graph_drive, "a.txt")

    refused = put(graph, graph_drive, "a.txt", query="?@microsoft.graph.conflictBehavior=fail")
    renamed = put(graph, graph_drive, "a.txt", query="?%40microsoft.graph.conflictBehavior=rename")
    unknown = put(graph, graph_drive, "a.txt", query="?@microsoft.graph.conflictBehavior=overwrite")

    assert code(refused) == (409, "nameAlreadyExists", "")
    assert (renamed.status_code, renamed.json()["name"]) == (201, "a 1.txt")
    assert code(unknown)[:2] == (400, "invalidRequest")
    assert names(graph, graph_drive) == ["a 1.txt", "a.txt"]


def test_a_file_does_not_take_the_place_of_a_folder(graph: httpx.Client, graph_drive: str) -> None:
    made = folder(graph, graph_drive, "a").json()

    assert code(put(graph, graph_drive, "a"))[:2] == (409, "nameAlreadyExists")
    assert code(graph.put(f"/v1.0/drives/{graph_drive}/items/{made['id']}/content", content=b"x"))[0] == 400


def test_a_put_into_a_folder_that_is_not_there_is_refused(graph: httpx.Client, graph_drive: str) -> None:
    assert code(put(graph, graph_drive, "nowhere/a.txt"))[:2] == (404, "itemNotFound")
    put(graph, graph_drive, "file")
    assert code(put(graph, graph_drive, "file/a.txt"))[:2] == (400, "invalidRequest")


def test_zero_bytes_are_a_file(graph: httpx.Client, graph_drive: str) -> None:
    item = put(graph, graph_drive, "empty", b"").json()

    assert item["size"] == 0
    assert item["file"]["hashes"]["quickXorHash"] == "AAAAAAAAAAAAAAAAAAAAAAAAAAA="


def test_a_body_in_chunks_is_taken(graph: httpx.Client, graph_drive: str) -> None:
    answer = graph.put(item_url(graph_drive, "a", "/content"), content=iter([b"one", b"two", b"", b"three"]))

    assert answer.json()["size"] == 11
    assert graph.get(item_url(graph_drive, "a", "/content"), follow_redirects=True).content == b"onetwothree"


def test_a_put_without_a_length_is_refused(graph: httpx.Client, graph_drive: str) -> None:
    request = graph.build_request("PUT", item_url(graph_drive, "a", "/content"))
    del request.headers["content-length"]

    assert code(graph.send(request))[:2] == (411, "invalidRequest")


def test_more_than_250_mb_are_refused_before_they_are_sent(
    simulator: Simulator, graph: httpx.Client, graph_drive: str
) -> None:
    raw = HTTPConnection(httpx.URL(simulator.url).netloc.decode(), timeout=20)
    raw.putrequest("PUT", item_url(graph_drive, "a", "/content"))
    for name, value in (*graph.headers.items(), ("Content-Length", "250000001"), ("Expect", "100-continue")):
        raw.putheader(name, value)
    raw.endheaders()

    answer = raw.getresponse()

    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert json.loads(answer.read())["error"]["innererror"]["code"] == "maxFileSizeExceeded"
    raw.close()


def test_if_match_protects_what_changed_meanwhile(graph: httpx.Client, graph_drive: str) -> None:
    seen = put(graph, graph_drive, "a").json()
    now = put(graph, graph_drive, "a", b"changed").json()
    by_id = f"/v1.0/drives/{graph_drive}/items/{seen['id']}"
    stale = {"If-Match": seen["eTag"]}

    answers = [
        graph.put(f"{by_id}/content", content=b"mine", headers=stale),
        graph.delete(by_id, headers=stale),
        graph.patch(by_id, json={"name": "b"}, headers={"If-Match": seen["cTag"]}),
        graph.put(f"{by_id}/content", content=b"mine", headers={"If-None-Match": now["eTag"]}),
        put(graph, graph_drive, "new", **stale),
    ]

    assert [code(answer) for answer in answers] == [(412, "resourceModified", "entityTagDoesNotMatch")] * 5
    assert code(graph.delete(by_id, headers={"If-Match": "unquoted"})) == (
        400,
        "invalidRequest",
        "malformedEntityTag",
    )
    assert (
        graph.put(f"{by_id}/content", content=b"mine", headers={"If-Match": now["cTag"]}).status_code == 200
    )


def test_a_full_drive_answers_507(simulator: Simulator, graph: httpx.Client) -> None:
    drive = simulator.new_drive(quota=10)
    put(graph, drive, "a", b"12345")

    refused = put(graph, drive, "b", b"123456")
    simulator.control("POST drive", drive=drive, quota=11)

    assert code(refused) == (507, "quotaLimitReached", "insufficientStorage")
    assert names(graph, drive) == ["a"]
    assert put(graph, drive, "b", b"123456").status_code == 201


def test_a_folder_that_is_there_is_refused_unless_said_otherwise(
    graph: httpx.Client, graph_drive: str
) -> None:
    behaviour = "@microsoft.graph.conflictBehavior"
    assert folder(graph, graph_drive, "A").status_code == 201

    assert code(folder(graph, graph_drive, "a"))[:2] == (409, "nameAlreadyExists")
    assert folder(graph, graph_drive, "a", **{behaviour: "rename"}).json()["name"] == "a 1"
    assert code(graph.post(f"/v1.0/drives/{graph_drive}/root/children", json={"name": "b"}))[0] == 400
    assert code(folder(graph, graph_drive, "b", size=1)) == (400, "invalidRequest", "propertyNotUpdateable")
    assert code(folder(graph, graph_drive, "b", parent="01NOBODY"))[0] == 404


def test_children_come_in_pages(graph: httpx.Client, graph_drive: str) -> None:
    for number in range(7):
        put(graph, graph_drive, f"{number}.txt")
    url, seen, pages = f"/v1.0/drives/{graph_drive}/root/children?$top=3&$select=name", [], 0

    while url:
        page = graph.get(url).json()
        seen += page["value"]
        url, pages = page.get("@odata.nextLink", ""), pages + 1

    assert seen == [{"name": f"{number}.txt"} for number in range(7)]
    assert pages == 3
    assert code(graph.get(f"/v1.0/drives/{graph_drive}/root/children?$filter=x"))[2] == "invalidQueryOption"


def test_an_item_is_renamed_and_moved(graph: httpx.Client, graph_drive: str) -> None:
    target = folder(graph, graph_drive, "target").json()
    put(graph, graph_drive, "target/taken")
    before = put(graph, graph_drive, "a", b"12345").json()
    by_id = f"/v1.0/drives/{graph_drive}/items/{before['id']}"

    refused = graph.patch(by_id, json={"parentReference": {"id": target["id"]}, "name": "TAKEN"})
    moved = graph.patch(by_id, json={"parentReference": {"id": target["id"]}, "name": "b"}).json()
    recased = graph.patch(by_id, json={"name": "B"}).json()

    assert code(refused)[:2] == (409, "nameAlreadyExists")
    assert (moved["id"], moved["name"], moved["parentReference"]["id"]) == (before["id"], "b", target["id"])
    assert (moved["eTag"] == before["eTag"], moved["cTag"] == before["cTag"]) == (False, True)
    assert recased["name"] == "B"
    assert names(graph, graph_drive, target["id"]) == ["B", "taken"]
    assert graph.get(item_url(graph_drive, "target")).json()["size"] == 10
    into_itself = graph.patch(item_url(graph_drive, "target"), json={"parentReference": {"id": target["id"]}})
    assert code(into_itself)[0] == 400
    assert code(graph.patch(by_id, json={"size": 3})) == (400, "invalidRequest", "propertyNotUpdateable")


def test_times_of_a_client_are_kept_in_whole_seconds_as_a_new_version(
    graph: httpx.Client, graph_drive: str
) -> None:
    item = put(graph, graph_drive, "a").json()
    times = {
        "createdDateTime": "2001-02-03T04:05:06.789Z",
        "lastModifiedDateTime": "2002-02-03T05:05:06+01:00",
    }
    by_id = f"/v1.0/drives/{graph_drive}/items/{item['id']}"

    shown = graph.patch(by_id, json={"fileSystemInfo": times}).json()

    assert shown["fileSystemInfo"] == {
        "createdDateTime": "2001-02-03T04:05:06Z",
        "lastModifiedDateTime": "2002-02-03T04:05:06Z",
    }
    assert shown["cTag"] == item["cTag"]
    assert len(graph.get(f"{by_id}/versions").json()["value"]) == 2
    assert code(graph.patch(by_id, json={"fileSystemInfo": {"createdDateTime": "soon"}}))[0] == 400


def test_a_folder_is_deleted_with_all_that_is_in_it(graph: httpx.Client, graph_drive: str) -> None:
    folder(graph, graph_drive, "a")
    inside = put(graph, graph_drive, "a/1").json()

    assert graph.delete(item_url(graph_drive, "a")).status_code == 204

    assert code(graph.get(f"/v1.0/drives/{graph_drive}/items/{inside['id']}"))[:2] == (404, "itemNotFound")
    assert graph.get(f"/v1.0/drives/{graph_drive}").json()["quota"]["used"] == 0
    assert code(graph.delete(f"/v1.0/drives/{graph_drive}/root"))[:2] == (403, "accessDenied")


def test_content_is_behind_a_redirect_that_needs_no_token(
    graph: httpx.Client, bare: httpx.Client, graph_drive: str
) -> None:
    item = put(graph, graph_drive, "a", b"0123456789").json()

    redirect = graph.get(item_url(graph_drive, "a", "/content"))
    url = redirect.headers["location"]

    assert redirect.status_code == 302
    assert bare.get(url).content == b"0123456789"
    assert bare.get(item["@microsoft.graph.downloadUrl"]).content == b"0123456789"
    assert code(bare.get(url[:-1] + "x"))[0] == 401
    unchanged = graph.get(item_url(graph_drive, "a", "/content"), headers={"If-None-Match": item["cTag"]})
    assert unchanged.status_code == 304


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("bytes=2-4", (206, b"234", "bytes 2-4/10")),
        ("bytes=7-", (206, b"789", "bytes 7-9/10")),
        ("bytes=-2", (206, b"89", "bytes 8-9/10")),
        ("bytes=8-99", (206, b"89", "bytes 8-9/10")),
        ("bytes=1-2,4-5", (200, b"0123456789", None)),
    ],
)
def test_a_range_is_asked_of_the_download_url(
    graph: httpx.Client, graph_drive: str, wanted: str, expected: tuple[int, bytes, str | None]
) -> None:
    url = put(graph, graph_drive, "a", b"0123456789").json()["@microsoft.graph.downloadUrl"]

    answer = graph.get(url, headers={"Range": wanted})

    assert (answer.status_code, answer.content, answer.headers.get("content-range")) == expected


def test_a_range_beyond_the_end_is_refused(graph: httpx.Client, graph_drive: str) -> None:
    url = put(graph, graph_drive, "a", b"0123456789").json()["@microsoft.graph.downloadUrl"]

    assert code(graph.get(url, headers={"Range": "bytes=10-"}))[:2] == (416, "invalidRange")


def test_old_versions_can_be_read_restored_and_deleted(graph: httpx.Client, graph_drive: str) -> None:
    item = put(graph, graph_drive, "a", b"first").json()
    put(graph, graph_drive, "a", b"second one")
    versions = f"/v1.0/drives/{graph_drive}/items/{item['id']}/versions"

    listed = graph.get(versions).json()["value"]
    assert [(one["id"], one["size"]) for one in listed] == [("2.0", 10), ("1.0", 5)]
    assert graph.get(f"{versions}/1.0/content", follow_redirects=True).content == b"first"

    assert graph.post(f"{versions}/1.0/restoreVersion").status_code == 204
    assert graph.get(item_url(graph_drive, "a", "/content"), follow_redirects=True).content == b"first"
    assert [one["id"] for one in graph.get(versions).json()["value"]] == ["3.0", "2.0", "1.0"]

    assert graph.delete(f"{versions}/1.0").status_code == 204
    assert graph.get(item_url(graph_drive, "a", "/content"), follow_redirects=True).content == b"first"
    assert graph.get(f"/v1.0/drives/{graph_drive}").json()["quota"]["used"] == 15
    assert code(graph.delete(f"{versions}/3.0"))[0] == 400
    assert code(graph.get(f"{versions}/9.0"))[:2] == (404, "itemNotFound")


def test_a_library_alters_office_files_and_a_business_drive_does_not(
    simulator: Simulator, graph: httpx.Client
) -> None:
    library, business = simulator.new_drive(type="documentLibrary"), simulator.new_drive()
    sent = b"a small document"

    altered = [put(graph, library, name, sent).json() for name in ("a.docx", "b.XLSX", "c.pptx")]
    kept = [put(graph, library, "d.pdf", sent).json(), put(graph, business, "a.docx", sent).json()]

    hashes = {item["file"]["hashes"]["quickXorHash"] for item in kept}
    assert len(hashes) == 1
    assert {item["size"] for item in kept} == {len(sent)}
    for item in altered:
        assert item["size"] > len(sent)
        assert item["file"]["hashes"]["quickXorHash"] not in hashes
    there = {item["path"]: item for item in simulator.control("GET tree", drive=library)}
    assert there["a.docx"]["quickXorHash"] == altered[0]["file"]["hashes"]["quickXorHash"]

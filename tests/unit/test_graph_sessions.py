"""Upload sessions of the simulator, rule by rule."""

import threading
from datetime import datetime
from http.client import HTTPConnection
from random import Random
from typing import Any

import httpx
import pytest

from tests.graph.launch import Simulator, code, item_url

pytest_plugins = ["tests.graph.fixtures"]
GRID = 327_680
BEHAVIOUR = "@microsoft.graph.conflictBehavior"


def open_session(graph: httpx.Client, drive: str, path: str, **body: Any) -> httpx.Response:
    return graph.post(item_url(drive, path, "/createUploadSession"), json=body)


def upload_url(graph: httpx.Client, drive: str, path: str = "a.bin", **body: Any) -> str:
    answer = open_session(graph, drive, path, **body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["uploadUrl"])


def send(bare: httpx.Client, url: str, data: bytes, start: int, end: int) -> httpx.Response:
    """Send the bytes from start to end, the end not included."""
    content_range = f"bytes {start}-{end - 1}/{len(data)}"
    return bare.put(url, content=data[start:end], headers={"Content-Range": content_range})


def content(graph: httpx.Client, drive: str, path: str) -> bytes:
    return graph.get(item_url(drive, path, "/content"), follow_redirects=True).content


def data_of(size: int) -> bytes:
    return Random(size).randbytes(size)


def test_fragments_in_order_make_a_file(graph: httpx.Client, bare: httpx.Client, graph_drive: str) -> None:
    data = data_of(2 * GRID + 5)
    opened = open_session(graph, graph_drive, "a.bin", item={"name": "a.bin", "fileSize": len(data)}).json()
    url = opened["uploadUrl"]

    first = send(bare, url, data, 0, GRID)
    second = send(bare, url, data, GRID, 2 * GRID)
    last = send(bare, url, data, 2 * GRID, len(data))

    assert opened["nextExpectedRanges"] == ["0-"]
    assert (first.status_code, first.json()["nextExpectedRanges"]) == (202, [f"{GRID}-"])
    assert (second.status_code, second.json()["nextExpectedRanges"]) == (202, [f"{2 * GRID}-"])
    assert datetime.fromisoformat(second.json()["expirationDateTime"])
    assert (last.status_code, last.json()["name"], last.json()["size"]) == (201, "a.bin", len(data))
    assert content(graph, graph_drive, "a.bin") == data
    assert code(bare.get(url)) == (404, "itemNotFound", "uploadSessionNotFound")


def test_the_file_is_not_there_before_its_last_byte(
    graph: httpx.Client, bare: httpx.Client, graph_drive: str
) -> None:
    data = data_of(GRID + 1)
    send(bare, upload_url(graph, graph_drive), data, 0, GRID)

    assert code(graph.get(item_url(graph_drive, "a.bin")))[:2] == (404, "itemNotFound")


def test_a_name_that_is_taken_is_refused_by_default(
    graph: httpx.Client, bare: httpx.Client, graph_drive: str
) -> None:
    graph.put(item_url(graph_drive, "a.bin", "/content"), content=b"there")

    refused = open_session(graph, graph_drive, "A.bin")
    replaced = send(bare, upload_url(graph, graph_drive, item={BEHAVIOUR: "replace"}), b"new", 0, 3)
    renamed = send(bare, upload_url(graph, graph_drive, item={BEHAVIOUR: "rename"}), b"other", 0, 5)

    assert code(refused) == (409, "nameAlreadyExists", "")
    assert (replaced.status_code, replaced.json()["size"]) == (200, 3)
    assert (renamed.status_code, renamed.json()["name"]) == (201, "a 1.bin")
    assert code(open_session(graph, graph_drive, "b", item={BEHAVIOUR: "merge"}))[0] == 400


def test_an_item_is_updated_by_its_id(graph: httpx.Client, bare: httpx.Client, graph_drive: str) -> None:
    item = graph.put(item_url(graph_drive, "a.bin", "/content"), content=b"there").json()
    by_id = f"/v1.0/drives/{graph_drive}/items/{item['id']}/createUploadSession"

    refused = graph.post(by_id, json={}, headers={"If-Match": '"stale"'})
    same = graph.post(by_id, json={}, headers={"If-None-Match": item["eTag"]})
    url = graph.post(by_id, json={}, headers={"If-Match": item["eTag"]}).json()["uploadUrl"]
    answer = send(bare, url, b"new", 0, 3)

    assert code(refused) == code(same) == (412, "resourceModified", "entityTagDoesNotMatch")
    assert (answer.status_code, answer.json()["id"]) == (200, item["id"])
    root = f"/v1.0/drives/{graph_drive}/root/createUploadSession"
    assert code(graph.post(root, json={}))[0] == 400


def test_an_item_has_one_session(graph: httpx.Client, bare: httpx.Client, graph_drive: str) -> None:
    url = upload_url(graph, graph_drive)

    for behaviour in ("fail", "replace", "rename"):
        second = open_session(graph, graph_drive, "A.BIN", item={BEHAVIOUR: behaviour})
        assert code(second)[:2] == (409, "nameAlreadyExists")
    assert bare.delete(url).status_code == 204

    assert code(bare.get(url)) == (404, "itemNotFound", "uploadSessionNotFound")
    assert open_session(graph, graph_drive, "a.bin").status_code == 200


def test_a_session_that_is_over_lets_the_next_one_in(
    simulator: Simulator, graph: httpx.Client, bare: httpx.Client, graph_drive: str
) -> None:
    url = upload_url(graph, graph_drive, "over.bin")
    send(bare, url, data_of(GRID + 1), 0, GRID)

    assert simulator.control("POST sessions/expire", name="over.bin") == {"expired": 1}

    assert code(send(bare, url, data_of(GRID + 1), GRID, GRID + 1))[:2] == (404, "itemNotFound")
    assert open_session(graph, graph_drive, "over.bin").status_code == 200


def test_each_fragment_moves_the_end_of_the_session(
    simulator: Simulator, graph: httpx.Client, bare: httpx.Client, graph_drive: str
) -> None:
    simulator.control("POST settings", session_lifetime=100)
    opened = open_session(graph, graph_drive, "a.bin").json()
    simulator.control("POST settings", session_lifetime=86400)
    simulator.control("POST clock", off_by=50)

    after = send(bare, opened["uploadUrl"], data_of(GRID + 1), 0, GRID).json()
    simulator.control("POST clock", off_by=0)

    ends = [datetime.fromisoformat(one["expirationDateTime"]) for one in (opened, after)]
    assert 45 <= (ends[1] - ends[0]).total_seconds() <= 90


def test_a_size_that_does_not_fit_opens_no_session(simulator: Simulator, graph: httpx.Client) -> None:
    drive = simulator.new_drive(quota=1000)

    refused = open_session(graph, drive, "a.bin", item={"fileSize": 1001})
    too_large = open_session(graph, drive, "a.bin", item={"fileSize": (250 << 30) + 1})

    assert code(refused) == (507, "quotaLimitReached", "insufficientStorage")
    assert code(too_large) == (400, "invalidRequest", "maxFileSizeExceeded")
    assert open_session(graph, drive, "a.bin", item={"fileSize": 1000}).status_code == 200


def test_what_an_upload_session_does_not_have_is_refused(graph: httpx.Client, graph_drive: str) -> None:
    assert code(open_session(graph, graph_drive, "a", item={"size": 3}))[2] == "propertyNotUpdateable"
    assert code(open_session(graph, graph_drive, "a", name="a"))[2] == "propertyNotUpdateable"
    assert code(open_session(graph, graph_drive, "a", item={"name": "b"}))[0] == 400
    assert code(open_session(graph, graph_drive, "no/folder"))[:2] == (404, "itemNotFound")
    malformed = graph.post(item_url(graph_drive, "a", "/createUploadSession"), content=b"{")
    assert code(malformed)[:2] == (400, "invalidRequest")
    assert (
        open_session(graph, graph_drive, "a", item={"@odata.type": "#x", "@unknown.note": 1}).status_code
        == 200
    )


def test_an_upload_url_takes_no_authorization_header(
    graph: httpx.Client, bare: httpx.Client, graph_drive: str
) -> None:
    url = upload_url(graph, graph_drive)
    headers = {"Content-Range": "bytes 0-2/3"}

    assert code(graph.put(url, content=b"abc", headers=headers))[:2] == (401, "unauthenticated")
    assert code(graph.get(url))[:2] == (401, "unauthenticated")
    assert code(graph.delete(url))[:2] == (401, "unauthenticated")
    assert code(bare.get(url.replace("tempauth=v1.", "tempauth=v2.")))[:2] == (401, "unauthenticated")
    assert bare.get(url).json()["nextExpectedRanges"] == ["0-"]


def test_fragments_out_of_order_are_refused(
    graph: httpx.Client, bare: httpx.Client, graph_drive: str
) -> None:
    data, url = data_of(4 * GRID), upload_url(graph, graph_drive)
    send(bare, url, data, 0, 2 * GRID)

    again = send(bare, url, data, GRID, 3 * GRID)
    early = send(bare, url, data, 3 * GRID, 4 * GRID)
    beyond = bare.put(
        url, content=b"abc", headers={"Content-Range": f"bytes {2 * GRID}-{2 * GRID + 2}/{2 * GRID + 2}"}
    )
    backwards = bare.put(url, content=b"abc", headers={"Content-Range": "bytes 5-3/9"})

    assert code(again) == (416, "invalidRange", "fragmentOverlap")
    assert code(early) == (416, "invalidRange", "fragmentOutOfOrder")
    assert code(beyond) == code(backwards) == (416, "invalidRange", "")
    assert bare.get(url).json()["nextExpectedRanges"] == [f"{2 * GRID}-"]


def test_the_head_of_a_fragment_has_to_be_right(
    graph: httpx.Client, bare: httpx.Client, graph_drive: str
) -> None:
    data, url = data_of(2 * GRID), upload_url(graph, graph_drive)
    send(bare, url, data, 0, GRID)

    other_total = send(bare, url, data + data, GRID, 2 * GRID)
    no_range = bare.put(url, content=b"abc")
    wrong_length = bare.put(
        url, content=b"abc", headers={"Content-Range": f"bytes {GRID}-{2 * GRID - 1}/{2 * GRID}"}
    )
    chunked = bare.put(
        url, content=iter([b"abc"]), headers={"Content-Range": f"bytes {GRID}-{GRID + 2}/{2 * GRID}"}
    )
    strange = bare.patch(url)

    assert code(other_total) == (400, "invalidRequest", "fragmentLengthMismatch")
    assert code(no_range)[:2] == code(wrong_length)[:2] == (400, "invalidRequest")
    assert code(chunked)[:2] == (411, "invalidRequest")
    assert code(strange)[:2] == (405, "notAllowed")
    assert send(bare, url, data, GRID, 2 * GRID).status_code == 201


def test_a_request_has_less_than_60_mib(graph: httpx.Client, bare: httpx.Client, graph_drive: str) -> None:
    data, url = bytes(60 << 20), upload_url(graph, graph_drive)

    too_large = send(bare, url, data, 0, len(data))
    largest = send(bare, url, data, 0, 191 * GRID)

    assert code(too_large) == (413, "invalidRequest", "maxFragmentLengthExceeded")
    assert largest.status_code == 202


def test_a_wrong_multiple_is_taken_and_fails_at_the_last_range(
    graph: httpx.Client, bare: httpx.Client, graph_drive: str
) -> None:
    data, url = data_of(2 * GRID), upload_url(graph, graph_drive)

    wrong = send(bare, url, data, 0, 1000)
    last = send(bare, url, data, 1000, len(data))

    assert (wrong.status_code, wrong.json()["nextExpectedRanges"]) == (202, ["1000-"])
    assert code(last) == (400, "invalidRequest", "uploadSessionFailed")
    assert bare.get(url).json()["nextExpectedRanges"] == []
    assert code(graph.get(item_url(graph_drive, "a.bin")))[0] == 404


@pytest.mark.parametrize("ends", [[2 * GRID], [GRID, 2 * GRID], [1000 + GRID]])
def test_after_a_partly_kept_fragment_the_grid_or_a_multiple_is_right(
    simulator: Simulator, graph: httpx.Client, bare: httpx.Client, graph_drive: str, ends: list[int]
) -> None:
    data, url = data_of(3 * GRID + 7), upload_url(graph, graph_drive)
    simulator.control(
        "POST faults", method="PUT", path="uploadSession", action="cut", when="body", bytes=2000, keep=1000
    )
    with pytest.raises(httpx.TransportError):
        send(bare, url, data, 0, GRID)
    assert bare.get(url).json()["nextExpectedRanges"] == ["1000-"]

    for start, end in zip([1000, *ends], [*ends, len(data)], strict=True):
        answer = send(bare, url, data, start, end)

    assert answer.status_code == 201
    assert content(graph, graph_drive, "a.bin") == data


def test_an_interrupted_fragment_is_forgotten(
    simulator: Simulator, graph: httpx.Client, bare: httpx.Client, graph_drive: str
) -> None:
    data, url = data_of(2 * GRID), upload_url(graph, graph_drive, "broken.bin")
    send(bare, url, data, 0, GRID)
    simulator.control("POST faults", path="uploadSession", action="cut", when="body", bytes=1000)
    with pytest.raises(httpx.TransportError):
        send(bare, url, data, GRID, 2 * GRID)

    assert bare.get(url).json()["nextExpectedRanges"] == [f"{GRID}-"]
    assert send(bare, url, data, GRID, 2 * GRID).status_code == 201
    assert content(graph, graph_drive, "broken.bin") == data
    [session] = [one for one in simulator.control("GET sessions") if one["name"] == "broken.bin"]
    assert (session["state"], session["kept"]) == ("finished", 2 * GRID)
    assert session["received"] == 2 * GRID + 1000
    assert [one["kept"] for one in session["fragments"]] == [GRID, 0, GRID]
    assert [one["status"] for one in session["fragments"]] == [202, None, 201]


def test_a_fragment_that_lost_its_beginning_leaves_a_hole(
    simulator: Simulator, graph: httpx.Client, bare: httpx.Client, graph_drive: str
) -> None:
    data, url = data_of(3 * GRID + 7), upload_url(graph, graph_drive, "hole.bin")
    simulator.control("POST faults", method="PUT", path="uploadSession", action="pass", lose=GRID)

    holed = send(bare, url, data, 0, 2 * GRID)
    too_much = send(bare, url, data, 0, 2 * GRID)
    behind = send(bare, url, data, 2 * GRID, 3 * GRID)
    filled = send(bare, url, data, 0, GRID)
    last = send(bare, url, data, 2 * GRID, len(data))

    assert (holed.status_code, holed.json()["nextExpectedRanges"]) == (202, [f"0-{GRID - 1}", f"{2 * GRID}-"])
    assert code(too_much) == (416, "invalidRange", "fragmentOverlap")
    assert code(behind) == (416, "invalidRange", "fragmentOutOfOrder")
    assert filled.json()["nextExpectedRanges"] == [f"{2 * GRID}-"]
    assert last.status_code == 201
    assert content(graph, graph_drive, "hole.bin") == data


@pytest.mark.parametrize(("script", "kept"), [(None, 0), ({"action": "pass", "keep": 1500}, 1500)])
def test_of_a_client_that_goes_away_as_much_is_kept_as_a_script_says(
    simulator: Simulator, graph: httpx.Client, bare: httpx.Client, script: dict[str, Any] | None, kept: int
) -> None:
    url = httpx.URL(upload_url(graph, simulator.new_drive(), "away.bin"))
    if script:
        simulator.control("POST faults", method="PUT", path="uploadSession", **script)
    since = simulator.control("GET requests")[-1]["number"]
    raw = HTTPConnection(url.netloc.decode(), timeout=20)
    raw.putrequest("PUT", url.raw_path.decode())
    raw.putheader("Content-Length", str(GRID))
    raw.putheader("Content-Range", f"bytes 0-{GRID - 1}/{GRID}")
    raw.endheaders(bytes(2000))
    raw.close()

    [record] = simulator.control("GET requests", since=since, wait=20)

    assert (record["received"], record["status"]) == (2000, None)
    assert bare.get(url).json()["nextExpectedRanges"] == [f"{kept}-"]


@pytest.mark.parametrize(("behaviour", "expected"), [("fail", 409), ("replace", 200), ("rename", 201)])
def test_a_name_that_is_taken_meanwhile_shows_at_the_last_range(
    simulator: Simulator, graph: httpx.Client, bare: httpx.Client, behaviour: str, expected: int
) -> None:
    graph_drive = simulator.new_drive()
    data, url = data_of(GRID + 1), upload_url(graph, graph_drive, item={BEHAVIOUR: behaviour})
    send(bare, url, data, 0, GRID)
    simulator.control("POST put", drive=graph_drive, path="a.bin", text="theirs")

    answer = send(bare, url, data, GRID, GRID + 1)

    assert answer.status_code == expected
    if behaviour == "fail":
        assert code(answer) == (409, "nameAlreadyExists", "")
        assert content(graph, graph_drive, "a.bin") == b"theirs"
        assert bare.get(url).json()["nextExpectedRanges"] == []
        assert bare.delete(url).status_code == 204


def test_a_drive_that_is_full_shows_at_the_last_range(
    simulator: Simulator, graph: httpx.Client, bare: httpx.Client
) -> None:
    drive = simulator.new_drive(quota=GRID)
    data, url = data_of(GRID + 1), upload_url(graph, drive)
    send(bare, url, data, 0, GRID)

    assert code(send(bare, url, data, GRID, GRID + 1)) == (507, "quotaLimitReached", "insufficientStorage")


def test_a_session_ends_with_its_folder(
    simulator: Simulator, graph: httpx.Client, bare: httpx.Client, graph_drive: str
) -> None:
    simulator.control("POST folder", drive=graph_drive, path="a/b")
    data, url = data_of(GRID + 1), upload_url(graph, graph_drive, "a/b/c.bin")
    send(bare, url, data, 0, GRID)
    simulator.control("POST delete", drive=graph_drive, path="a")

    assert code(send(bare, url, data, GRID, GRID + 1)) == (404, "itemNotFound", "uploadSessionNotFound")


def test_an_update_by_id_follows_its_item_and_ends_with_it(
    graph: httpx.Client, bare: httpx.Client, graph_drive: str
) -> None:
    item = graph.put(item_url(graph_drive, "a.bin", "/content"), content=b"there").json()
    by_id = f"/v1.0/drives/{graph_drive}/items/{item['id']}"
    first = graph.post(f"{by_id}/createUploadSession", json={}).json()["uploadUrl"]
    graph.patch(by_id, json={"name": "b.bin"})

    assert send(bare, first, b"new", 0, 3).json()["name"] == "b.bin"
    second = graph.post(f"{by_id}/createUploadSession", json={}).json()["uploadUrl"]
    graph.delete(by_id)
    assert code(send(bare, second, b"new", 0, 3)) == (404, "itemNotFound", "uploadSessionNotFound")


def test_a_deferred_session_waits_for_an_empty_post(
    graph: httpx.Client, bare: httpx.Client, graph_drive: str
) -> None:
    data, url = data_of(GRID + 1), upload_url(graph, graph_drive, deferCommit=True)
    send(bare, url, data, 0, GRID)

    early = bare.post(url)
    last = send(bare, url, data, GRID, GRID + 1)
    filled = bare.post(url, content=b"x")
    assert code(graph.get(item_url(graph_drive, "a.bin")))[0] == 404
    done = bare.post(url)

    assert code(early) == (400, "invalidRequest", "uploadSessionIncomplete")
    assert (last.status_code, last.json()["nextExpectedRanges"]) == (202, [])
    assert code(filled)[:2] == (400, "invalidRequest")
    assert done.status_code == 201
    assert content(graph, graph_drive, "a.bin") == data


def test_a_session_that_is_not_deferred_takes_no_post(
    graph: httpx.Client, bare: httpx.Client, graph_drive: str
) -> None:
    assert code(bare.post(upload_url(graph, graph_drive)))[:2] == (400, "invalidRequest")


def test_a_newer_fragment_takes_over_from_one_that_is_stuck(
    simulator: Simulator, graph: httpx.Client, bare: httpx.Client, graph_drive: str
) -> None:
    data, url = data_of(2 * GRID), upload_url(graph, graph_drive)
    simulator.control("POST faults", method="PUT", path="uploadSession", action="stall", name="stuck")
    answers: list[httpx.Response] = []

    def zombie() -> None:
        with simulator.http() as client:
            answers.append(send(client, url, data, 0, GRID))

    thread = threading.Thread(target=zombie)
    thread.start()
    assert len(simulator.control("GET stalls", name="stuck", wait=20)) == 1
    newer = send(bare, url, data, 0, GRID)
    simulator.control("POST release", name="stuck")
    thread.join()

    assert newer.status_code == 202
    assert code(answers[0]) == (416, "invalidRange", "fragmentOverlap")
    assert bare.get(url).json()["nextExpectedRanges"] == [f"{GRID}-"]


def test_times_are_given_with_the_session(graph: httpx.Client, bare: httpx.Client, graph_drive: str) -> None:
    times = {"lastModifiedDateTime": "2001-02-03T04:05:06Z"}
    url = upload_url(graph, graph_drive, item={"fileSystemInfo": times})

    shown = send(bare, url, b"abc", 0, 3).json()

    assert shown["fileSystemInfo"]["lastModifiedDateTime"] == "2001-02-03T04:05:06Z"


def test_a_library_alters_office_files_of_a_session(
    simulator: Simulator, graph: httpx.Client, bare: httpx.Client
) -> None:
    library = simulator.new_drive(type="documentLibrary")

    sizes = [
        send(bare, upload_url(graph, library, f"{number}.docx"), b"abc", 0, 3).json()["size"]
        for number in range(4)
    ]

    assert min(sizes) > 3
    assert len(set(sizes)) > 1

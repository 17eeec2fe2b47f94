"""How a file gets into OneDrive: one PUT or a session, resumed at any byte, halved where something cuts. As docs/onedrive.md says."""

import json
import threading

import pytest

from app.drives.onedrive import OneDrive
from app.errors import (
    Disconnected,
    DriveFault,
    DriveItemBusy,
    NameTaken,
    SessionLost,
    ShuttingDown,
)
from tests.factories import race
from tests.graph.launch import Simulator
from tests.integration.onedrive_case import (
    CONTENT,
    CREATE,
    FRAGMENT,
    GRID,
    UPLOAD_URL,
    Case,
    Sending,
    bytes_of,
)

pytest_plugins = ["tests.integration.onedrive_fixtures"]

SMALL = bytes_of(5000)
LARGE = bytes_of(3 * FRAGMENT + 5000)  # four fragments, the last of them small


def test_a_small_file_is_one_put_that_says_what_is_to_be_done_about_its_name(case: Case) -> None:
    sending = case.sending(SMALL)

    made = sending.attempt()

    assert sending.is_whole()
    assert made.info is not None
    assert made.info["verified"] == "exact"
    (put,) = case.requests(CONTENT)
    assert put["path"].endswith("/content?@microsoft.graph.conflictBehavior=fail")
    assert case.uploads() == []
    assert (sending.session, sending.watch.fenced) == ({}, 1), "there is nothing to save for it"


def test_a_small_file_whose_attempt_died_needs_no_session_to_be_found_or_removed(case: Case) -> None:
    sending = case.sending(SMALL)
    first = sending.attempt()
    sending.watch.session = None  # it was not saved

    assert sending.attempt().id == first.id, "the next attempt"
    case.drive.abort({}, sending.delivery)  # the clean-up, if there is no next one
    assert case.files() == {}


@pytest.mark.parametrize("name", ["report.docx", "report.bin"])
def test_what_stood_in_a_place_before_is_saved_where_it_matters(library: Case, name: str) -> None:
    replacing = library.sending(SMALL, name, replace=name.endswith(".bin"))

    replacing.attempt()

    assert replacing.session == {"name": name, "before": None}


def test_an_empty_file_is_one_put_whatever_was_cut_before(case: Case) -> None:
    sending = case.sending(b"")
    case.fault(CONTENT, "cut", when="head")

    assert isinstance(sending.fails(), Disconnected)
    made = sending.attempt()

    assert (made.size, case.files()["a.bin"]["size"]) == (0, 0)
    assert case.uploads() == []


def test_a_large_file_is_a_session_of_fragments_on_the_grid(case: Case) -> None:
    sending = case.sending(LARGE)

    sending.attempt()

    assert sending.is_whole()
    (session,) = case.uploads()
    assert [one["start"] for one in session["fragments"]] == [0, FRAGMENT, 2 * FRAGMENT, 3 * FRAGMENT]
    assert session["received"] == len(LARGE)
    assert sending.watch.sent == [FRAGMENT, 2 * FRAGMENT, 3 * FRAGMENT]
    assert case.requests(CREATE)[0]["path"].count("conflictBehavior") == 0, "it is said in the body"


def test_the_session_is_saved_before_the_first_byte_and_the_claim_asked_before_the_last(
    case: Case,
) -> None:
    sending = case.sending(LARGE)
    order = []
    checkpoint, fence = sending.watch.checkpoint, sending.watch.fence
    sending.watch.checkpoint = lambda *given: (
        order.append(len(case.requests(UPLOAD_URL))),
        checkpoint(*given),
    )[1]  # type: ignore[method-assign]
    sending.watch.fence = lambda: (order.append(len(case.requests(UPLOAD_URL))), fence())[1]  # type: ignore[method-assign]

    sending.attempt()

    assert order == [0, 3]
    assert "tempauth" in json.dumps(sending.session)


def test_the_real_size_of_a_fragment_is_10_mib(graph_tls: Simulator) -> None:
    case = Case(graph_tls, graph_tls.new_drive())
    data = bytes_of(10 * 2**20)
    whole, more = case.sending(data, "whole"), case.sending(data + b"!", "more")

    whole.attempt()
    more.attempt()

    (session,) = case.uploads()
    assert [one["received"] for one in session["fragments"]] == [10 * 2**20, 1]
    assert whole.is_whole()
    assert more.is_whole()


# Resumed


@pytest.mark.parametrize("fragments", [0, 1, 3])
def test_another_process_goes_on_where_the_first_was_stopped(case: Case, fragments: int) -> None:
    sending = case.sending(LARGE)
    sending.stop_after(fragments, ShuttingDown("stop"))
    assert isinstance(sending.fails(), ShuttingDown)
    sending.go_on()

    sending.attempt(case.elsewhere())

    assert sending.is_whole()
    (session,) = case.uploads()
    assert session["received"] == len(LARGE), "no byte was sent twice"


def test_it_goes_on_off_the_grid_and_back_to_it(case: Case) -> None:
    """Part of a fragment may have been kept (onedrive-api-docs#75)."""
    sending = case.sending(LARGE)
    case.fault(UPLOAD_URL, "cut", method="PUT", nth=2, when="body", bytes=300_001, keep=300_001)
    case.fault(UPLOAD_URL, "answer", method="GET", status=500)
    sending.fails()

    sending.attempt(case.elsewhere())

    assert sending.is_whole()
    (session,) = case.uploads()
    went_on = session["fragments"][2]
    assert went_on["start"] == FRAGMENT + 300_001
    assert (went_on["end"] + 1) % GRID == 0
    assert session["received"] == len(LARGE), "no byte was sent twice"


def test_a_fragment_that_was_taken_only_in_part_is_gone_on_with(case: Case) -> None:
    sending = case.sending(LARGE)
    case.fault(UPLOAD_URL, "cut", method="PUT", nth=2, when="before", keep=GRID + 17)

    sending.attempt()

    assert sending.is_whole()
    (session,) = case.uploads()
    assert [one["start"] for one in session["fragments"]][:4] == [
        0,
        FRAGMENT,
        FRAGMENT + GRID + 17,
        2 * FRAGMENT,
    ], "in full fragments: what came through shows that they do"
    assert len(case.requests(UPLOAD_URL, "GET")) == 1


def test_a_halved_fragment_goes_back_to_the_grid_too(case: Case) -> None:
    sending = case.sending(LARGE)
    case.fault(UPLOAD_URL, "cut", method="PUT", nth=1)
    case.fault(UPLOAD_URL, "cut", method="PUT", nth=2, keep=17)

    sending.attempt()

    assert sending.is_whole()
    (session,) = case.uploads()
    assert [one["start"] for one in session["fragments"]][:5] == [0, 0, 17, GRID, 2 * GRID]


def test_416_is_answered_by_asking_where_to_go_on(case: Case) -> None:
    sending = case.sending(LARGE)
    case.answer(UPLOAD_URL, 416, "invalidRange", method="PUT", nth=2, when="after")

    sending.attempt()

    assert sending.is_whole()
    (session,) = case.uploads()
    assert session["received"] == len(LARGE), "it was there already, and was not sent again"


@pytest.mark.parametrize(
    "refusal",
    [
        {"status": 416, "code": "invalidRange"},
        {"status": 202, "body": f'{{"nextExpectedRanges": ["{FRAGMENT}-"]}}'},
    ],
)
def test_bytes_that_are_refused_and_asked_for_again_are_not_sent_for_ever(
    case: Case, refusal: dict[str, object]
) -> None:
    sending = case.sending(LARGE)
    case.fault(UPLOAD_URL, "answer", method="PUT", nth=2, times=5, **refusal)

    error = sending.fails()

    assert isinstance(error, DriveFault)
    assert len(case.requests(UPLOAD_URL, "PUT")) == 2
    case.simulator.control("DELETE faults")
    sending.attempt()
    assert sending.is_whole()


@pytest.mark.parametrize(
    ("nth", "given", "kind"),
    [
        (4, {"status": 202, "body": '{"nextExpectedRanges": ["0-"]}'}, SessionLost),
        (2, {"status": 201, "body": '{"id": "1", "name": "a.bin"}'}, DriveFault),
    ],
)
def test_an_answer_that_cannot_be_is_not_believed(
    case: Case, nth: int, given: dict[str, object], kind: type[Exception]
) -> None:
    sending = case.sending(LARGE)
    case.fault(UPLOAD_URL, "answer", method="PUT", nth=nth, **given)

    assert type(sending.fails()) is kind

    sending.attempt()
    assert sending.is_whole()


def test_a_session_that_ends_after_416_is_lost(case: Case) -> None:
    sending = case.sending(LARGE)
    case.answer(UPLOAD_URL, 416, "invalidRange", method="PUT", nth=2)
    case.answer(UPLOAD_URL, 404, "itemNotFound", method="GET")

    assert isinstance(sending.fails(), SessionLost)


# An answer that was lost


def test_a_last_fragment_that_is_said_to_be_kept_alone_is_looked_for(case: Case) -> None:
    """The range may be empty when all bytes are there (onedrive-api-docs#71)."""
    sending = case.sending(LARGE)
    body = '{"nextExpectedRanges": []}'
    case.fault(UPLOAD_URL, "answer", method="PUT", nth=4, when="after", status=202, body=body)

    sending.attempt()

    assert sending.is_whole()


@pytest.fixture
def all_but_a_file(case: Case) -> Sending:
    """An upload of which the drive has all bytes, and has not made a file yet, as it says for three looks."""
    sending = case.sending(LARGE)
    case.fault(UPLOAD_URL, "cut", method="PUT", nth=4, when="before")
    body = '{"nextExpectedRanges": []}'
    case.fault(UPLOAD_URL, "answer", method="GET", times=3, status=200, body=body)
    return sending


def test_a_file_that_the_drive_has_yet_to_make_is_waited_for(case: Case, all_but_a_file: Sending) -> None:
    errors = [all_but_a_file.fails(drive) for drive in (case.drive, case.elsewhere(), case.elsewhere())]

    assert all(isinstance(error, DriveItemBusy) for error in errors), "none burns an attempt"
    all_but_a_file.attempt()  # the session says where to go on
    assert all_but_a_file.is_whole()
    assert [one["state"] for one in case.uploads()] == ["finished"]


def test_a_file_that_the_drive_never_makes_is_sent_anew(
    case: Case, all_but_a_file: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.drives.onedrive.LOOKS", 1)

    assert isinstance(all_but_a_file.fails(), DriveItemBusy)
    assert isinstance(all_but_a_file.fails(), SessionLost)
    case.simulator.control("DELETE faults")
    all_but_a_file.attempt()

    assert all_but_a_file.is_whole()


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_small_put_whose_answer_was_cut_is_found_out(case: Case, when: str, *, replace: bool) -> None:
    sending = case.sending(SMALL, replace=replace)
    case.fault(CONTENT, "cut", method="PUT", when=when)

    assert isinstance(sending.fails(), Disconnected)
    sending.attempt(case.elsewhere())

    assert sending.is_whole()
    assert case.files()["a.bin"]["versions"] == 1
    assert len(case.uploads()) == (when == "before"), "what is there already is not sent again"


def test_a_worker_that_died_after_its_put_finds_the_file_there(case: Case) -> None:
    sending = case.sending(SMALL)
    first = sending.attempt()
    sending.watch.session = {"name": "a.bin", "before": None}  # as it was saved; nothing after it was

    again = sending.attempt(case.elsewhere())

    assert again.id == first.id
    assert case.files()["a.bin"]["versions"] == 1


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_last_fragment_whose_answer_was_cut_is_found_out(case: Case, when: str, *, replace: bool) -> None:
    sending = case.sending(LARGE, replace=replace)
    case.fault(UPLOAD_URL, "cut", method="PUT", nth=4, when=when)

    if when == "after":
        assert isinstance(sending.fails(), Disconnected)
    sending.attempt(case.elsewhere())

    assert sending.is_whole()
    (session,) = case.uploads()
    assert session["received"] <= len(LARGE) + 5000
    assert case.files()["a.bin"]["versions"] == 1


def test_a_404_of_the_last_fragment_can_mean_completed(case: Case) -> None:
    sending = case.sending(LARGE)
    case.answer(UPLOAD_URL, 404, "itemNotFound", method="PUT", nth=4, when="after")

    sending.attempt()

    assert sending.is_whole()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_status_request_that_knows_no_session_can_mean_completed(case: Case, status: int) -> None:
    sending = case.sending(LARGE)
    case.fault(UPLOAD_URL, "cut", method="PUT", nth=4, when="after")
    sending.fails()
    case.answer(UPLOAD_URL, status, "accessDenied", method="GET")

    sending.attempt(case.elsewhere())

    assert sending.is_whole()
    assert len(case.uploads()) == 1


@pytest.mark.parametrize("replace", [False, True])
def test_a_session_that_has_ended_is_begun_anew(case: Case, *, replace: bool) -> None:
    if replace:
        case.sending(b"what stood there").attempt()
    sending = case.sending(LARGE, replace=replace)
    sending.stop_after(2, ShuttingDown("stop"))
    sending.fails()
    sending.go_on()
    case.simulator.control("POST sessions/expire", name="a.bin")

    sending.attempt()

    assert sending.is_whole()
    assert [one["state"] for one in case.uploads()] == ["expired", "finished"]


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("nth", [2, 4])
def test_a_session_that_ends_under_way_is_lost_and_begun_anew(case: Case, nth: int, *, replace: bool) -> None:
    if replace:
        case.sending(b"what stood there").attempt()
    sending = case.sending(LARGE, replace=replace)
    expire = {"request": "POST sessions/expire", "json": {"name": "a.bin"}}
    case.fault(UPLOAD_URL, "control", method="PUT", nth=nth, when="head", **expire)

    assert isinstance(sending.fails(), SessionLost)
    assert sending.session is None
    sending.attempt()

    assert sending.is_whole()


def test_a_session_whose_answer_was_lost_holds_the_name_until_it_ends(case: Case) -> None:
    sending = case.sending(LARGE)
    case.fault(CREATE, "cut", when="after")
    assert isinstance(sending.fails(), Disconnected)
    assert sending.session is None

    error = sending.fails()
    case.simulator.control("POST sessions/expire", name="a.bin")
    sending.attempt()

    assert isinstance(error, DriveItemBusy)
    assert error.delay.total_seconds() == 30
    assert sending.is_whole()


def test_a_session_that_could_not_be_opened_left_nothing(case: Case) -> None:
    sending = case.sending(LARGE)
    case.fault(CREATE, "cut", when="before")
    sending.fails()

    sending.attempt()

    assert sending.is_whole()
    assert len(case.uploads()) == 1


def test_a_session_for_another_name_is_cancelled(case: Case) -> None:
    sending = case.sending(LARGE)
    sending.stop_after(1, ShuttingDown("stop"))
    sending.fails()
    numbered = case.sending(LARGE, "a (1).bin")
    numbered.watch.session = sending.session

    numbered.attempt()

    assert [(one["name"], one["state"]) for one in case.uploads()] == [
        ("a.bin", "cancelled"),
        ("a (1).bin", "finished"),
    ]


# What stands in the way cuts


def test_a_proxy_that_cuts_every_mib_lets_a_large_file_through_in_smaller_fragments(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = 32 * GRID
    monkeypatch.setattr(OneDrive, "chunk_bytes", real)
    monkeypatch.setattr("app.drives.onedrive.FRAGMENT", real)
    monkeypatch.setattr("app.graph.sessions.FRAGMENT", real)
    sending = case.sending(bytes_of(real + 3 * GRID))
    case.fault(".", "cut", when="body", bytes=2**20, times=None)

    sending.attempt()

    assert sending.is_whole()
    (session,) = case.uploads()
    sizes = [one["end"] + 1 - one["start"] for one in session["fragments"]]
    assert [size // GRID for size in sizes[:5]] == [32, 16, 8, 4, 2]
    assert set(sizes[5:]) <= {2 * GRID, GRID}
    assert session["received"] <= len(sending.data) + 4 * 2**20


def test_a_proxy_that_cuts_every_mib_lets_a_small_file_through_as_a_session(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OneDrive, "chunk_bytes", 32 * GRID)
    monkeypatch.setattr("app.drives.onedrive.FRAGMENT", 32 * GRID)
    sending = case.sending(bytes_of(5 * GRID))
    case.fault(".", "cut", when="body", bytes=2**20, times=None)

    assert isinstance(sending.fails(), Disconnected)
    assert sending.session is not None
    assert sending.session["cut"] is True
    sending.attempt(case.elsewhere())

    assert sending.is_whole()
    (session,) = case.uploads()
    assert {one["received"] for one in session["fragments"]} == {GRID}


def test_small_fragments_are_stopped_in_between_to_the_very_last(case: Case) -> None:
    """A pause, a shutdown, a wish to cancel: each is asked for before each fragment, whatever its size."""
    sending = case.sending(bytes_of(2 * FRAGMENT))
    asked: list[int] = []
    sending.watch.stop = lambda: asked.append(len(case.requests(UPLOAD_URL, "PUT")))
    case.fault(UPLOAD_URL, "cut", method="PUT", nth=1, when="body", bytes=1000)

    sending.attempt()

    sent = case.requests(UPLOAD_URL, "PUT")
    assert len(sent) == 5, "one that was cut, and four of half the size"
    assert asked == [0, 1, 2, 3, 4]


def test_a_last_fragment_that_is_cut_is_halved_too(case: Case) -> None:
    """What came before it may have taken another way, from another machine."""
    sending = case.sending(bytes_of(3 * FRAGMENT))
    sending.stop_after(2, ShuttingDown("stop"))
    sending.fails()
    sending.go_on()
    case.fault(UPLOAD_URL, "cut", method="PUT", when="body", bytes=GRID + 1, times=None)

    sending.attempt(case.elsewhere())

    assert sending.is_whole()
    (session,) = case.uploads()
    sizes = [one["end"] + 1 - one["start"] for one in session["fragments"]]
    assert sizes[2:] == [FRAGMENT, GRID, GRID]
    assert sending.watch.fenced == 2, "before each request that could make the file"


def test_where_not_even_the_smallest_fragment_comes_through_nothing_is_burnt(case: Case) -> None:
    sending = case.sending(LARGE)
    case.fault(UPLOAD_URL, "cut", method="PUT", when="body", bytes=1000, times=None)

    error = sending.fails()

    assert isinstance(error, Disconnected)
    assert error.delay.total_seconds() == 30
    assert sending.session is not None
    assert sending.session["fragment"] == GRID
    case.simulator.control("DELETE faults")
    sending.attempt()
    assert sending.is_whole()


# The name


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_name_that_somebody_else_has_is_told_and_left_alone(case: Case, data: bytes) -> None:
    case.control("POST put", path="Haulage/7/A.BIN", text="somebody's")
    sending = case.sending(data)

    assert isinstance(sending.fails(), NameTaken)

    assert case.holds("A.BIN", b"somebody's")
    assert case.uploads() == []


def test_a_name_that_is_taken_while_the_bytes_come_is_told_with_the_last_of_them(case: Case) -> None:
    sending = case.sending(LARGE)
    put = {"request": "POST put", "json": {"path": "Haulage/7/a.bin", "text": "quicker", "drive": case.id}}
    case.fault(UPLOAD_URL, "control", method="PUT", nth=4, when="head", **put)

    assert isinstance(sending.fails(), NameTaken)

    assert case.holds("a.bin", b"quicker")


def test_the_very_bytes_in_the_place_are_taken_whoever_put_them_there(case: Case) -> None:
    case.control("POST put", path="Haulage/7/a.bin", text="the same")

    made = case.sending(b"the same").attempt()

    assert made.id == case.files()["a.bin"]["id"]
    assert case.files()["a.bin"]["versions"] == 1


def test_the_very_bytes_that_stood_there_before_are_not_removed_by_an_abort(case: Case) -> None:
    case.sending(LARGE).attempt()
    again = case.sending(LARGE)
    again.attempt()
    assert again.session is not None

    case.drive.abort(again.session, again.delivery)

    assert again.is_whole()
    assert len(case.uploads()) == 1


@pytest.mark.parametrize("replace", [False, True])
def test_409_of_a_put_with_nothing_of_that_name_is_waited_for(case: Case, *, replace: bool) -> None:
    if replace:
        case.sending(b"what stood there").attempt()
    sending = case.sending(SMALL, replace=replace)
    case.answer(CONTENT, 409, "nameAlreadyExists")

    assert isinstance(sending.fails(), DriveItemBusy)

    sending.attempt()
    assert sending.is_whole()


def test_409_for_an_open_session_with_nothing_in_the_place_is_waited_for(case: Case) -> None:
    case.answer(CREATE, 409, "nameAlreadyExists")

    assert isinstance(case.sending(LARGE).fails(), DriveItemBusy)


@pytest.mark.parametrize(("path", "data"), [(CONTENT, SMALL), (CREATE, LARGE), (UPLOAD_URL, LARGE)])
def test_409_is_told_apart_by_its_code(case: Case, path: str, data: bytes) -> None:
    sending = case.sending(data)
    case.answer(path, 409, "resourceModified", method="PUT|POST")

    assert isinstance(sending.fails(), DriveItemBusy)

    sending.attempt()
    assert sending.is_whole()


# Folders


def test_a_folder_is_made_once_by_eight_who_ask_at_the_same_time(case: Case) -> None:
    root = case.root

    made = race([lambda: case.drive.make_folder(root, "Reports 2026").id] * 8)

    assert len(set(made)) == 1
    assert [one["path"] for one in case.control("GET tree", hashes=0)] == [
        "Haulage",
        "Haulage/7",
        "Haulage/7/Reports 2026",
    ]


def test_a_folder_whose_answer_was_lost_is_found(case: Case) -> None:
    root = case.root
    case.fault("/children", "cut", method="POST", when="after")
    with pytest.raises(Disconnected):
        case.drive.make_folder(root, "b")

    made = case.drive.make_folder(root, "b")

    assert made.id in {one["id"] for one in case.control("GET tree", hashes=0)}


def test_a_folder_that_is_there_and_then_is_not_is_asked_for_again(case: Case) -> None:
    root = case.root
    case.answer("/children", 409, "nameAlreadyExists", method="POST")
    with pytest.raises(DriveItemBusy):
        case.drive.make_folder(root, "b")

    assert case.drive.make_folder(root, "b").name == "b"


def test_what_is_in_a_folder_is_told_unless_it_is_gone(case: Case) -> None:
    folder = case.drive.make_folder(case.root, "a").id
    case.drive.remove_empty_folder(folder)
    assert [one.id for one in case.drive.children(case.root)] == [folder], (
        "Microsoft would remove what came into it"
    )

    case.control("POST delete", path="Haulage/7/a")

    with pytest.raises(FileNotFoundError):
        list(case.drive.children(folder))
    assert not case.drive.owns(7, folder)


def test_a_folder_of_many_pages_is_told_whole(case: Case) -> None:
    for number in range(5):
        case.control("POST put", path=f"Haulage/7/{number}", text="x")
    case.simulator.control("POST settings", page=2)
    try:
        found = sorted(one.name for one in case.drive.children(case.root))
    finally:
        case.simulator.control("POST settings", page=1000)

    assert found == ["0", "1", "2", "3", "4"]


def test_one_drive_serves_many_threads(case: Case) -> None:
    sendings = [case.sending(bytes_of(1000 + number), f"{number}.bin") for number in range(24)]
    together = threading.Barrier(8)

    def work(mine: list[object]) -> None:
        together.wait()
        for sending in mine:
            sending.attempt()  # type: ignore[attr-defined]

    raised = [one for one in race([lambda n=n: work(sendings[n::8]) for n in range(8)]) if one is not None]

    assert raised == []
    assert all(sending.is_whole() for sending in sendings)

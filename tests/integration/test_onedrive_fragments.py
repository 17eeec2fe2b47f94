"""What becomes of a session when a fragment does not come through: refused, too large for somebody on the way, half of it lost."""

import json
from typing import Any

import pytest

from app.drives.onedrive import OneDrive
from app.errors import Disconnected, DriveFault, DriveUnavailable, SessionLost, ShuttingDown
from app.graph import sessions
from tests.integration.onedrive_case import CONTENT, FRAGMENT, GRID, UPLOAD_URL, Case, Sending, bytes_of

pytest_plugins = ["tests.integration.onedrive_fixtures"]

SMALL = bytes_of(5000)
LARGE = bytes_of(3 * FRAGMENT + 5000)  # four fragments, the last of them small
MIB = 2**20
PLAIN = {"body": "401 UNAUTHORIZED", "headers": {"Content-Type": "text/plain; charset=utf-8"}}
PAGE = "<html>413 Request Entity Too Large</html>"


@pytest.fixture
def real_fragments(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OneDrive, "chunk_bytes", 32 * GRID)
    monkeypatch.setattr("app.drives.onedrive.FRAGMENT", 32 * GRID)
    monkeypatch.setattr(sessions, "FRAGMENT", 32 * GRID)


def sizes(case: Case) -> list[int]:
    """Return the fragments of the only session, in steps of the grid."""
    (session,) = case.uploads()
    return [(one["end"] + 1 - one["start"]) // GRID for one in session["fragments"]]


def left_open(case: Case, data: bytes = LARGE) -> Sending:
    """Return an upload whose session is saved, and open after its first fragment."""
    sending = case.sending(data)
    sending.stop_after(1, ShuttingDown("stop"))
    sending.fails()
    sending.go_on()
    return sending


# 401 and 403


@pytest.mark.parametrize("nth", [2, 4])
@pytest.mark.parametrize("refusal", [{"status": 401}, {"status": 403}, {"status": 401, **PLAIN}])
def test_a_fragment_that_was_refused_once_is_gone_on_with_in_its_session(
    case: Case, nth: int, refusal: dict[str, Any]
) -> None:
    sending = case.sending(LARGE)
    case.fault(UPLOAD_URL, "answer", method="PUT", nth=nth, **{"code": "accessDenied", **refusal})

    sending.attempt()

    assert sending.is_whole()
    assert len(case.uploads()) == 1
    assert len(case.requests(UPLOAD_URL, "GET")) == 1


@pytest.mark.parametrize("nth", [2, 4])
@pytest.mark.parametrize("status", [401, 403])
def test_bytes_that_are_refused_and_asked_for_again_and_again_end_the_session(
    case: Case, nth: int, status: int
) -> None:
    sending = case.sending(LARGE)
    case.answer(UPLOAD_URL, status, "accessDenied", method="PUT", nth=nth, times=None)

    error = sending.fails()

    assert type(error) is DriveFault
    assert len(case.requests(UPLOAD_URL, "PUT")) == nth - 1 + sessions.REFUSALS
    case.simulator.control("DELETE faults")
    sending.attempt()
    assert sending.is_whole()
    assert [one["state"] for one in case.uploads()] == ["cancelled", "finished"]


def test_refusals_that_are_far_apart_do_not_add_up(case: Case) -> None:
    sending = case.sending(bytes_of(6 * FRAGMENT))
    for nth in (1, 3, 5, 7):
        case.answer(UPLOAD_URL, 401, "unauthenticated", method="PUT", nth=nth)

    sending.attempt()

    assert sending.is_whole()


# Too much for somebody on the way


@pytest.mark.parametrize(
    "refusal", [{"status": 413, "body": PAGE}, {"status": 413, "body": ""}, {"status": 504, "body": PAGE}]
)
def test_a_proxy_that_takes_no_more_than_a_mib_gets_smaller_fragments(
    case: Case, real_fragments: None, refusal: dict[str, Any]
) -> None:
    sending = case.sending(bytes_of(35 * GRID))
    case.fault(UPLOAD_URL, "answer", method="PUT", when="body", bytes=MIB, times=None, **refusal)

    sending.attempt()

    assert sending.is_whole()
    assert sizes(case)[:5] == [32, 16, 8, 4, 2]
    assert set(sizes(case)[5:]) <= {3, 2, 1}


@pytest.mark.parametrize("refusal", [{"status": 413, "body": PAGE}, {"status": 504}])
def test_such_a_proxy_lets_a_small_file_through_as_a_session(
    case: Case, real_fragments: None, refusal: dict[str, Any]
) -> None:
    sending = case.sending(bytes_of(5 * GRID))
    case.fault(CONTENT, "answer", method="PUT", when="body", bytes=MIB, times=None, **refusal)

    error = sending.fails()

    assert isinstance(error, Disconnected)
    assert sending.session is not None
    assert sending.session["cut"] is True
    sending.attempt(case.elsewhere())
    assert sending.is_whole()
    assert set(sizes(case)) == {1}


def test_an_empty_file_cannot_be_halved(case: Case) -> None:
    case.fault(CONTENT, "answer", method="PUT", status=504)

    assert type(case.sending(b"").fails()) is DriveUnavailable


@pytest.mark.parametrize("nth", [2, 4])
@pytest.mark.parametrize("when", ["before", "after"])
def test_504_is_followed_by_a_look_at_what_came_through(case: Case, nth: int, when: str) -> None:
    sending = case.sending(LARGE)
    case.answer(UPLOAD_URL, 504, method="PUT", nth=nth, when=when)

    if (nth, when) == (4, "after"):  # the session knows nothing of itself any more
        assert isinstance(sending.fails(), Disconnected)
    sending.attempt()

    assert sending.is_whole()
    (session,) = case.uploads()
    assert session["received"] == len(LARGE) + {(2, "before"): FRAGMENT, (4, "before"): 5000}.get(
        (nth, when), 0
    )


@pytest.mark.parametrize("refusal", [{"status": 413, "body": PAGE}, {"status": 504}])
def test_what_lets_nothing_through_is_asked_a_few_times_and_burns_nothing(
    case: Case, refusal: dict[str, Any]
) -> None:
    sending = case.sending(LARGE)
    case.fault(UPLOAD_URL, "answer", method="PUT", times=None, **refusal)

    error = sending.fails()

    assert isinstance(error, DriveUnavailable)
    assert error.delay.total_seconds() == 30
    assert len(case.requests(UPLOAD_URL, "PUT")) == 2, "whole, and by half"
    case.simulator.control("DELETE faults")
    sending.attempt()
    assert sending.is_whole()


@pytest.mark.parametrize("place", [CONTENT, UPLOAD_URL])
def test_413_in_json_is_graphs_own_and_means_the_file(case: Case, place: str) -> None:
    sending = case.sending(SMALL if place == CONTENT else LARGE)
    case.answer(place, 413, "invalidRequest", method="PUT")

    assert type(sending.fails()) is DriveFault


# Grown again


@pytest.fixture
def grows_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "GROWS_AFTER", 3)


def test_a_halved_fragment_grows_again_and_not_over_its_size(case: Case, grows_soon: None) -> None:
    sending = case.sending(bytes_of(12 * GRID))
    case.fault(UPLOAD_URL, "cut", method="PUT")

    sending.attempt()

    assert sending.is_whole()
    assert sizes(case) == [2, 1, 1, 1, 1, 2, 2, 2, 2], "back to the chunk's border with the fourth"
    assert sending.session is not None
    assert sending.session["fragment"] == FRAGMENT


def test_only_fragments_in_a_row_count(case: Case, grows_soon: None) -> None:
    sending = case.sending(bytes_of(12 * GRID))
    case.fault(UPLOAD_URL, "cut", method="PUT")
    case.fault(UPLOAD_URL, "cut", method="PUT", nth=4, keep=17)  # after two smaller ones came through

    sending.attempt()

    assert sending.is_whole()
    assert sizes(case) == [2, 1, 1, 1, 0, 1, 1, 1, 2, 2, 2]


def test_another_process_goes_on_counting(case: Case, grows_soon: None) -> None:
    sending = case.sending(bytes_of(12 * GRID))
    case.fault(UPLOAD_URL, "cut", method="PUT")
    sending.stop_after(3, ShuttingDown("stop"))
    sending.fails()
    sending.go_on()
    saved = json.loads(json.dumps(sending.session))

    sending.attempt(case.elsewhere())

    assert (saved["fragment"], saved["through"]) == (GRID, 2)
    assert sending.is_whole()
    assert sizes(case) == [2, 1, 1, 1, 1, 2, 2, 2, 2]


# A session that is not there any more


@pytest.mark.parametrize(
    "refusal",
    [
        *({"status": status, "code": "invalidRequest"} for status in (400, 401, 403, 404, 409, 410, 418)),
        *({"status": status, **PLAIN} for status in (401, 403, 404, 410)),
    ],
)
def test_an_address_that_refuses_to_say_where_to_go_on_is_given_up(
    case: Case, refusal: dict[str, Any]
) -> None:
    """The answer to its clean-up is the same."""
    sending = left_open(case)
    case.fault(UPLOAD_URL, "answer", method="GET|DELETE", times=None, **refusal)
    case.simulator.control("POST sessions/expire", name="a.bin")

    sending.attempt()

    assert sending.is_whole()
    assert [one["state"] for one in case.uploads()] == ["expired", "finished"]


@pytest.mark.parametrize(
    "refusal",
    [
        {"status": 401, "body": "<html>Sign in</html>"},
        {"status": 403, "body": " <!DOCTYPE html>Forbidden", "headers": {"Content-Type": "text/plain"}},
        {"status": 400, **PLAIN},
        {"status": 429},
        {"status": 503},
        {"status": 504},
    ],
)
def test_a_proxy_or_a_throttle_ends_no_session(case: Case, refusal: dict[str, Any]) -> None:
    sending = left_open(case)
    case.fault(UPLOAD_URL, "answer", method="GET", **refusal)

    assert isinstance(sending.fails(), DriveUnavailable)

    sending.attempt()
    assert sending.is_whole()
    assert len(case.uploads()) == 1


# Several ranges


@pytest.mark.parametrize("nth", [1, 2, 4])
def test_a_hole_is_filled_without_a_byte_of_what_is_behind_it(case: Case, nth: int) -> None:
    sending = case.sending(bytes_of(4 * FRAGMENT))
    case.fault(UPLOAD_URL, "pass", method="PUT", nth=nth, lose=GRID)

    sending.attempt()

    assert sending.is_whole()
    (session,) = case.uploads()
    assert session["received"] == 4 * FRAGMENT + GRID, "the hole, and nothing else, was sent twice"
    assert {one["status"] for one in session["fragments"]} <= {202, 201}


def test_a_hole_is_found_by_the_next_process_too(case: Case) -> None:
    sending = case.sending(LARGE)
    case.fault(UPLOAD_URL, "pass", method="PUT", nth=2, lose=GRID)
    case.fault(UPLOAD_URL, "cut", method="PUT", nth=2, when="after")
    case.answer(UPLOAD_URL, 500, method="GET")
    sending.fails()

    sending.attempt(case.elsewhere())

    assert sending.is_whole()
    (session,) = case.uploads()
    assert session["received"] == len(LARGE) + GRID


def test_416_that_names_a_shorter_range_is_gone_on_with(case: Case) -> None:
    sending = case.sending(LARGE)
    ranges = {"/nextExpectedRanges": [f"0-{GRID - 1}", f"{FRAGMENT}-"]}
    case.answer(UPLOAD_URL, 416, "invalidRange", inner="fragmentOverlap", method="PUT")
    case.fault(UPLOAD_URL, "amend", method="GET", set=ranges)

    sending.attempt()

    assert sending.is_whole()
    assert sizes(case)[:2] == [2, 1]


def test_the_end_of_a_range_holds_for_the_answer_that_named_it(case: Case) -> None:
    sending = left_open(case)
    ranges = {"/nextExpectedRanges": [f"{FRAGMENT}-{FRAGMENT + GRID - 1}", f"{2 * FRAGMENT}-"]}
    case.fault(UPLOAD_URL, "amend", method="GET", set=ranges)
    case.answer(UPLOAD_URL, 401, "unauthenticated", method="PUT")

    sending.attempt()

    assert sending.is_whole()
    assert sizes(case) == [2, 1, 2, 2, 0]


@pytest.mark.parametrize(
    "refusal",
    [
        {"status": 416, "code": "invalidRange"},
        {
            "status": 202,
            "body": f'{{"nextExpectedRanges": ["{FRAGMENT}-{2 * FRAGMENT - 1}", "{2 * FRAGMENT}-"]}}',
        },
    ],
)
def test_a_session_that_keeps_nothing_is_not_gone_on_with(case: Case, refusal: dict[str, Any]) -> None:
    sending = case.sending(LARGE)
    case.fault(UPLOAD_URL, "answer", method="PUT", nth=2, times=None, **refusal)

    assert type(sending.fails()) is DriveFault

    assert len(case.requests(UPLOAD_URL, "PUT")) == 2
    case.simulator.control("DELETE faults")
    sending.attempt()
    assert sending.is_whole()
    assert [one["state"] for one in case.uploads()] == ["cancelled", "finished"]


@pytest.mark.parametrize("nth", [2, 4])
def test_a_session_that_refuses_a_fragment_and_the_question_is_lost(case: Case, nth: int) -> None:
    sending = case.sending(LARGE)
    case.answer(UPLOAD_URL, 401, "unauthenticated", method="PUT|GET", nth=nth, times=2)

    assert isinstance(sending.fails(), SessionLost)

    sending.attempt()
    assert sending.is_whole()

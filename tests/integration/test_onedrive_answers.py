"""Each row of the table of docs/onedrive.md: what Microsoft answers, what it is taken for, and that the next attempt goes on."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from app.errors import (
    DriveFault,
    DriveFull,
    DriveHalted,
    DriveItemBusy,
    DriveMissing,
    DrivePathTooLong,
    DriveRefuses,
    DriveThrottled,
    DriveUnavailable,
    FileForbidden,
    FileRefused,
    FolderGone,
    HaulageError,
    Hopeless,
    NameRefused,
    NameTaken,
    NotVerified,
    Postponed,
    SessionLost,
    Setback,
    TooLargeForDrive,
)
from tests.integration.onedrive_case import CONTENT, CREATE, FRAGMENT, UPLOAD_URL, Case, bytes_of

pytest_plugins = ["tests.integration.onedrive_fixtures"]

SMALL = bytes_of(5000)
LARGE = bytes_of(2 * FRAGMENT + 5000)  # three fragments, the last of them small
# Where an upload can be refused: its one PUT, the opening of its session, a fragment, the last one, the way back into it.
PLACES = {
    "put": (SMALL, CONTENT, "PUT", 1),
    "session": (LARGE, CREATE, "POST", 1),
    "fragment": (LARGE, UPLOAD_URL, "PUT", 2),
    "last": (LARGE, UPLOAD_URL, "PUT", 3),
}
EVERYWHERE = pytest.mark.parametrize("place", PLACES)


def refused(case: Case, place: str, status: int, code: str, **more: Any) -> HaulageError:
    """Return what a refusal in that place is taken for; after it the upload must still come through."""
    data, path, method, nth = PLACES[place]
    sending = case.sending(data)
    case.answer(path, status, code, method=method, nth=nth, **more)

    error = sending.fails()

    assert "a.bin" not in case.files(), "nothing half-made"
    assert len(str(error)) > 10
    assert "tempauth" not in str(error)
    case.simulator.control("DELETE faults")
    if not isinstance(error, Hopeless):
        sending.attempt()
        assert sending.is_whole()
    return error


@pytest.mark.parametrize(
    ("place", "status"), [*((place, 500) for place in PLACES), ("put", 502), ("session", 504)]
)
def test_5xx_is_tried_again_after_30_s_and_burns_nothing(case: Case, place: str, status: int) -> None:
    error = refused(case, place, status, "generalException")

    assert type(error) is DriveUnavailable
    assert error.delay == timedelta(seconds=30)


@EVERYWHERE
@pytest.mark.parametrize("status", [429, 503])
def test_a_throttle_pauses_the_whole_drive_exactly_as_long_as_asked(
    case: Case, place: str, status: int
) -> None:
    error = refused(case, place, status, "activityLimitReached", headers={"Retry-After": "17"})

    assert isinstance(error, DriveThrottled)
    assert isinstance(error, DriveHalted)
    assert error.delay == timedelta(seconds=17)


@EVERYWHERE
@pytest.mark.parametrize("content_type", ["text/plain; charset=utf-8", "text/html"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_throttle_that_is_no_json_pauses_just_as_long(
    case: Case, place: str, status: int, content_type: str
) -> None:
    """SharePoint's own front may answer before it has come to what makes JSON."""
    headers = {"Content-Type": content_type, "Retry-After": "120"}

    error = refused(case, place, status, "", body="<p>too many requests</p>", headers=headers)

    assert isinstance(error, DriveThrottled)
    assert error.delay == timedelta(seconds=120)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 30),
        ({"Retry-After": "9", "RateLimit-Reset": "41"}, 41),
        ({"Retry-After": "43", "RateLimit-Reset": "9"}, 43),
        ({"RateLimit-Reset": "12"}, 12),
        ({"Retry-After": "0"}, 1),
        ({"Retry-After": "soon"}, 30),
        ({"Retry-After": "86400"}, 3600),
    ],
)
def test_of_two_headers_the_greater_counts(case: Case, headers: dict[str, str], seconds: int) -> None:
    error = refused(case, "put", 429, "activityLimitReached", headers=headers)

    assert isinstance(error, DriveThrottled)
    assert error.delay == timedelta(seconds=seconds)


@pytest.mark.parametrize("off_by", [-3600, 0, 3600])
def test_a_date_is_read_by_the_clock_of_whoever_sent_it(case: Case, off_by: int) -> None:
    """A control is in the other tests: without the answer's own Date, an hour's error would pause for an hour, or not at all."""
    case.simulator.control("POST clock", off_by=off_by)
    until = datetime.now(UTC) + timedelta(seconds=off_by + 120)
    headers = {"Retry-After": format_datetime(until, usegmt=True)}

    error = refused(case, "put", 503, "serviceNotAvailable", headers=headers)

    assert isinstance(error, DriveThrottled)
    assert timedelta(seconds=60) < error.delay <= timedelta(seconds=120)


def test_the_simulators_own_throttle_is_obeyed(case: Case) -> None:
    sending = case.sending(SMALL)
    case.simulator.control("POST throttle", per_minute=1)
    try:
        case.sending(b"uses the budget up", "first").fails()
        asked = len(case.requests())
        error = sending.fails()
    finally:
        case.simulator.control("POST throttle", per_minute=0)

    assert isinstance(error, DriveThrottled)
    assert timedelta(0) < error.delay <= timedelta(seconds=60)
    assert len(case.requests()) == asked + 1, "told once, it does not ask again by itself"


@EVERYWHERE
def test_509_pauses_the_drive(case: Case, place: str) -> None:
    error = refused(case, place, 509, "bandwidthLimitExceeded")

    assert isinstance(error, DriveThrottled)
    assert error.delay == timedelta(minutes=5)


@pytest.mark.parametrize(
    ("place", "status", "code"),
    [
        *((place, 507, "anything") for place in PLACES),
        ("session", 403, "quotaLimitReached"),
        ("last", 400, "insufficientStorage"),
    ],
)
def test_a_full_drive_stops_and_is_tried_every_five_minutes(
    case: Case, place: str, status: int, code: str
) -> None:
    error = refused(case, place, status, code)

    assert isinstance(error, DriveFull)
    assert error.delay == timedelta(minutes=5)
    assert "full" in str(error)


def test_a_drive_that_is_really_full_takes_the_file_once_there_is_room(case: Case) -> None:
    sending = case.sending(LARGE)
    case.control("POST drive", quota=FRAGMENT)

    error = sending.fails()
    case.control("POST drive", quota=2**30)

    assert isinstance(error, DriveFull)
    sending.attempt()
    assert sending.is_whole()


@EVERYWHERE
@pytest.mark.parametrize("status", [412, 423])
def test_an_item_that_is_open_elsewhere_is_waited_for(case: Case, place: str, status: int) -> None:
    error = refused(case, place, status, "notAllowed")

    assert isinstance(error, DriveItemBusy)
    assert isinstance(error, Postponed)
    assert error.delay >= timedelta(seconds=30)


@EVERYWHERE
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "pathIsTooLong", DrivePathTooLong),
        (400, "invalidPath", NameRefused),
        (400, "nameContainsInvalidCharacters", NameRefused),
        (413, "maxFileSizeExceeded", TooLargeForDrive),
        (403, "malwareDetected", FileRefused),
        (409, "virusSuspicious", FileRefused),
        (400, "resourceLocked", DriveItemBusy),
        (400, "invalidRequest", DriveFault),
        (418, "nobodyKnows", DriveFault),
    ],
)
def test_a_refusal_is_told_apart_by_its_code_alone(
    case: Case, place: str, status: int, code: str, kind: type[HaulageError]
) -> None:
    error = refused(case, place, status, "invalidRequest", inner=code)

    assert type(error) is kind
    assert isinstance(error, Setback) == (kind is DriveFault)


@pytest.mark.parametrize("spelling", ["innererror", "innerError"])
def test_both_spellings_of_the_inner_error_are_read(case: Case, spelling: str) -> None:
    body = f'{{"error": {{"code": "notAllowed", "{spelling}": {{"code": "pathIsTooLong"}}}}}}'
    case.fault(CONTENT, "answer", status=400, body=body)

    assert isinstance(case.sending(SMALL).fails(), DrivePathTooLong)


def test_a_session_whose_fragment_was_refused_is_not_gone_on_with(case: Case) -> None:
    refused(case, "fragment", 400, "invalidRequest")

    assert [one["state"] for one in case.uploads()] == ["cancelled", "finished"]


# 401 and 403


@pytest.mark.parametrize("place", ["fragment", "last"])
@pytest.mark.parametrize("status", [404, 410])
def test_an_upload_address_that_knows_no_session_is_lost(case: Case, place: str, status: int) -> None:
    error = refused(case, place, status, "itemNotFound")

    assert isinstance(error, SessionLost if status != 410 else DriveFault)
    assert isinstance(error, Setback)


@pytest.mark.parametrize("place", ["put", "session"])
@pytest.mark.parametrize("action", ["expire", "revoke"])
def test_a_token_that_has_ended_is_renewed_once_and_nobody_notices(
    case: Case, place: str, action: str
) -> None:
    data, path, method, _ = PLACES[place]
    sending = case.sending(data)
    case.fault(path, "control", method=method, when="head", request="POST tokens", json={"action": action})
    case.fault(path, "answer", method=method, status=401, code="unauthenticated")

    sending.attempt()

    assert sending.is_whole()
    assert [one["status"] for one in case.requests(path, method)] == [401, 200 if place == "session" else 201]


@pytest.mark.parametrize("action", ["expire", "revoke"])
def test_a_token_that_ends_in_the_middle_of_an_upload_matters_to_graph_alone(case: Case, action: str) -> None:
    sending = case.sending(LARGE, replace=True)
    case.fault(UPLOAD_URL, "control", method="PUT", nth=2, request="POST tokens", json={"action": action})
    case.fault(UPLOAD_URL, "cut", method="PUT", nth=3, when="after")

    sending.fails()
    sending.attempt()

    assert sending.is_whole()
    tokens = case.requests("/oauth2/", "POST")
    assert len(tokens) == 2


def test_the_claims_that_a_challenge_asks_for_are_handed_to_the_login_service(case: Case) -> None:
    """Continuous access evaluation: the answer says in WWW-Authenticate what the next token must have."""
    seen: list[str | None] = []
    sending = case.sending(SMALL)
    tokens = case.drive._library._graph._tokens
    real = tokens.token
    tokens.token = lambda **given: (seen.append(given.get("claims")), real(**given))[1]  # type: ignore[method-assign]
    case.simulator.control("POST tokens", action="revoke")

    sending.attempt()

    assert seen[:2] == [None, '{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}']
    assert sending.is_whole()


def test_a_second_401_stops_the_drive(case: Case) -> None:
    sending = case.sending(SMALL)
    case.answer(CONTENT, 401, "unauthenticated", times=2)

    error = sending.fails()

    assert isinstance(error, DriveRefuses)
    assert error.delay == timedelta(minutes=5)
    assert len(case.requests(CONTENT)) == 2


@pytest.mark.parametrize("place", ["put", "session"])
def test_403_of_one_file_is_a_setback_where_we_may_write(case: Case, place: str) -> None:
    assert type(refused(case, place, 403, "accessDenied")) is FileForbidden


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_403_of_everything_stops_the_drive(case: Case, data: bytes, *, replace: bool) -> None:
    sending = case.sending(data, replace=replace)
    client = case.simulator.client_id
    case.simulator.control(
        "POST client", id=client, roles=["Sites.Read.All" if replace else "Sites.Selected"]
    )
    try:
        error = sending.fails()
    finally:
        case.simulator.control("POST client", id=client, roles=["Sites.ReadWrite.All"])

    assert isinstance(error, DriveRefuses)
    assert "Sites.ReadWrite.All" in str(error)
    sending.attempt()
    assert sending.is_whole()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_403_of_a_look_that_everything_gets_stops_the_drive_too(case: Case, method: str) -> None:
    """A look before a file is replaced gets its refusal first, and must not burn the file's attempts."""
    sending = case.sending(SMALL, replace=True)
    case.simulator.control("POST client", id=case.simulator.client_id, roles=[])
    try:
        error = sending.fails()
    finally:
        case.simulator.control("POST client", id=case.simulator.client_id, roles=["Sites.ReadWrite.All"])

    assert isinstance(error, DriveRefuses)


# 404


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_folder_that_was_deleted_meanwhile_is_told(case: Case, data: bytes) -> None:
    sending = case.sending(data)
    case.control("POST delete", path="Haulage/7")

    error = sending.fails()

    assert isinstance(error, FolderGone)
    assert "recycle bin" in str(error)


def test_a_folder_that_is_deleted_under_way_is_told(case: Case) -> None:
    sending = case.sending(LARGE)
    gone = {"request": "POST delete", "json": {"drive": case.id, "path": "Haulage/7"}}
    case.fault(UPLOAD_URL, "control", method="PUT", nth=2, when="head", **gone)

    assert isinstance(sending.fails(), SessionLost)
    assert isinstance(sending.fails(), FolderGone)


@pytest.mark.parametrize("place", ["put", "session"])
def test_404_of_a_folder_that_is_there_is_a_fault_of_the_drive(case: Case, place: str) -> None:
    assert type(refused(case, place, 404, "itemNotFound")) is DriveFault


@pytest.mark.parametrize("drive_id", ["b!nobody", "nonsense"])
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_drive_that_is_not_there_stops(case: Case, data: bytes, drive_id: str) -> None:
    sending = case.sending(data)

    error = sending.fails(case.elsewhere(drive_id=drive_id))

    assert isinstance(error, DriveMissing)
    assert error.delay == timedelta(minutes=5)


@pytest.mark.parametrize("drive_id", ["b!nobody", "nonsense"])
def test_a_drive_that_is_not_there_is_not_told_as_a_folder_that_is_gone(case: Case, drive_id: str) -> None:
    with pytest.raises(DriveMissing):
        list(case.elsewhere(drive_id=drive_id).children(case.root))


# What is not Graph at all


@pytest.mark.parametrize(
    ("place", "status"),
    [
        *((place, status) for place in PLACES for status in (200, 302)),
        ("put", 403),
        ("session", 404),
        ("last", 404),
    ],
)
def test_html_instead_of_json_is_a_proxys_doing(case: Case, place: str, status: int) -> None:
    data, path, method, nth = PLACES[place]
    sending = case.sending(data)
    headers = {"Location": f"{case.simulator.url}/sign-in"} if status == 302 else {}
    case.fault(
        path, "answer", method=method, nth=nth, status=status, body="<html>Sign in</html>", headers=headers
    )

    error = sending.fails()

    assert type(error) is DriveUnavailable
    assert "proxy" in str(error)
    assert case.requests("/sign-in") == [], "redirects are not followed"
    sending.attempt()
    assert sending.is_whole()


@EVERYWHERE
def test_json_of_somebody_else_is_not_taken_for_an_item(case: Case, place: str) -> None:
    data, path, method, nth = PLACES[place]
    sending = case.sending(data)
    case.fault(path, "answer", method=method, nth=nth, status=200, body='{"status": "ok"}')

    assert type(sending.fails()) is DriveUnavailable

    sending.attempt()
    assert sending.is_whole()


@pytest.mark.parametrize("body", ["<html></html>", ""])
def test_a_clean_up_that_was_answered_by_somebody_else_did_not_happen(case: Case, body: str) -> None:
    sending = case.sending(SMALL)
    sending.attempt()
    case.fault("/items/", "answer", method="DELETE", status=302, body=body)

    with pytest.raises(DriveUnavailable):
        case.drive.abort({"name": "a.bin", "before": None}, sending.delivery)
    case.drive.abort({"name": "a.bin", "before": None}, sending.delivery)

    assert case.files() == {}


def test_a_missing_next_range_is_not_guessed(case: Case) -> None:
    data, path, method, nth = PLACES["fragment"]
    sending = case.sending(data)
    case.fault(path, "answer", method=method, nth=nth, status=202, body='{"nextExpectedRanges": ["?"]}')

    assert isinstance(sending.fails(), DriveFault)


def test_a_wrong_hash_never_becomes_an_item(case: Case) -> None:
    case.fault(CONTENT, "amend", set={"/size": 4999})

    assert isinstance(case.sending(SMALL).fails(), NotVerified)
    assert case.files() == {}


def test_409_of_a_name_that_another_has_is_final(case: Case) -> None:
    case.control("POST put", path="Haulage/7/a.bin", text="somebody's")

    assert isinstance(case.sending(SMALL).fails(), NameTaken)

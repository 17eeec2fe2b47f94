"""Verification in its three outcomes, what is taken back, what is brought back, and names that the drive spells otherwise."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BufferedReader, BytesIO
from typing import Any

import pytest

from app import names as catalogue_names
from app import transfer
from app.errors import (
    Disconnected,
    DriveFault,
    DriveItemBusy,
    DrivePathTooLong,
    DriveThrottled,
    NameTaken,
    NotAFolder,
    NotVerified,
    ShuttingDown,
)
from app.graph.names import mapped
from tests.integration.onedrive_case import CONTENT, FRAGMENT, UPLOAD_URL, Case, bytes_of

pytest_plugins = ["tests.integration.onedrive_fixtures"]

SMALL = bytes_of(5000)
LARGE = bytes_of(2 * FRAGMENT + 5000)  # three fragments
BOTH = pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
WRONG = base64.b64encode(b"\1" * 20).decode()  # a quickXorHash of bytes that nobody sent


def lie(case: Case, data: bytes) -> None:
    """Let the drive tell another hash than that of the bytes it got."""
    path, nth = (CONTENT, 1) if data is SMALL else (UPLOAD_URL, 3)
    case.fault(path, "amend", method="PUT", nth=nth, set={"/file/hashes/quickXorHash": WRONG})


@BOTH
def test_a_wrong_hash_is_taken_back_and_the_next_attempt_stores(case: Case, data: bytes) -> None:
    sending = case.sending(data)
    lie(case, data)

    assert isinstance(sending.fails(), NotVerified)
    assert case.files() == {}
    sending.attempt()

    assert sending.is_whole()


@BOTH
def test_a_wrong_hash_in_place_of_another_file_brings_that_one_back(case: Case, data: bytes) -> None:
    case.sending(b"the version before").attempt()
    sending = case.sending(data, replace=True)
    lie(case, data)

    assert isinstance(sending.fails(), NotVerified)
    assert case.holds("a.bin", b"the version before")
    made = sending.attempt()

    assert sending.is_whole()
    assert made.id == case.files()["a.bin"]["id"], "one item all the time"


def test_where_no_version_can_be_brought_back_it_is_said(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    case.sending(b"the version before").attempt()
    sending = case.sending(SMALL, replace=True)
    lie(case, SMALL)
    case.answer("/versions/", 404, "itemNotFound", method="POST")

    assert isinstance(sending.fails(), NotVerified)

    assert "holds wrong bytes, and no version before it is kept" in caplog.text
    assert case.drive.name in caplog.text


@BOTH
def test_a_mismatch_on_a_business_drive_is_a_mismatch_for_office_files_too(case: Case, data: bytes) -> None:
    sending = case.sending(data, "report.docx")
    lie(case, data)

    assert isinstance(sending.fails(), NotVerified)

    assert case.files() == {}


@BOTH
@pytest.mark.parametrize("name", ["report.docx", "Sheet.XLSX"])
def test_an_office_file_that_sharepoint_altered_is_accepted_and_noted(
    library: Case, data: bytes, name: str
) -> None:
    sending = library.sending(data, name)

    made = sending.attempt()

    assert made.info is not None
    assert made.info["verified"] == "altered"
    there = library.files()[name]
    assert made.info["quick_xor_hash"] == there["quickXorHash"] != sending.delivery.quick_xor
    assert made.info["size"] == there["size"] != len(data)
    assert library.drive.is_same(made.id, made.info)


@BOTH
def test_whatever_else_a_library_alters_is_a_mismatch(library: Case, data: bytes) -> None:
    sending = library.sending(data)
    lie(library, data)

    assert isinstance(sending.fails(), NotVerified)

    assert library.files() == {}


@BOTH
@pytest.mark.parametrize("replace", [False, True])
def test_an_altered_file_whose_answer_was_lost_is_found(library: Case, data: bytes, *, replace: bool) -> None:
    sending = library.sending(data, "report.docx", replace=replace)
    path, nth = (CONTENT, 1) if data is SMALL else (UPLOAD_URL, 3)
    library.fault(path, "cut", method="PUT", nth=nth, when="after")
    assert isinstance(sending.fails(), Disconnected)

    made = sending.attempt(library.elsewhere())

    assert made.info is not None
    assert made.info["verified"] == "altered"
    assert library.files()["report.docx"]["versions"] == 1


@BOTH
@pytest.mark.parametrize("cut", [False, True])
def test_an_older_office_file_of_ours_is_never_taken_for_the_new_one(
    library: Case, data: bytes, *, cut: bool
) -> None:
    """SharePoint alters it, so that neither size nor hash tells ours from ours: only what stood there before does."""
    library.sending(b"another report", "report.docx").attempt()
    before = library.files()["report.docx"]
    sending = library.sending(data, "report.docx")
    if cut:
        library.fault(CONTENT, "cut", method="PUT")

    assert isinstance(sending.fails(), NameTaken)

    assert library.files()["report.docx"] == before
    assert sending.session is None


@BOTH
def test_an_office_file_of_somebody_else_is_never_taken_for_ours(library: Case, data: bytes) -> None:
    sending = library.sending(data, "report.docx")
    path, nth = (CONTENT, 1) if data is SMALL else (UPLOAD_URL, 3)
    put = {"path": "Haulage/7/report.docx", "text": "somebody's", "drive": library.id}
    library.fault(path, "control", method="PUT", nth=nth, when="head", request="POST put", json=put)
    library.fault(path, "cut", method="PUT", nth=nth)
    if data is LARGE:
        library.fault(UPLOAD_URL, "answer", method="GET", status=404, code="itemNotFound")
    sending.fails()

    assert isinstance(sending.fails(), NameTaken)

    assert library.holds("report.docx", b"somebody's")


def test_an_older_office_file_of_ours_is_not_taken_for_its_replacement(library: Case) -> None:
    library.sending(b"another report", "report.docx").attempt()
    sending = library.sending(LARGE, "report.docx", replace=True)
    sending.stop_after(1, ShuttingDown("stop"))
    sending.fails()
    sending.go_on()
    library.simulator.control("POST sessions/expire", name="report.docx")

    sending.attempt()

    assert library.files()["report.docx"]["size"] > len(LARGE)
    assert library.files()["report.docx"]["versions"] == 2


def test_an_older_office_file_of_ours_survives_a_cancelled_replacement(library: Case) -> None:
    library.sending(b"another report", "report.docx").attempt()
    before = library.files()["report.docx"]
    sending = library.sending(LARGE, "report.docx", replace=True)
    sending.stop_after(1, ShuttingDown("stop"))
    sending.fails()
    assert sending.session is not None

    library.drive.abort(sending.session, sending.delivery)

    assert library.files()["report.docx"] == before
    assert [one["state"] for one in library.uploads()][-1] == "cancelled"


@BOTH
def test_what_could_not_be_taken_back_at_once_is_taken_back_later(case: Case, data: bytes) -> None:
    sending = case.sending(data)
    lie(case, data)
    case.answer("/items/", 429, "activityLimitReached", method="DELETE")

    assert isinstance(sending.fails(), DriveThrottled)
    assert len(case.files()) == 1
    sending.attempt()

    assert sending.is_whole()


@BOTH
def test_what_could_not_be_taken_back_at_once_is_taken_back_by_the_clean_up(case: Case, data: bytes) -> None:
    sending = case.sending(data)
    lie(case, data)
    case.answer("/items/", 429, "activityLimitReached", method="DELETE")
    sending.fails()
    assert sending.session is not None

    case.drive.abort(sending.session, sending.delivery)

    assert case.files() == {}


def test_wrong_bytes_that_somebody_has_replaced_since_are_theirs(case: Case) -> None:
    sending = case.sending(SMALL)
    lie(case, SMALL)
    case.answer("/items/", 429, "activityLimitReached", method="DELETE")
    sending.fails()
    assert sending.session is not None
    case.control("POST put", path="Haulage/7/a.bin", text="somebody's")

    case.drive.abort(sending.session, sending.delivery)

    assert case.holds("a.bin", b"somebody's")


@BOTH
def test_what_is_wrong_is_known_before_it_is_taken_back(case: Case, data: bytes) -> None:
    """So that it can be saved: whoever goes on after a death in between takes it back."""
    sending = case.sending(data)
    lie(case, data)

    session, last = transfer.send(
        case.drive, sending.delivery, lambda: BufferedReader(BytesIO(data)), None, sending.watch
    )
    with pytest.raises(NotVerified):
        case.drive.finish(sending.delivery, session, last, sending.watch.fence)
    assert len(case.files()) == 1
    sending.watch.session = session

    sending.attempt(case.elsewhere())

    assert sending.is_whole()


def test_what_a_person_saves_right_before_it_is_removed_is_kept(case: Case) -> None:
    sending = case.sending(SMALL)
    sending.attempt()
    theirs = {"drive": case.id, "path": "Haulage/7/a.bin", "text": "a person's"}
    case.fault("/items/", "control", method="DELETE", request="POST put", json=theirs)

    with pytest.raises(DriveItemBusy):
        case.drive.abort({}, sending.delivery)
    case.drive.abort({}, sending.delivery)

    assert case.holds("a.bin", b"a person's")


def test_a_file_that_is_gone_when_its_versions_are_asked_for_says_nothing_of_the_drive(case: Case) -> None:
    case.sending(b"before").attempt()
    sending = case.sending(SMALL, replace=True)
    case.answer("/versions", 404, "itemNotFound")

    sending.attempt()

    assert sending.is_whole()


def test_our_application_is_known_whatever_the_case_of_its_id(case: Case) -> None:
    sending = case.sending(SMALL)
    sending.attempt()

    place = case.drive._library.place
    case.drive._library.place = replace(place, client_id=place.client_id.upper())
    case.drive.abort({}, sending.delivery)

    assert case.files() == {}


# No hash is told


def test_a_hash_that_is_told_later_is_waited_for(case: Case) -> None:
    sending = case.sending(SMALL)
    case.fault(CONTENT, "amend", method="PUT", set={"/file/hashes": {}})

    assert sending.attempt().info["verified"] == "exact"  # type: ignore[index]
    assert case.requests("/content", "GET") == []


@pytest.mark.parametrize("hashes", [{}, None])
def test_a_file_whose_hash_is_never_told_is_read_back(case: Case, hashes: Any) -> None:
    sending = case.sending(SMALL)
    case.fault("/(items|root)", "amend", method="PUT|GET", times=None, set={"/file/hashes": hashes})

    assert sending.attempt().info["verified"] == "exact"  # type: ignore[index]
    assert len(case.requests("/content", "GET")) == 1


def test_a_file_whose_hash_is_never_told_and_that_reads_otherwise_is_taken_back(case: Case) -> None:
    sending = case.sending(b"received")
    case.fault("/(items|root)", "amend", method="PUT|GET", times=None, set={"/file/hashes": None})
    case.fault("/download", "answer", method="GET", status=200, body="damaged!")

    assert isinstance(sending.fails(), NotVerified)
    assert case.files() == {}


def test_an_empty_file_needs_no_hash(case: Case) -> None:
    case.fault("/(items|root)", "amend", method="PUT|GET", times=None, set={"/file/hashes": {}})

    assert case.sending(b"").attempt().info["verified"] == "exact"  # type: ignore[index]


def test_sharepoint_makes_no_empty_file_of_one_that_was_not(library: Case) -> None:
    sending = library.sending(SMALL, "photo.jpg")
    library.fault(CONTENT, "amend", method="PUT", set={"/size": 0})

    assert isinstance(sending.fails(), NotVerified)
    assert library.files() == {}


# Aborted


@BOTH
def test_an_abort_leaves_alone_what_the_catalogue_has(case: Case, data: bytes) -> None:
    sending = case.sending(data)
    made = sending.attempt()

    case.drive.abort({}, replace(sending.delivery, is_catalogued=lambda item_id: item_id == made.id))

    assert sending.is_whole()


def test_an_abort_leaves_alone_what_is_older_than_its_upload(case: Case) -> None:
    sending = case.sending(SMALL)
    sending.attempt()
    queued_at = datetime.now(UTC)

    case.drive.abort({}, replace(sending.delivery, queued_at=queued_at + timedelta(minutes=11)))
    assert sending.is_whole()

    case.drive.abort({}, replace(sending.delivery, queued_at=queued_at))
    assert case.files() == {}


@pytest.mark.parametrize("policy", [{"name": "report.docx"}, {"replace": True}], ids=["altered", "replace"])
def test_where_the_session_is_always_saved_none_means_that_nothing_was_sent(
    library: Case, policy: dict[str, Any]
) -> None:
    before = library.sending(SMALL, policy.get("name", "a.bin"))
    before.attempt()
    sending = library.sending(SMALL, **policy)

    library.drive.abort({}, sending.delivery)

    assert len(library.files()) == 1


def test_a_persons_file_that_came_into_the_place_meanwhile_is_brought_back(case: Case) -> None:
    sending = case.sending(LARGE, replace=True)
    put = {"request": "POST put", "json": {"path": "Haulage/7/a.bin", "text": "theirs", "drive": case.id}}
    case.fault(UPLOAD_URL, "control", method="PUT", nth=3, when="head", **put)
    sending.attempt()
    assert sending.session is not None
    assert case.files()["a.bin"]["versions"] == 2

    case.drive.abort(sending.session, sending.delivery)

    assert case.holds("a.bin", b"theirs")


@BOTH
def test_a_file_that_belongs_to_another_item_is_not_replaced(case: Case, data: bytes) -> None:
    case.sending(b"of another item").attempt()
    sending = case.sending(data, replace=True)
    sending.delivery = replace(sending.delivery, is_catalogued=lambda _: True)

    assert isinstance(sending.fails(), NameTaken)
    assert case.holds("a.bin", b"of another item")

    sending.delivery = replace(sending.delivery, replaces=case.files()["a.bin"]["id"])
    sending.attempt()
    assert sending.is_whole()


@BOTH
def test_an_abort_removes_what_may_have_been_placed(case: Case, data: bytes) -> None:
    sending = case.sending(data)
    sending.attempt()
    assert sending.session is not None

    case.drive.abort(sending.session, sending.delivery)
    case.drive.abort(sending.session, sending.delivery)

    assert case.files() == {}


@BOTH
def test_an_abort_brings_back_what_was_replaced(case: Case, data: bytes) -> None:
    case.sending(b"the version before").attempt()
    sending = case.sending(data, replace=True)
    sending.attempt()
    assert sending.session is not None

    case.drive.abort(sending.session, sending.delivery)

    assert case.holds("a.bin", b"the version before")


@pytest.mark.parametrize("text", ["somebody's", "the very same"])
def test_an_abort_leaves_alone_what_others_have_put_there(case: Case, text: str) -> None:
    sending = case.sending(b"the very same")
    case.fault(CONTENT, "cut", method="PUT")
    sending.fails()
    assert sending.session is not None
    case.control("POST put", path="Haulage/7/a.bin", text=text)

    case.drive.abort(sending.session, sending.delivery)

    assert case.holds("a.bin", text.encode())


def test_the_version_before_is_still_known_after_a_put_was_cut(case: Case) -> None:
    """Else the next attempt would note our own file as what stood there, and an abort would bring that back."""
    case.sending(b"the version before").attempt()
    sending = case.sending(SMALL, replace=True)
    case.fault(CONTENT, "cut", method="PUT", when="after")
    sending.fails()
    sending.attempt()
    assert sending.session is not None

    case.drive.abort(sending.session, sending.delivery)

    assert case.holds("a.bin", b"the version before")


# Replaced behind our back


@BOTH
def test_a_file_that_was_replaced_behind_our_back_is_replaced_again_if_that_was_asked(
    case: Case, data: bytes
) -> None:
    case.sending(b"ours").attempt()
    case.control("POST put", path="Haulage/7/a.bin", text="somebody's")
    sending = case.sending(data, replace=True)

    sending.attempt()

    assert sending.is_whole()
    assert case.files()["a.bin"]["versions"] == 3, "theirs is a version that can be brought back"


def test_a_file_that_was_replaced_behind_our_back_is_seen(case: Case) -> None:
    made = case.sending(SMALL).attempt()
    assert case.drive.is_same(made.id, made.info)

    case.control("POST put", path="Haulage/7/a.bin", text="somebody's")

    assert case.drive.is_same(made.id, made.info) is False
    case.control("POST delete", path="Haulage/7/a.bin")
    with pytest.raises(FileNotFoundError):
        case.drive.is_same(made.id, made.info)


@BOTH
@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_of_that_name_is_never_replaced(case: Case, data: bytes, *, replace: bool) -> None:
    sending = case.sending(data, "reports", replace=replace)
    case.drive.make_folder(case.root, "Reports")

    assert isinstance(sending.fails(), NameTaken)


@BOTH
def test_a_folder_that_came_into_the_way_of_a_replacement_is_told(case: Case, data: bytes) -> None:
    sending = case.sending(data, replace=True)
    path, nth = (CONTENT, 1) if data is SMALL else (UPLOAD_URL, 3)
    folder: dict[str, Any] = {"drive": case.id, "path": "Haulage/7/a.bin"}
    case.fault(path, "control", method="PUT", nth=nth, when="head", request="POST folder", json=folder)

    assert isinstance(sending.fails(), NameTaken)


# Names

AWKWARD = [
    'a"b*c:d<e>f?g\\h|i',
    "tab\tand\x01control\x7f",
    " leading",
    "~$lock.docx",
    "trailing.",
    "trailing ",
    "CON",
    "com1",
    "a_vti_b",
    ".lock",
    "desktop.ini",
    "100 %#1+2&3=;,'@.txt",
    "ночь 夜 é.txt",
]


@pytest.mark.parametrize("name", AWKWARD)
def test_a_name_that_microsoft_refuses_becomes_a_likeness(case: Case, name: str) -> None:
    sending = case.sending(SMALL, name)

    made = sending.attempt()

    assert case.holds(mapped(name), SMALL)
    assert made.name == mapped(name)
    assert b"".join(case.drive.read(made.id)) == SMALL
    assert case.drive.size_now(made.id) == len(SMALL)


def test_a_large_file_and_a_folder_have_their_likeness_too(case: Case) -> None:
    folder = case.drive.make_folder(case.root, "a: b?")
    sending = case.sending(LARGE, "c|d.", parent_id=folder.id)

    made = sending.attempt()

    assert set(case.files()) == {"a\uff1a b\uff1f/c\uff5cd\uff0e"}
    assert [one.id for one in case.drive.children(folder.id)] == [made.id]
    assert case.drive.make_folder(case.root, "A: B?").id == folder.id


def test_two_names_that_become_one_are_told(case: Case) -> None:
    assert catalogue_names.key("a:b") != catalogue_names.key("a\uff1ab")
    case.sending(SMALL, "a:b").attempt()

    assert isinstance(case.sending(b"another", "a\uff1ab").fails(), NameTaken)

    assert case.holds("a\uff1ab", SMALL)


def test_a_path_that_is_too_long_is_told(case: Case) -> None:
    folder = case.drive.make_folder(case.root, "a" * 200).id

    assert isinstance(case.sending(SMALL, "b" * 220, parent_id=folder).fails(), DrivePathTooLong)
    assert isinstance(case.sending(LARGE, "b" * 220, parent_id=folder).fails(), DrivePathTooLong)


def test_a_file_in_the_way_of_a_folder_is_told(case: Case) -> None:
    case.sending(SMALL, "reports").attempt()

    with pytest.raises(NotAFolder):
        case.drive.make_folder(case.root, "Reports")


@pytest.mark.parametrize("folder", ["Haulage", "Apps/Haulage files", "Ночь: 夜"])
def test_what_belongs_to_a_corporation_is_told_from_what_does_not(case: Case, folder: str) -> None:
    drive = case.elsewhere(folder=folder)
    seven, eight = drive.make_root(7), drive.make_root(77)
    inner = drive.make_folder(drive.make_folder(seven.id, "a b").id, "c")
    other = drive.make_folder(eight.id, "d")

    assert [drive.owns(7, one.id) for one in (inner, other)] == [True, False]
    assert [drive.owns(77, one.id) for one in (inner, other)] == [False, True]
    assert not drive.owns(7, "nobody")


def test_the_case_of_a_folder_that_was_there_before_does_not_matter(case: Case) -> None:
    case.control("POST folder", path="HAULAGE")
    inner = case.drive.make_folder(case.root, "a")

    assert case.drive.owns(7, inner.id)


# Read back


def test_a_part_is_read_as_a_part(case: Case) -> None:
    made = case.sending(LARGE).attempt()

    assert b"".join(case.drive.read(made.id, 100, 50)) == LARGE[100:150]
    assert b"".join(case.drive.read(made.id, len(LARGE) - 5)) == LARGE[-5:]
    assert sum(map(len, case.drive.read(made.id))) == len(LARGE)


def test_a_download_that_ends_too_early_is_no_file(case: Case) -> None:
    made = case.sending(LARGE).attempt()
    case.fault("download.aspx", "cut", when="answer", bytes=1000)

    with pytest.raises(Disconnected):
        b"".join(case.drive.read(made.id))


def test_the_whole_file_in_place_of_a_part_is_refused(case: Case) -> None:
    made = case.sending(SMALL).attempt()
    case.fault("download.aspx", "answer", status=200, body="the whole file")

    with pytest.raises(DriveFault):
        b"".join(case.drive.read(made.id, 100, 50))


def test_a_file_that_is_not_there_is_not_read(case: Case) -> None:
    with pytest.raises(FileNotFoundError):
        b"".join(case.drive.read("nobody"))
